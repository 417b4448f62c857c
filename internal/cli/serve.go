package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	mcpserver "github.com/mark3labs/mcp-go/server"
	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/server"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve over stdio, or with --listen over HTTP",
		Long: "Serves over stdio, or with --listen over HTTP: Streamable HTTP at /mcp, server-sent events\n" +
			"at /sse and /message, /approve/PREVIEW_ID for people who approve what agents previewed, /healthz\n" +
			"and /readyz for whoever watches it, and /metrics.\n\n" +
			"Callers over HTTP are those of the section auth of the configuration file. Without it they\n" +
			"present the bearer token in TOKENREEVE_BEARER_TOKEN (at least 32 characters), else a random\n" +
			"one that is made and shown once on standard error. Beyond this machine it wants TLS. The section\n" +
			"serve of the configuration file has the same settings.",
		Args: cobra.NoArgs,
	}
	readFlags := serveFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.flags.serve = readFlags()
		return a.serve(cmd)
	}
	return cmd
}

// serveFlags gives a command the flags that say how HTTP is served. What it returns reads them, once
// the command line was parsed.
func serveFlags(cmd *cobra.Command) func() *config.ServeFlags {
	var f config.ServeFlags
	var behindTLSProxy, metricsOpen bool
	var maxSessions, maxCalls int
	flags := cmd.Flags()
	flags.StringVar(&f.Listen, "listen", "", "address for HTTP, for example 127.0.0.1:7777")
	flags.StringVar(&f.Transport, "transport", "", "http (Streamable HTTP), sse or both (default both)")
	flags.StringVar(&f.TLSCert, "tls-cert", "", "PEM file of the certificate and those that lead to its authority; read again when it changes")
	flags.StringVar(&f.TLSKey, "tls-key", "", "PEM file of its key")
	flags.BoolVar(&behindTLSProxy, "behind-tls-proxy", false, "listen without TLS beyond this machine, since a proxy in front does it")
	flags.StringSliceVar(&f.AllowedHosts, "allowed-hosts", nil, "names by which clients reach the server, HOST or HOST:PORT (default the listener's own)")
	flags.StringSliceVar(&f.AllowedOrigins, "allowed-origins", nil, "origins of web pages that may call from elsewhere, for example https://app.example.com")
	flags.StringSliceVar(&f.TrustedProxies, "trusted-proxies", nil, "addresses or networks of proxies whose X-Forwarded-For counts, for example 10.0.0.0/8")
	flags.StringVar(&f.MetricsListen, "metrics-listen", "", "address for /metrics alone, without authentication, for example 127.0.0.1:9464 (default: on the main listener, for callers who may read)")
	flags.BoolVar(&metricsOpen, "metrics-open", false, "let --metrics-listen be an address that other machines reach")
	flags.IntVar(&maxSessions, "max-sessions", 0, "sessions that may be open at the same time (default 1000)")
	flags.IntVar(&maxCalls, "max-calls", 0, "calls that one caller may have under way at the same time (default 16)")
	return func() *config.ServeFlags {
		for name, set := range map[string]func(){
			"behind-tls-proxy": func() { f.BehindTLSProxy = &behindTLSProxy },
			"metrics-open":     func() { f.MetricsOpen = &metricsOpen },
			"max-sessions":     func() { f.MaxSessions = &maxSessions },
			"max-calls":        func() { f.MaxCalls = &maxCalls },
		} {
			if flags.Changed(name) {
				set()
			}
		}
		return &f
	}
}

