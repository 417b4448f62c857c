package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// recordedOperations is how many operations stand in the ledger of a server that was
// used before.
const recordedOperations = 300

// recorded makes a state directory whose ledger holds operations, and returns the
// setting that leads a server there.
func (b *bench) recorded(ctx context.Context) (env string, err error) {
	dir := filepath.Join(b.dir, "recorded")
	l, err := ledger.Open(ctx, filepath.Join(dir, "ledger.db"), ledger.Options{})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for n := range recordedOperations {
		i := ledger.Intent{
			Principal: "local", Tool: "revoke_token", Class: "revoke", Connection: "acme", Provider: "launchdarkly",
			Targets: []ledger.Target{{ID: fmt.Sprintf("%024x", n), Name: "old script"}},
		}
		if _, _, err := l.Record(ctx, "", i, ledger.Result{Outcome: ledger.Done}); err != nil {
			return "", err
		}
	}
	return "TOKENREEVE_STATE_DIR=" + dir, nil
}
