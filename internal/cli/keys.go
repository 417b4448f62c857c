package cli

import (
	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
)

// sharedKeys are those that state.keys names, or nil where each machine has its own.
func sharedKeys(c config.Config) (*statekeys.Source, error) {
	if c.State.Keys.IsZero() {
		return nil, nil
	}
	source, err := auth.NewText(c.State.Keys)
	if err != nil {
		return nil, err
	}
	return statekeys.NewSource(source.Read), nil
}

// keyReader derives keys from the shared ones, or keeps its own in the state directory.
func keyReader(c config.Config, shared *statekeys.Source) statekeys.Reader {
	if shared == nil {
		return statekeys.Files(c.StateDir)
	}
	return shared.Reader()
}