// serve serves over HTTP where flags or file say so, else over stdio.
func (a *app) serve(cmd *cobra.Command) error {
	collectLessOften()
	s, err := a.setUp(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	s.env.OnFirstClient = s.env.Attend
	mcp, err := server.New(a.version, s.env)
	if err != nil {
		return err
	}
	end := s.env.Telemetry.Export(cmd.Context())
	defer end()
	if !a.listens(s.config) {
		s.log.Debug("serving over stdio", "connections", len(s.env.Connections))
		return server.Stdio(cmd.Context(), mcp, s.env.Work, a.streams.In, a.streams.Out, s.config.Timeout, s.log)
	}
	return a.serveHTTP(cmd.Context(), s, mcp)
}

// collectLessOften lets the heap grow to 8 MiB, not 4, before garbage is collected: a start over stdio then
// does without, which is a seventh of its CPU time, and calls of so small a heap spend a tenth of theirs
// on it. GOGC in the environment takes precedence. Over HTTP the memory is given back once it is quiet.
func collectLessOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

func (a *app) serveHTTP(ctx context.Context, s instance, mcp *mcpserver.MCPServer) error {
	callers, shown, err := a.callers(s.config, s.log)
	if err != nil {
		return err
	}
	if err := s.store.ready(ctx, s.log); err != nil {
		return err
	}
	warnOfLocalSinks(s.config, s.log)
	c := s.config.Serve
	proxies, err := auth.ParseProxies(c.TrustedProxies)
	if err != nil {
		return err
	}
	listener, err := server.Listen(ctx, server.ListenOptions{
		Addr: c.Listen, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, BehindTLSProxy: c.BehindTLSProxy,
		Authenticated: true, // there is always a token, or configured callers
	}, s.log)
	if err != nil {
		return err
	}
	var metrics net.Listener
	if c.MetricsListen != "" {
		if metrics, err = server.ListenMetrics(ctx, c.MetricsListen, c.MetricsOpen); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	a.announce(c, listener.URL, metrics, shown)
	door := auth.Options{
		Resource: s.config.Auth.OIDC.AsResource(), BehindProxy: c.BehindTLSProxy, TrustedProxies: proxies, Basic: server.TakesBasic, Log: s.log,
		Refused: s.env.Telemetry.Refused,
	}
	return server.HTTP(ctx, mcp, s.env.Work, listener, server.HTTPOptions{
		Authenticate: auth.Middleware(callers, door), Address: door.Address,
		Telemetry: s.env.Telemetry, MetricsListener: metrics,
		Env:       s.env,
		Resource:  s.config.Auth.OIDC.AsResource(),
		Transport: c.Transport, Hosts: c.AllowedHosts, Origins: c.AllowedOrigins,
		MaxSessions: c.MaxSessions, MaxOwnSessions: ownSessions(s.config), MaxCalls: c.MaxCalls, Patience: s.config.Timeout,
	}, s.log)
}

// announce says where the server serves, and shows a bearer token that was just made; "": none was.
func (a *app) announce(c config.Serve, url string, metrics net.Listener, token string) {
	if c.Transport != config.TransportSSE {
		fmt.Fprintf(a.streams.Err, "tokenreeve serves %s/mcp\n", url)
	}
	if c.Transport != config.TransportHTTP {
		fmt.Fprintf(a.streams.Err, "tokenreeve serves %s/sse\n", url)
	}
	if len(c.AllowedHosts) > 0 {
		fmt.Fprintf(a.streams.Err, "clients must call it %s\n", strings.Join(c.AllowedHosts, " or "))
	}
	if metrics != nil {
		fmt.Fprintf(a.streams.Err, "tokenreeve serves http://%s/metrics\n", metrics.Addr())
	}
	if token != "" {
		fmt.Fprintf(a.streams.Err, "bearer token, shown once: %s\n", token)
	}
}

// ownSessions is how many sessions one caller may have open: where there are several, no one can keep
// the others out.
func ownSessions(c config.Config) int {
	if c.Auth.IsZero() {
		return c.Serve.MaxSessions
	}
	return max(1, c.Serve.MaxSessions/2)
}

// callers returns the check of who calls: those that the configuration names, else the one bearer
// token, which is returned where it is new.
func (a *app) callers(c config.Config, log *slog.Logger) (auth.Authenticator, string, error) {
	configured := os.Getenv("TOKENREEVE_BEARER_TOKEN")
	if c.Auth.IsZero() {
		return bearerToken(configured)
	}
	if configured != "" {
		log.Warn("TOKENREEVE_BEARER_TOKEN is ignored: the configuration names the callers")
	}
	checks := []auth.Authenticator{auth.NewTokens(c.Auth.StaticTokens())}
	if c.Auth.OIDC.Issuer != "" {
		client, err := trusting(c.CAFile)
		if err != nil {
			return nil, "", err
		}
		options := c.Auth.OIDC.Options()
		options.Client, options.Log = client, log
		provider, err := auth.NewOIDC(options)
		if err != nil {
			return nil, "", fmt.Errorf("auth.oidc: %w", err)
		}
		checks = append(checks, provider)
	}
	return auth.First(checks...), "", nil
}

// bearerToken returns the configured bearer token's check, or that of a new token
// with the token.
func bearerToken(configured string) (auth.Authenticator, string, error) {
	if configured == "" {
		bearer, token := auth.RandomBearer()
		return bearer, token, nil
	}
	bearer, err := auth.NewBearer(configured)
	if err != nil {
		return nil, "", fmt.Errorf("TOKENREEVE_BEARER_TOKEN: %w", err)
	}
	return bearer, "", nil
}

// setUp reads the configuration, or starts the demo's sandbox in its place, and builds what it says.
func (a *app) setUp(cmd *cobra.Command) (instance, error) {
	if a.flags.demo {
		return a.setUpDemo(cmd)
	}
	c, err := a.configuration(cmd)
	if err != nil {
		return instance{}, err
	}
	return a.build(c)
}

// listens reports whether the command is to serve HTTP.
func (a *app) listens(c config.Config) bool { return a.flags.serve != nil && c.Serve.Listen != "" }

// demoSeed makes every demo the same.
const demoSeed = 7

// setUpDemo starts a sandbox in this process and connects to it. Everything it
// writes goes to a temporary directory.
func (a *app) setUpDemo(cmd *cobra.Command) (instance, error) {
	dir, err := os.MkdirTemp("", "tokenreeve-demo-")
	if err != nil {
		return instance{}, fmt.Errorf("temporary state directory: %w", err)
	}
	// The sandbox outlives the signal, so that a change under way can finish.
	vendors, err := startSandbox(context.WithoutCancel(cmd.Context()), "127.0.0.1:0", demoTokens, demoSeed)
	if err != nil {
		_ = os.RemoveAll(dir)
		return instance{}, err
	}
	closeSandbox := func() {
		_ = vendors.Close()
		_ = os.RemoveAll(dir)
	}
	c, err := demoConfig(vendors.Access(), filepath.Join(dir, "state"))
	if err != nil {
		closeSandbox()
		return instance{}, err
	}
	c.ReadOnly = a.flags.readOnly
	c.Log = config.Log{Level: a.flags.logLevel, Format: a.flags.logFormat}
	if a.flags.serve != nil {
		if c.Serve, err = config.ServeOf(*a.flags.serve); err != nil {
			closeSandbox()
			return instance{}, err
		}
	}
	demo, err := a.build(c)
	if err != nil {
		closeSandbox()
		return instance{}, err
	}
	closeServer := demo.close
	demo.close = func() {
		closeServer()
		closeSandbox()
	}
	return demo, nil
}
