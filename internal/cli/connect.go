package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/statekeys"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/atlassian"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
	"github.com/tokenreeve/tokenreeve/providers/transport"
	"github.com/tokenreeve/tokenreeve/tools"
)

// vendor makes the provider of one connection.
type vendor func(hc *http.Client, c config.Connection, o transport.Options) (providers.Provider, error)

// vendors is the list of providers: a new vendor is one line here.
func vendors() map[string]vendor {
	return map[string]vendor{
		config.Atlassian:    newAtlassian,
		config.LaunchDarkly: newLaunchDarkly,
		config.Mailtrap:     newMailtrap,
	}
}

func newAtlassian(hc *http.Client, c config.Connection, o transport.Options) (providers.Provider, error) {
	credential, err := auth.New(c.Credential)
	if err != nil {
		return nil, err
	}
	settings := atlassian.Config{
		BaseURL: c.BaseURL, OrgID: c.OrgID, Credential: credential, VendorFilters: c.VendorFilters, PageSize: c.PageSize,
	}
	if !c.UserManagementCredential.IsZero() {
		if settings.UserManagementCredential, err = auth.New(c.UserManagementCredential); err != nil {
			return nil, err
		}
	}
	return atlassian.New(hc, settings, o)
}

func newLaunchDarkly(hc *http.Client, c config.Connection, o transport.Options) (providers.Provider, error) {
	credential, err := auth.New(c.Credential)
	if err != nil {
		return nil, err
	}
	return launchdarkly.New(hc, launchdarkly.Config{BaseURL: c.BaseURL, Credential: credential, PageSize: c.PageSize}, o)
}

func newMailtrap(hc *http.Client, c config.Connection, o transport.Options) (providers.Provider, error) {
	credential, err := auth.New(c.Credential)
	if err != nil {
		return nil, err
	}
	return mailtrap.New(hc, mailtrap.Config{
		BaseURL: c.BaseURL, AccountID: c.AccountID, Credential: credential, PathFamily: c.PathFamily, ResourceWords: c.ResourceWords,
	}, o)
}

// instance is a configuration with what was built from it.
type instance struct {
	config config.Config
	env    *tools.Env
	store  *store
	log    *slog.Logger
	close  func()
}

// build builds what the tools work with. It sends nothing, reads no credential and opens no file. A
// command that serves HTTP does not serve stdio.
func (a *app) build(c config.Config) (instance, error) {
	log := a.logger(c.Log)
	options := transport.Options{UserAgent: "tokenreeve/" + a.version, Timeout: c.Timeout, Reserve: c.RateReserve}
	hc, err := trusting(c.CAFile)
	if err != nil {
		return instance{}, err
	}
	measured := telemetry.New(a.version, log)
	connections, err := connect(c, hc, options, measured)
	sinks, wrongSinks := sinksOf(c)
	if err := errors.Join(err, wrongSinks); err != nil {
		return instance{}, err
	}
	s, err := openStore(c, 0)
	if err != nil {
		return instance{}, err
	}
	measured.Standing(s.standing)
	plain := make([]*providers.Connection, len(connections))
	for i, connection := range connections {
		plain[i] = connection.Connection
	}
	env := &tools.Env{
		Telemetry: measured,
		Registry:  providers.NewRegistry(plain...), Connections: connections,
		Cursors: tools.NewCursors(s.keys.All(statekeys.Cursors)), Sinks: sinks, FingerprintKey: s.keys.Present(statekeys.Fingerprints),
		Ledger: s.ledger, HasLedger: s.hasLedger,
		Escrow: s.escrow, EscrowRetention: c.EscrowRetention,
		Approval: c.HumanApproval.Policy(), Stdio: !a.listens(c), ApproveCommand: a.approveCommand(c), ApprovedOverHTTP: c.Auth.HasApprovers(),
		ReadOnly: c.ReadOnly, Setup: c.Setup, Log: log, Now: s.ledger.Now, VendorTime: c.Timeout, Work: tools.NewTracker(),
	}
	return instance{config: c, env: env, store: s, log: log, close: func() {
		hc.CloseIdleConnections()
		if err := s.close(); err != nil {
			log.Error("the ledger was not closed", "error", err)
		}
	}}, nil
}

// maxCAFile caps a file of certificates, in bytes.
const maxCAFile = 1 << 20

// trusting returns the HTTP client for vendors and servers, which trusts the certificates of caFile besides
// the system's. Whoever can change the file can pass for a vendor, so it is judged like the configuration.
func trusting(caFile string) (*http.Client, error) {
	var options transport.Options
	if caFile != "" {
		var err error
		if options.RootCAs, err = trustedfile.Read(caFile, maxCAFile); err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
	}
	hc, err := transport.New(options)
	if err != nil && caFile != "" {
		return nil, fmt.Errorf("ca_file %s: %w", caFile, err)
	}
	return hc, err
}

// connect makes the provider of each connection, by the connections' names. Its error tells of all that
// cannot be made.
func connect(c config.Config, hc *http.Client, options transport.Options, measured *telemetry.Telemetry) ([]*tools.Connection, error) {
	var connections []*tools.Connection
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(c.Connections)) {
		settings := c.Connections[name]
		provider, err := vendors()[settings.Provider](hc, settings, observed(options, measured.Vendor(settings.Provider, name)))
		if err != nil {
			problems = append(problems, fmt.Errorf("connections.%s: %w", name, err))
			continue
		}
		connections = append(connections, &tools.Connection{
			Connection: &providers.Connection{Name: name, Provider: provider}, Policy: policyOf(name, settings),
			Sink: settings.Sink, OrgWideRevoke: settings.OrgWideRevoke,
		})
	}
	return connections, errors.Join(problems...)
}

// observed returns options whose requests are measured.
func observed(o transport.Options, v telemetry.Vendor) transport.Options {
	o.ObserveRequest = func(ctx context.Context, s transport.Sending) func(int, string) {
		return v.BeginRequest(ctx, telemetry.Request(s))
	}
	o.ObserveBudget = func(b transport.Budget, route string) { v.Budget(b.Name, route, b.Limit, b.Remaining, b.Reset) }
	return o
}

// approveCommand is what the operator types to approve a preview of this server's, with
// the flags that lead to the same record.
func (a *app) approveCommand(c config.Config) string {
	command := "tokenreeve approve"
	if a.flags.demo || a.flags.stateDir != "" && !c.State.IsShared() {
		command += " --state-dir " + strconv.Quote(c.StateDir)
	}
	if a.flags.configFile != "" && !a.flags.demo {
		command += " --config " + strconv.Quote(c.File)
	}
	return command
}

func policyOf(name string, c config.Connection) policy.Policy {
	return policy.Policy{
		Connection: name, Allow: c.Allow, Protect: policy.Protect(c.Protect),
		MaxTargets: c.Limits.TargetsPerPreview, RevocationsPerHour: c.Limits.RevocationsPerHour,
		Mint: policy.MintRules(c.Mint), InUse: c.InUse,
	}
}
