package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/config"
)

// What deploy/ ships is valid as it is, keeps all state in the database, and needs no home.
func TestDeployed(t *testing.T) {
	t.Parallel()
	for _, shipped := range []string{"../../deploy/config.json", "../../deploy/kubernetes/config.json"} {
		t.Run(shipped, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(shipped)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(config.Options{
				ConfigFile: file, Serve: &config.ServeFlags{}, Stdio: true, Getenv: func(string) string { return "" },
			})
			if err != nil {
				t.Fatal(err)
			}
			if !c.State.IsShared() || c.StateDir != "" {
				t.Errorf("state is shared: %t; state directory %q", c.State.IsShared(), c.StateDir)
			}
			if !c.Serve.BehindTLSProxy || c.Serve.Listen != ":8080" || len(c.Serve.TrustedProxies) == 0 || c.Auth.IsZero() {
				t.Errorf("serve: %+v, auth: %+v", c.Serve, c.Auth)
			}
			if c.Log.Format != "json" || !c.HumanApproval.SecondPerson {
				t.Errorf("log: %+v, human_approval: %+v", c.Log, c.HumanApproval)
			}
			for name, connection := range c.Connections {
				if sink := c.Sinks[connection.Sink]; connection.Provider != config.Atlassian && sink.Type != config.VaultSink {
					t.Errorf("%s delivers to %q, which replicas do not share", name, connection.Sink)
				}
			}
			for _, path := range credentialFiles(t, data) {
				if !strings.HasPrefix(path, "/run/secrets/") {
					t.Errorf("%s is no mounted secret", path)
				}
			}
		})
	}
}

// credentialFiles returns every "file" that stands in the configuration.
func credentialFiles(t *testing.T, data []byte) []string {
	t.Helper()
	var content any
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	var files []string
	var collect func(any)
	collect = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, element := range value {
				collect(element)
			}
		case map[string]any:
			if path, ok := value["file"].(string); ok {
				files = append(files, path)
			}
			for _, member := range value {
				collect(member)
			}
		}
	}
	collect(content)
	slices.Sort(files)
	return files
}
