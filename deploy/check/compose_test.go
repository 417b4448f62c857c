package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose loads a compose file as Compose does, by its schema and with its references resolved, and
// wants services that are bounded, may do little, and hold no secret in plain sight.
func compose(file string) error {
	options, err := cli.NewProjectOptions([]string{file}, cli.WithWorkingDirectory(filepath.Dir(file)))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	var problems []error
	for _, name := range project.ServiceNames() {
		if err := checkService(project.Services[name]); err != nil {
			problems = append(problems, fmt.Errorf("service %s: %w", name, err))
		}
	}
	for name, secret := range project.Secrets {
		if secret.File == "" || secret.Content != "" || secret.Environment != "" {
			problems = append(problems, fmt.Errorf("secret %s is not a file", name))
		}
	}
	config, err := readSettings(filepath.Join(filepath.Dir(file), "config.json"))
	if err != nil {
		return err
	}
	return errors.Join(append(problems, checkReplicas(project, config)...)...)
}

func checkService(s types.ServiceConfig) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := checkImage(s.Image); err != nil {
		problems = append(problems, err)
	}
	if !s.ReadOnly {
		bad("its root file system can be written")
	}
	if !slices.Equal(s.CapDrop, []string{"ALL"}) {
		bad("it keeps capabilities: cap_drop is %v", s.CapDrop)
	}
	if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		bad("it can get new privileges")
	}
	isDatabase := strings.HasPrefix(s.Image, "postgres:") // which begins as root, and says why
	if uid, _, _ := strings.Cut(s.User, ":"); !isDatabase && (uid == "" || strings.Trim(uid, "0") == "" || strings.Trim(uid, "0123456789") != "") {
		bad("its user %q is not the number of somebody else than root", s.User)
	}
	if !isDatabase && len(s.CapAdd) > 0 {
		bad("it gets the capabilities %v", s.CapAdd)
	}
	if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 ||
		s.Deploy.Resources.Limits.NanoCPUs == 0 || s.Deploy.Resources.Limits.Pids == 0 {
		bad("its resources are not bounded")
	}
	if s.Privileged || s.NetworkMode != "" || s.Pid != "" {
		bad("it shares what is the machine's")
	}
	for name, value := range s.Environment {
		if isSecretName(name) && value != nil && *value != "" {
			bad("the variable %s holds a secret", name)
		}
	}
	return errors.Join(problems...)
}

// checkReplicas compares the replicas and the networks with the configuration.
func checkReplicas(project *types.Project, config settings) []error {
	var problems []error
	replicas := 0
	for name, service := range project.Services {
		if !strings.HasPrefix(service.Image, "tokenreeve:") {
			continue
		}
		replicas++
		var secrets []string
		for _, secret := range service.Secrets {
			secrets = append(secrets, secret.Source)
		}
		for _, problem := range config.checkMounted("/run/secrets", secrets) {
			problems = append(problems, fmt.Errorf("service %s: %w", name, problem))
		}
		if network := service.Networks["proxy"]; network == nil || !slices.Contains(network.Aliases, "tokenreeve") {
			problems = append(problems, fmt.Errorf("service %s: the proxy does not find it as tokenreeve", name))
		}
		if len(service.Ports) > 0 {
			problems = append(problems, fmt.Errorf("service %s can be reached without the proxy", name))
		}
	}
	if replicas != 2 {
		problems = append(problems, fmt.Errorf("%d services are replicas, want 2", replicas))
	}
	for _, name := range []string{"proxy", "database"} {
		if !project.Networks[name].Internal {
			problems = append(problems, fmt.Errorf("the network %s leads out", name))
		}
	}
	return append(problems, checkTrusted(project.Networks["proxy"], config)...)
}

// checkTrusted wants the proxy's network to be the one that is trusted to say who calls.
func checkTrusted(network types.NetworkConfig, config settings) []error {
	if len(network.Ipam.Config) != 1 {
		return []error{errors.New("the network proxy has no subnet of its own")}
	}
	subnet, err := netip.ParsePrefix(network.Ipam.Config[0].Subnet)
	if err != nil {
		return []error{err}
	}
	if !slices.Equal(config.Serve.TrustedProxies, []string{subnet.String()}) {
		return []error{fmt.Errorf("trusted_proxies is %v, and the proxy is in %s", config.Serve.TrustedProxies, subnet)}
	}
	return nil
}
