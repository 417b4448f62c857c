package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
)

// Sandbox is the three simulated vendors and their control.
type Sandbox struct {
	options      Options
	env          *environment
	atlassian    *atlassian
	launchDarkly *launchDarkly
	mailtrap     *mailtrap
	faults       faultList
	late         sync.WaitGroup // requests that FaultLate put off
	log          *requestLog
}

// environment is what all vendors share: clock, seed, canary and journal.
type environment struct {
	clock  func() time.Time
	seed   uint64
	canary atomic.Pointer[string]
	journal
}

// now is the clock in Unix milliseconds, the unit of every date in here.
func (e *environment) now() int64 { return e.clock().UnixMilli() }

func (e *environment) marker() string {
	if p := e.canary.Load(); p != nil {
		return *p
	}
	return ""
}

// New generates the data and returns a sandbox that is ready to serve. It
// refuses options out of range.
func New(o Options) (*Sandbox, error) {
	if err := o.normalize(); err != nil {
		return nil, err
	}
	env := &environment{clock: o.Now, seed: o.Seed}
	if o.Canary != "" {
		env.canary.Store(&o.Canary)
	}
	nAtlassian, nLaunchDarkly, nMailtrap := o.shares()
	now := env.now()
	company := newCompany(o.Seed, max(nAtlassian, nLaunchDarkly, nMailtrap))
	return &Sandbox{
		options:      o,
		env:          env,
		atlassian:    newAtlassian(env, o.Atlassian, company, nAtlassian, now),
		launchDarkly: newLaunchDarkly(env, o.LaunchDarkly, company, nLaunchDarkly, now),
		mailtrap:     newMailtrap(env, o.Mailtrap, company, nMailtrap, now),
		faults:       faultList{seed: o.Seed},
		log:          newRequestLog(o.RequestLog),
	}, nil
}

// SetCanary changes Options.Canary; "" removes it.
func (s *Sandbox) SetCanary(canary string) { s.env.canary.Store(&canary) }

// Handler serves all vendors, below /atlassian, /launchdarkly and /mailtrap, and
// the control below /_sandbox/.
func (s *Sandbox) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// The vendors' names, in base URLs, faults and recorded requests.
const (
	Atlassian    = "atlassian"
	LaunchDarkly = "launchdarkly"
	Mailtrap     = "mailtrap"
)

// vendor answers one call, and knows the documented form of a refusal.
type vendor interface {
	serve(c *call) answer
	// refusal is the vendor's documented answer with that status, for a fault
	// ordered by a test; reset is when a rate limit ends, in Unix milliseconds.
	refusal(c *call, status int, reset int64) answer
}

// serve dispatches on the first path segment. It does not use http.ServeMux,
// which would answer an odd path with a redirect before it could be recorded.
func (s *Sandbox) serve(w http.ResponseWriter, r *http.Request) {
	prefix, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	switch prefix {
	case Atlassian:
		s.serveVendor(w, r, prefix, "/"+rest, s.atlassian)
	case LaunchDarkly:
		s.serveVendor(w, r, prefix, "/"+rest, s.launchDarkly)
	case Mailtrap:
		s.serveVendor(w, r, prefix, "/"+rest, s.mailtrap)
	case "_sandbox":
		s.serveControl(w, r, rest)
	default:
		http.Error(w, "no such vendor: the sandbox serves /atlassian, /launchdarkly, /mailtrap and /_sandbox/", http.StatusNotFound)
	}
}

// Server is a sandbox that listens.
type Server struct {
	sandbox *Sandbox
	url     string
	http    *http.Server
	stop    func() bool
	done    chan struct{}
	err     error
}

// Start listens on addr, a loopback address such as "127.0.0.1:0", and serves
// until Close or until ctx ends. It refuses every address that is not loopback:
// the sandbox's control has no authentication.
func (s *Sandbox) Start(ctx context.Context, addr string) (*Server, error) {
	if err := checkLoopback(addr); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sandbox: listen: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = listener.Close()
		return nil, fmt.Errorf("sandbox: %s is not a loopback address", addr)
	}
	srv := &Server{
		sandbox: s,
		url:     "http://" + listener.Addr().String(),
		http:    &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute},
		done:    make(chan struct{}),
	}
	go func() {
		defer close(srv.done)
		if err := srv.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			srv.err = err
		}
	}()
	srv.stop = context.AfterFunc(ctx, func() { _ = srv.shutdown() })
	return srv, nil
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("sandbox: listen address: %w", err)
	}
	if !loopback.IsHost(host) {
		return fmt.Errorf("sandbox: %s is not a loopback address", addr)
	}
	return nil
}

