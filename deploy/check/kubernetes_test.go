package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // makes the scheme know the group
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // makes the scheme know the group
	corev1conversion "k8s.io/kubernetes/pkg/apis/core/v1"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install" // makes the scheme know the group
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install" // makes the scheme know the group
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/pod-security-admission/api"
	podsecurity "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// secretDir is where the Deployment mounts its Secret.
const secretDir = "/run/secrets/tokenreeve"

// kubernetes builds the kustomization in dir and judges every object as the API server does when it is
// created: strictly decoded, with defaults, validated. Pods must meet the restricted Pod Security
// Standard, be bounded, write nothing, and be asked on the paths that the server has.
func kubernetes(dir string) error {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDecoder()
	c := cluster{}
	for _, resource := range built.Resources() {
		data, err := resource.AsYAML()
		if err != nil {
			return err
		}
		object, _, err := decoder.Decode(data, nil, nil)
		if err != nil {
			c.add(resource.GetKind()+" "+resource.GetName(), err)
			continue
		}
		if err := c.judge(object); err != nil {
			c.add(resource.GetKind()+" "+resource.GetName(), err)
		}
	}
	c.judgeTogether()
	return errors.Join(c.problems...)
}

// cluster is what was read, and what is wrong with it.
type cluster struct {
	deployments []*apps.Deployment
	services    []*core.Service
	budgets     []*policy.PodDisruptionBudget
	policies    []*networking.NetworkPolicy
	configs     map[string]*core.ConfigMap
	problems    []error
}

func (c *cluster) add(what string, err error) {
	c.problems = append(c.problems, fmt.Errorf("%s: %w", what, err))
}

// judge judges one object by itself. A kind that nobody here knows is refused, Secrets above all.
func (c *cluster) judge(object runtime.Object) error {
	switch o := object.(type) {
	case *core.Namespace:
		return aggregate(corevalidation.ValidateNamespace(o))
	case *core.ServiceAccount:
		return aggregate(corevalidation.ValidateServiceAccount(o))
	case *core.ConfigMap:
		if c.configs == nil {
			c.configs = map[string]*core.ConfigMap{}
		}
		c.configs[o.Name] = o
		return aggregate(corevalidation.ValidateConfigMap(o))
	case *core.Service:
		c.services = append(c.services, o)
		if len(o.Spec.ClusterIPs) == 0 && o.Spec.ClusterIP != "" { // as the API server does before it validates
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		return aggregate(corevalidation.ValidateServiceCreate(o))
	case *apps.Deployment:
		c.deployments = append(c.deployments, o)
		return errors.Join(aggregate(appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{})), checkPods(o))
	case *policy.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
		return aggregate(policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{}))
	case *networking.NetworkPolicy:
		c.policies = append(c.policies, o)
		return aggregate(networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{}))
	}
	return errors.New("nobody here knows how to judge this kind")
}

func aggregate(list field.ErrorList) error {
	if len(list) == 0 {
		return nil
	}
	return list.ToAggregate()
}

// checkPods judges the pods of a Deployment by the restricted standard, and by ours.
func checkPods(d *apps.Deployment) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	var spec corev1.PodSpec
	if err := corev1conversion.Convert_core_PodSpec_To_v1_PodSpec(&d.Spec.Template.Spec, &spec, nil); err != nil {
		return err
	}
	evaluator, err := podsecurity.NewEvaluator(podsecurity.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, &d.Spec.Template.ObjectMeta, &spec) {
		if !result.Allowed {
			bad("not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if token := spec.AutomountServiceAccountToken; token == nil || *token {
		bad("the pods get a token of the cluster's API")
	}
	if update := d.Spec.Strategy.RollingUpdate; update == nil || update.MaxUnavailable.IntValue() != 0 {
		bad("an update takes a replica away before the new one is ready")
	}
	for _, container := range spec.Containers {
		if err := checkContainer(container); err != nil {
			bad("container %s: %w", container.Name, err)
		}
	}
	return errors.Join(problems...)
}

func checkContainer(c corev1.Container) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := checkImage(c.Image); err != nil {
		problems = append(problems, err)
	}
	if s := c.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		bad("its root file system can be written")
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
		bad("its resources are not bounded")
	}
	if c.ReadinessProbe == nil || c.LivenessProbe == nil {
		bad("nobody asks whether it is ready and alive")
	}
	for _, variable := range c.Env {
		if isSecretName(variable.Name) && variable.Value != "" {
			bad("the variable %s holds a secret", variable.Name)
		}
	}
	for _, mount := range c.VolumeMounts {
		if !mount.ReadOnly {
			bad("%s is mounted to be written", mount.MountPath)
		}
	}
	return errors.Join(problems...)
}

