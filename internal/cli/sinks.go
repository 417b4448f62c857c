package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

// sinksOf makes the configured sinks. None opens anything before its first use.
func sinksOf(c config.Config) (map[string]sink.Sink, error) {
	sinks := map[string]sink.Sink{}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(c.Sinks)) {
		made, err := sinkOf(name, c.Sinks[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("sinks.%s: %w", name, err))
		}
		sinks[name] = made
	}
	return sinks, errors.Join(problems...)
}

func sinkOf(name string, s config.Sink) (sink.Sink, error) {
	accept := sink.Accept(s.Accept)
	switch s.Type {
	case config.KeyringSink:
		return sink.NewKeyring(name, accept)
	case config.ExecSink:
		return sink.NewExec(name, s.ExecOptions())
	case config.VaultSink:
		return newVault(name, s)
	}
	if s.Format == config.Dotenv {
		return sink.NewDotenv(name, s.Directory, accept)
	}
	return sink.NewFile(name, s.Directory, accept)
}

func newVault(name string, s config.Sink) (*sink.Vault, error) {
	token, err := auth.New(s.Token)
	if err != nil {
		return nil, err
	}
	options := s.VaultOptions()
	options.Token = token
	if s.CAFile != "" {
		options.CA = func() ([]byte, error) { return trustedfile.Read(s.CAFile, maxCAFile) }
	}
	return sink.NewVault(name, options)
}