// URL is the server's base, such as http://127.0.0.1:40213, without a slash at the end.
func (srv *Server) URL() string { return srv.url }

// Access is the sandbox's Access at this server.
func (srv *Server) Access() Access { return srv.sandbox.Access(srv.url) }

// Done is closed when the server has ended.
func (srv *Server) Done() <-chan struct{} { return srv.done }

// Close ends the server: requests under way have two seconds, then their
// connections are cut. It waits, and returns the error that ended serving, if any.
func (srv *Server) Close() error {
	srv.stop()
	err := srv.shutdown()
	<-srv.done
	if srv.err != nil {
		return srv.err
	}
	return err
}

func (srv *Server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := srv.http.Shutdown(ctx); err != nil {
		return srv.http.Close()
	}
	return nil
}

// Access is where the vendors are and what opens them. Its JSON is one line of
// `tokenreeve sandbox`.
type Access struct {
	Atlassian    AtlassianAccess    `json:"atlassian"`
	LaunchDarkly LaunchDarklyAccess `json:"launchdarkly"`
	Mailtrap     MailtrapAccess     `json:"mailtrap"`
	// Control is the base URL of the control API, with a slash at the end.
	Control string `json:"control"`
}

// AtlassianAccess names the organization and its API keys.
type AtlassianAccess struct {
	BaseURL string `json:"base_url"`
	OrgID   string `json:"org_id"`
	// Credential is an organization API key without scopes: it serves both APIs.
	Credential string `json:"credential"`
	// ScopedCredential may read and delete tokens through API Access only.
	ScopedCredential string `json:"scoped_credential"`
	// ReadOnlyCredential has the read scopes of API Access only.
	ReadOnlyCredential string `json:"read_only_credential"`
	// ExpiredCredential is a key whose life has ended: 401 everywhere.
	ExpiredCredential string `json:"expired_credential"`
}

// LaunchDarklyAccess names the account's credentials.
type LaunchDarklyAccess struct {
	BaseURL string `json:"base_url"`
	// Credential is a service token with the admin role; TokenID is its record.
	Credential string `json:"credential"`
	TokenID    string `json:"token_id"`
	// ReaderCredential is a personal token with the reader role.
	ReaderCredential string `json:"reader_credential"`
	// WriterCredential is a service token with the writer role.
	WriterCredential string `json:"writer_credential"`
	// PersonalAdminCredential is a personal token with the admin role: showAll matters.
	PersonalAdminCredential string `json:"personal_admin_credential"`
	// CustomCredential is a service token whose custom role allows the token actions.
	CustomCredential string `json:"custom_credential"`
	// OldVersionCredential is an admin service token whose default API version is 20160426.
	OldVersionCredential string `json:"old_version_credential"`
}

// MailtrapAccess names the account's credentials.
type MailtrapAccess struct {
	BaseURL   string `json:"base_url"`
	AccountID int64  `json:"account_id"`
	// Credential is a token with admin access to the account; TokenID is its record.
	Credential string `json:"credential"`
	TokenID    int64  `json:"token_id"`
	// ProjectCredential has admin access to one project only.
	ProjectCredential string `json:"project_credential"`
	// ViewerCredential has viewer access to the account only.
	ViewerCredential string `json:"viewer_credential"`
}

// Access tells where the vendors are below baseURL, such as the URL of an
// httptest server around Handler. The credentials are those made by New, whatever
// became of them since.
func (s *Sandbox) Access(baseURL string) Access {
	baseURL = strings.TrimRight(baseURL, "/")
	access := Access{
		Atlassian:    s.atlassian.access,
		LaunchDarkly: s.launchDarkly.access,
		Mailtrap:     s.mailtrap.access,
		Control:      baseURL + "/_sandbox/",
	}
	access.Atlassian.BaseURL = baseURL + "/" + Atlassian
	access.LaunchDarkly.BaseURL = baseURL + "/" + LaunchDarkly
	access.Mailtrap.BaseURL = baseURL + "/" + Mailtrap
	return access
}

// Secrets lists every secret that ever existed: those of the data, those minted
// since, and those already dead. For tests which prove that none leaks.
func (s *Sandbox) Secrets() []string {
	return slices.Concat(s.atlassian.secrets(), s.launchDarkly.secrets(), s.mailtrap.secrets())
}