// judgeTogether judges what only several objects tell.
func (c *cluster) judgeTogether() {
	server := c.deployment("server")
	if server == nil {
		c.problems = append(c.problems, errors.New("there is no Deployment of the component server"))
		return
	}
	if server.Spec.Replicas < 2 {
		c.add("Deployment "+server.Name, errors.New("it has less than two replicas"))
	}
	c.judgeServer(server)
	for _, service := range c.services {
		c.wantSelected("Service "+service.Name, labels.SelectorFromSet(service.Spec.Selector))
	}
	for _, budget := range c.budgets {
		c.wantSelected("PodDisruptionBudget "+budget.Name, labels.SelectorFromSet(budget.Spec.Selector.MatchLabels))
	}
	everything := false
	for _, p := range c.policies {
		c.wantSelected("NetworkPolicy "+p.Name, labels.SelectorFromSet(p.Spec.PodSelector.MatchLabels))
		closed := len(p.Spec.PodSelector.MatchLabels) == 0 && len(p.Spec.Ingress) == 0 && len(p.Spec.Egress) == 0 && len(p.Spec.PolicyTypes) == 2
		everything = everything || closed
	}
	if !everything {
		c.problems = append(c.problems, errors.New("no NetworkPolicy closes what the others do not open"))
	}
	for _, d := range c.deployments {
		for _, volume := range d.Spec.Template.Spec.Volumes {
			if volume.ConfigMap != nil && c.configs[volume.ConfigMap.Name] == nil {
				c.add("Deployment "+d.Name, fmt.Errorf("there is no ConfigMap %s", volume.ConfigMap.Name))
			}
		}
	}
}

func (c *cluster) deployment(component string) *apps.Deployment {
	i := slices.IndexFunc(c.deployments, func(d *apps.Deployment) bool { return d.Labels["app.kubernetes.io/component"] == component })
	if i < 0 {
		return nil
	}
	return c.deployments[i]
}

func (c *cluster) wantSelected(what string, selector labels.Selector) {
	if !slices.ContainsFunc(c.deployments, func(d *apps.Deployment) bool { return selector.Matches(labels.Set(d.Spec.Template.Labels)) }) {
		c.add(what, errors.New("it selects no pods"))
	}
}

// judgeServer compares the server's pods with the configuration that they get.
func (c *cluster) judgeServer(d *apps.Deployment) {
	what := "Deployment " + d.Name
	pod := d.Spec.Template.Spec
	i := slices.IndexFunc(pod.Volumes, func(v core.Volume) bool { return v.ConfigMap != nil })
	if i < 0 || c.configs[pod.Volumes[i].ConfigMap.Name] == nil {
		c.add(what, errors.New("it has no configuration"))
		return
	}
	config, err := parseSettings([]byte(c.configs[pod.Volumes[i].ConfigMap.Name].Data["config.json"]))
	if err != nil {
		c.add(what, err)
		return
	}
	container := pod.Containers[0]
	if !slices.ContainsFunc(container.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == secretDir }) {
		c.add(what, fmt.Errorf("nothing is mounted at %s", secretDir))
	}
	for _, file := range config.files {
		if !strings.HasPrefix(file, secretDir+"/") {
			c.add(what, fmt.Errorf("config.json wants %s, and secrets are in %s", file, secretDir))
		}
	}
	for path, probe := range map[string]*core.Probe{"/healthz": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
		c.judgeProbe(what, path, probe, config)
	}
	if container.StartupProbe != nil {
		c.judgeProbe(what, "/healthz", container.StartupProbe, config)
	}
}

func (c *cluster) judgeProbe(what, path string, probe *core.Probe, config settings) {
	if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path {
		c.add(what, fmt.Errorf("a probe does not ask %s", path))
		return
	}
	host := ""
	for _, header := range probe.HTTPGet.HTTPHeaders {
		if header.Name == "Host" {
			host = header.Value
		}
	}
	if !slices.Contains(config.Serve.AllowedHosts, host) {
		c.add(what, fmt.Errorf("the probe of %s names the host %q, which is none of allowed_hosts", path, host))
	}
}
