package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/config"
)

const served = `{"serve": {
	"listen": "0.0.0.0:8443", "transport": "http", "tls": {"cert": "/tls/crt", "key": "~/key"}, "behind_tls_proxy": true,
	"allowed_hosts": ["mcp.example", "[2001:db8::1]:8443"], "allowed_origins": ["https://app.example"], "max_sessions": 5, "max_calls": 2
}}`

// Flags win over the file, one by one.
func TestServe(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": served})
	file := config.Serve{
		Listen: "0.0.0.0:8443", Transport: "http", TLS: config.TLS{Cert: "/tls/crt", Key: filepath.Join(env["HOME"], "key")}, BehindTLSProxy: true,
		AllowedHosts: []string{"mcp.example", "[2001:db8::1]:8443"}, AllowedOrigins: []string{"https://app.example"}, MaxSessions: 5, MaxCalls: 2,
	}
	for name, test := range map[string]struct {
		flags *config.ServeFlags
		want  func(*config.Serve)
	}{
		"another command": {nil, func(*config.Serve) {}},
		"no flags":        {&config.ServeFlags{}, func(*config.Serve) {}},
		"some": {&config.ServeFlags{Listen: "127.0.0.1:0", BehindTLSProxy: new(false), MaxCalls: new(9)}, func(s *config.Serve) {
			s.Listen, s.BehindTLSProxy, s.MaxCalls = "127.0.0.1:0", false, 9
		}},
		"all others": {
			&config.ServeFlags{Transport: "sse", TLSCert: "/a", TLSKey: "/b", AllowedHosts: []string{"x"}, AllowedOrigins: []string{"http://y:1"}, MaxSessions: new(1)},
			func(s *config.Serve) {
				s.Transport, s.TLS, s.AllowedHosts, s.AllowedOrigins, s.MaxSessions = "sse", config.TLS{Cert: "/a", Key: "/b"}, []string{"x"}, []string{"http://y:1"}, 1
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := file
			test.want(&want)
			got := mustLoad(t, config.Options{ConfigFile: filepath.Join(env["HOME"], "c.json"), Getenv: env.get, Serve: test.flags})
			if diff := cmp.Diff(want, got.Serve); diff != "" {
				t.Errorf("serve (-want +got):\n%s", diff)
			}
		})
	}
	bare, err := config.ServeOf(config.ServeFlags{Listen: "localhost:1"})
	if diff := cmp.Diff(config.Serve{Listen: "localhost:1", Transport: "both", MaxSessions: 1000, MaxCalls: 16}, bare); diff != "" || err != nil {
		t.Errorf("flags alone: %v (-want +got):\n%s", err, diff)
	}
}

// The local user's sink is not there for callers over HTTP.
func TestServeHasNoSinkOfItsOwn(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": `{"serve": {"listen": "127.0.0.1:1"}}`, "none.json": `{}`})
	for name, test := range map[string]struct {
		file  string
		flags *config.ServeFlags
		want  int
	}{
		"listening by file": {"c.json", &config.ServeFlags{}, 0}, "listening by flag": {"none.json", &config.ServeFlags{Listen: "127.0.0.1:1"}, 0},
		"stdio": {"none.json", &config.ServeFlags{}, 1}, "another command": {"c.json", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := mustLoad(t, config.Options{ConfigFile: filepath.Join(env["HOME"], test.file), Getenv: env.get, Stdio: true, Serve: test.flags})
			if len(c.Sinks) != test.want {
				t.Errorf("%d sinks, want %d", len(c.Sinks), test.want)
			}
		})
	}
}

func TestServeProblems(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		serve string
		flags config.ServeFlags
		want  string // the problem; "": none
	}{
		"no port":               {`{"listen": "127.0.0.1"}`, config.ServeFlags{}, "serve.listen: is \"127.0.0.1\"; valid: HOST:PORT"},
		"no port in the flag":   {`{}`, config.ServeFlags{Listen: "7777"}, "--listen: is"},
		"unknown transport":     {`{"transport": "htp"}`, config.ServeFlags{}, "serve.transport: is \"htp\"; did you mean \"http\"?"},
		"unknown in the flag":   {`{}`, config.ServeFlags{Transport: "stdio"}, "--transport: is"},
		"relative certificate":  {`{"tls": {"cert": "tls.crt", "key": "/k"}}`, config.ServeFlags{}, "serve.tls.cert: "},
		"certificate alone":     {`{"tls": {"cert": "/c"}}`, config.ServeFlags{}, "serve.tls.key: is missing"},
		"key alone":             {`{"tls": {"key": "/k"}}`, config.ServeFlags{}, "serve.tls.cert: is missing"},
		"halves from both":      {`{}`, config.ServeFlags{TLSCert: "/c"}, "--tls-key: is missing"},
		"any host":              {`{"allowed_hosts": ["a.example", "*"]}`, config.ServeFlags{}, "serve.allowed_hosts[1]: is"},
		"pattern":               {`{"allowed_hosts": ["*.example"]}`, config.ServeFlags{}, "serve.allowed_hosts[0]: is"},
		"URL for a host":        {`{}`, config.ServeFlags{AllowedHosts: []string{"https://a.example"}}, "--allowed-hosts[0]: is"},
		"host with a bad port":  {`{"allowed_hosts": ["a:99999"]}`, config.ServeFlags{}, "serve.allowed_hosts[0]: is"},
		"address of IPv6":       {`{"allowed_hosts": ["[::1]", "[::1]:80", "1.2.3.4"]}`, config.ServeFlags{}, ""},
		"any origin":            {`{"allowed_origins": ["*"]}`, config.ServeFlags{}, "serve.allowed_origins[0]: is"},
		"null origin":           {`{"allowed_origins": ["null"]}`, config.ServeFlags{}, "serve.allowed_origins[0]: is"},
		"origin with a path":    {`{"allowed_origins": ["https://a.example/"]}`, config.ServeFlags{}, "serve.allowed_origins[0]: is"},
		"origin without scheme": {`{}`, config.ServeFlags{AllowedOrigins: []string{"a.example"}}, "--allowed-origins[0]: is"},
		"other scheme":          {`{"allowed_origins": ["file://a"]}`, config.ServeFlags{}, "serve.allowed_origins[0]: is"},
		"no sessions":           {`{"max_sessions": 0}`, config.ServeFlags{}, "serve.max_sessions: is out of range; valid: 1 to 100000"},
		"no calls":              {`{}`, config.ServeFlags{MaxCalls: new(0)}, "--max-calls: is out of range; valid: 1 to 1000"},
		"mended by a flag":      {`{"max_calls": 0}`, config.ServeFlags{MaxCalls: new(1)}, "serve.max_calls: is out of range"}, // the file is wrong all the same
		"unknown member":        {`{"port": 80}`, config.ServeFlags{}, "serve.port: is not known here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := userWith(t, map[string]string{"c.json": `{"serve": ` + test.serve + `}`})
			_, err := config.Load(config.Options{ConfigFile: filepath.Join(env["HOME"], "c.json"), Getenv: env.get, Serve: &test.flags})
			if test.want == "" {
				if err != nil {
					t.Errorf("Load: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "has a problem") {
				t.Errorf("Load: %v, want the problem %s", err, test.want)
			}
		})
	}
	if _, err := config.ServeOf(config.ServeFlags{Transport: "x"}); err == nil {
		t.Error("ServeOf takes any transport")
	}
}
