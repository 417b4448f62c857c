package config_test

import (
	"strings"
	"testing"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
)

func TestState(t *testing.T) {
	t.Parallel()
	keys := auth.Reference{File: "/run/secrets/keys"}
	for name, test := range map[string]struct {
		file   string
		want   config.State
		shared bool
	}{
		"both":       {`{"state": {"postgres": {"env": "DATABASE_URL"}, "keys": {"file": "/run/secrets/keys"}}}`, config.State{Postgres: auth.Reference{Env: "DATABASE_URL"}, Keys: keys}, true},
		"keys alone": {`{"state": {"keys": {"file": "/run/secrets/keys"}}}`, config.State{Keys: keys}, false},
		"empty":      {`{"state": {"postgres": {"env": ""}, "keys": {}}}`, config.State{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := loadText(t, test.file)
			if err != nil {
				t.Fatal(err)
			}
			if !equalReference(c.State.Postgres, test.want.Postgres) || !equalReference(c.State.Keys, test.want.Keys) || c.State.IsShared() != test.shared {
				t.Errorf("got %+v", c.State)
			}
		})
	}
}

func equalReference(a, b auth.Reference) bool {
	return a.Env == b.Env && a.File == b.File && len(a.Exec) == len(b.Exec) && a.Keyring == b.Keyring
}

func TestStateProblems(t *testing.T) {
	t.Parallel()
	_, err := loadText(t, `{"state": {"postgres": {"env": "DATABASE_URL"}}}`)
	wantProblems(t, err, "state.keys: is missing")
	if !strings.Contains(err.Error(), "tokenreeve state new-keys") {
		t.Errorf("nothing says how to make the keys: %v", err)
	}
	_, err = loadText(t, `{"state": {"postgres": {"env": "postgres://u:hunter2@db/x"}, "keys": {"env": "A", "file": "b"}, "sqlite": {}}}`)
	wantProblems(t, err, "state.postgres: env is not the name", "state.keys: names 2 sources", "state.sqlite: ")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error quotes what may be a secret: %v", err)
	}
	_, err = loadText(t, `{"state": {"keys": null}}`)
	wantProblems(t, err, "state.keys: is null")
}

// Where all state is in the database, no home directory is needed, and no secret goes to a default
// sink of one machine.
func TestStateWithoutHome(t *testing.T) {
	t.Parallel()
	env := userWith(t, map[string]string{"c.json": `{"state": {"postgres": {"env": "DATABASE_URL"}, "keys": {"env": "KEYS"}}}`})
	home := environment{"HOME": env["HOME"]}
	c := mustLoad(t, config.Options{ConfigFile: env["HOME"] + "/c.json", Getenv: home.get, Stdio: true})
	if len(c.Sinks) > 0 || c.DefaultSink != "" {
		t.Errorf("got the sinks %v", c.Sinks)
	}
	c = mustLoad(t, config.Options{ConfigFile: env["HOME"] + "/c.json", Getenv: environment{}.get, Stdio: true})
	if c.StateDir != "" {
		t.Errorf("got the state directory %q", c.StateDir)
	}
}
