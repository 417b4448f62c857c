package server_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// What deploy/ asks a server for is open to whoever has no token.
func TestDeployedProbes(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	for _, file := range []string{"../../deploy/kubernetes/server.yaml", "../../deploy/haproxy.cfg"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, probe := range regexp.MustCompile(`(?:httpGet:\s+path:|http-check send meth GET uri) (\S+)`).FindAllStringSubmatch(string(data), -1) {
			asked[probe[1]] = true
			if !slices.ContainsFunc(server.Routes(), func(r server.Route) bool { return r.Method == "GET" && r.Path == probe[1] && r.IsOpen }) {
				t.Errorf("%s asks %s, which is no open route", file, probe[1])
			}
		}
	}
	if len(asked) != 2 {
		t.Errorf("%v is asked for, want two paths", asked)
	}
}
