package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/server"
	"github.com/tokenreeve/tokenreeve/providers"
)

// listener finds out whether HTTP can be served as configured, and reached by its names.
func (d *doctor) listener(ctx context.Context) []row {
	s := d.Config.Serve
	switch {
	case !d.CanServe(): // it was said
		return nil
	case !d.http:
		return []row{fine("serve", "nothing is listened on: stdio is served")}
	}
	var rows []row
	var leaf *x509.Certificate
	if s.TLS.Cert != "" {
		leaf, rows = certificate(s.TLS)
	}
	listens, isServed := d.address(ctx, leaf)
	rows = append(rows, listens)
	if s.MetricsListen != "" {
		rows = append(rows, d.metrics(ctx, isServed))
	}
	host, port, _ := net.SplitHostPort(s.Listen)
	if len(s.AllowedHosts) == 0 && server.IsWildcard(host) {
		rows = append(rows, warning("serve.allowed_hosts", "only clients that call it localhost are let in, although it listens on all addresses", "name it in allowed_hosts as clients do, for example mcp.example.com:"+port))
	}
	if s.BehindTLSProxy && len(s.TrustedProxies) == 0 {
		rows = append(rows, warning("serve.trusted_proxies", "no proxy is trusted to say where a caller is: nobody's failed authentications are throttled, and records have the proxy's address", "name the proxy's address"))
	}
	if leaf != nil {
		rows = append(rows, misnamed(leaf, s.AllowedHosts)...)
	}
	return rows
}

// certificate judges the certificate of the listener; it is nil where there is none.
func certificate(files config.TLS) (*x509.Certificate, []row) {
	const place = "serve.tls"
	leaf, err := server.ReadCertificate(files.Cert, files.Key)
	if err != nil {
		return nil, []row{problem(place, err.Error(), "name the PEM files of a certificate and of its key")}
	}
	rows := readable(place, files.Key)
	now := time.Now()
	const renew = "renew it; a running server takes the new files without a restart"
	switch {
	case now.Before(leaf.NotBefore):
		rows = append(rows, problem(place, "the certificate is not valid before "+leaf.NotBefore.UTC().Format(time.RFC3339), "look at this machine's clock, or at how it was made"))
	case !now.Before(leaf.NotAfter):
		rows = append(rows, problem(place, "the certificate expired on "+leaf.NotAfter.UTC().Format(time.DateOnly), renew))
	case leaf.NotAfter.Before(now.Add(providers.ExpiresSoon)):
		rows = append(rows, warning(place, "the certificate expires "+providers.InDays(leaf.NotAfter, now), renew))
	default:
		rows = append(rows, fine(place, "the certificate can be read, its key belongs to it, and it expires %s", providers.InDays(leaf.NotAfter, now)))
	}
	return leaf, rows
}

// misnamed tells which names, by which clients may call the server, its certificate does not have.
func misnamed(leaf *x509.Certificate, hosts []string) []row {
	var missing []string
	for _, host := range hosts {
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		if leaf.VerifyHostname(strings.Trim(name, "[]")) != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []row{warning("serve.tls", "the certificate is not for "+strings.Join(missing, ", "), "have one made for all of allowed_hosts")}
}

// address tries to listen. The certificate was looked at already. isServed says that a server of this
// configuration does so already.
func (d *doctor) address(ctx context.Context, leaf *x509.Certificate) (_ row, isServed bool) {
	const place = "serve.listen"
	s := d.Config.Serve
	l, err := server.Listen(ctx, server.ListenOptions{Addr: s.Listen, BehindTLSProxy: s.BehindTLSProxy || s.TLS.Cert != "", Authenticated: true}, d.log)
	if err == nil {
		err = l.Close()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && d.serves(ctx, leaf):
		return fine(place, "%s is in use by a tokenreeve that answers", s.Listen), true
	case err != nil:
		return unusable(place, err), false
	case leaf != nil:
		return fine(place, "%s is free; TLS", s.Listen), false
	case s.BehindTLSProxy:
		return fine(place, "%s is free; TLS is the proxy's", s.Listen), false
	}
	return fine(place, "%s is free; no TLS", s.Listen), false
}

func unusable(place string, err error) row {
	if errors.Is(err, syscall.EADDRINUSE) {
		return problem(place, err.Error(), "choose another address, or end what uses it")
	}
	return problem(place, err.Error(), "choose an address of this machine that may be listened on, or set what is missing")
}

// metrics tries the address of the metrics. A server that runs already has it in use.
func (d *doctor) metrics(ctx context.Context, isServed bool) row {
	const place = "serve.metrics_listen"
	s := d.Config.Serve
	l, err := server.ListenMetrics(ctx, s.MetricsListen, s.MetricsOpen)
	if err == nil {
		err = l.Close()
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && isServed:
		return fine(place, "%s is in use, as serve.listen is", s.MetricsListen)
	case err != nil:
		return unusable(place, err)
	}
	return fine(place, "%s is free", s.MetricsListen)
}

// answerTime is how long a server that runs already may take to say that it does.
const answerTime = 3 * time.Second

// serves reports whether what uses the address answers as a server of this configuration: with its
// certificate, where it has one.
func (d *doctor) serves(ctx context.Context, leaf *x509.Certificate) bool {
	host, port, _ := net.SplitHostPort(d.Config.Serve.Listen)
	if server.IsWildcard(host) {
		host = "127.0.0.1"
	}
	at := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: "/healthz"}
	transport := &http.Transport{DisableKeepAlives: true}
	if leaf != nil {
		at.Scheme = "https"
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: nameOf(leaf)}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return false
	}
	if hosts := d.Config.Serve.AllowedHosts; len(hosts) > 0 {
		r.Host = hosts[0]
	}
	response, err := (&http.Client{Transport: transport, Timeout: answerTime}).Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64))
	return err == nil && response.StatusCode == http.StatusOK && string(body) == "ok\n"
}

// nameOf returns a name that the certificate is for.
func nameOf(leaf *x509.Certificate) string {
	if len(leaf.DNSNames) > 0 {
		return strings.Replace(leaf.DNSNames[0], "*.", "any.", 1)
	}
	if len(leaf.IPAddresses) > 0 {
		return leaf.IPAddresses[0].String()
	}
	return ""
}

// callers finds out who could call over HTTP.
func (d *doctor) callers(ctx context.Context) []row {
	a := d.Config.Auth
	switch {
	case !d.IsSound("auth"): // it was said
		return nil
	case !d.http && a.IsZero():
		return nil
	case !d.http:
		return []row{fine("auth", "it counts over HTTP only, and stdio is served")}
	case a.IsZero():
		return []row{d.bearer()}
	}
	var rows []row
	if os.Getenv("TOKENREEVE_BEARER_TOKEN") != "" {
		rows = append(rows, warning("TOKENREEVE_BEARER_TOKEN", "it is ignored: the configuration names the callers", "unset it"))
	}
	for i, token := range a.StaticTokens() {
		place := "auth.tokens[" + strconv.Itoa(i) + "]"
		rows = append(rows, d.judgeGrant(place, "token:"+token.Name, token.Grant))
	}
	if a.OIDC.Issuer == "" {
		return rows
	}
	for _, value := range slices.Sorted(maps.Keys(a.OIDC.Roles)) {
		rows = append(rows, d.judgeGrant("auth.oidc.roles", "value "+strconv.Quote(value), auth.Grant(a.OIDC.Roles[value])))
	}
	return append(rows, d.provider(ctx)...)
}

// bearer judges the one token of a server whose configuration names nobody.
func (d *doctor) bearer() row {
	const place = "TOKENREEVE_BEARER_TOKEN"
	configured := os.Getenv(place)
	if configured == "" {
		return fine("auth", "nobody is named: each start makes a new bearer token and shows it once")
	}
	if _, err := auth.NewBearer(configured); err != nil {
		return problem(place, err.Error(), "make one with openssl rand -hex 32")
	}
	return fine(place, "one bearer token, an admin's")
}

// judgeGrant says what a caller may do, and warns where that is nothing.
func (d *doctor) judgeGrant(place, who string, g auth.Grant) row {
	p := auth.NewPrincipal(who, "", g)
	var usable []string
	for _, name := range slices.Sorted(maps.Keys(d.Config.Connections)) {
		if d.isUseful(p, name) {
			usable = append(usable, name)
		}
	}
	switch {
	case len(d.Config.Connections) == 0:
		return fine(place, "%s is %s", who, g.Role)
	case len(usable) == 0:
		return warning(place, fmt.Sprintf("%s is %s, and may do nothing on any connection", who, g.Role), "give another role, or look at connections there and at allow of the connections")
	case len(usable) < len(d.Config.Connections):
		return fine(place, "%s is %s on %s only", who, g.Role, strings.Join(usable, ", "))
	}
	return fine(place, "%s is %s", who, g.Role)
}

// isUseful reports whether role and policy together leave the caller anything on the connection. An
// approver needs changes that others preview.
func (d *doctor) isUseful(p auth.Principal, connection string) bool {
	if p.MayApprove("somebody else", connection) {
		return d.changes(connection)
	}
	return slices.ContainsFunc(policy.Classes(), func(class policy.Class) bool {
		return p.Allows(class, connection) && d.allows(connection, class)
	})
}

// provider asks the OpenID provider for its keys, through the client that the server asks with.
func (d *doctor) provider(ctx context.Context) []row {
	const place = "auth.oidc"
	o := d.Config.Auth.OIDC
	options := o.Options()
	options.Client, options.Log = d.client, d.log
	p, err := auth.NewOIDC(options)
	if err != nil {
		return []row{problem(place, err.Error(), "correct its settings")}
	}
	var rows []row
	usable, err := p.Probe(ctx)
	switch {
	case err != nil:
		rows = append(rows, problem(place+".issuer", err.Error(), "look at issuer, ca_file and the network; until its keys can be read, its tokens are answered with 503"))
	case usable == 0:
		rows = append(rows, problem(place+".algorithms", "none of the issuer's keys signs by "+strings.Join(o.Algorithms, " or "), "add the algorithm that the issuer signs access tokens by"))
	default:
		rows = append(rows, fine(place+".issuer", "%s answers; keys for %s: %d", o.Issuer, strings.Join(o.Algorithms, ", "), usable))
	}
	if u, err := url.Parse(o.Resource); err == nil && len(d.Config.Serve.AllowedHosts) > 0 && !names(d.Config.Serve.AllowedHosts, u) {
		rows = append(rows, warning(place+".resource", "clients look for the metadata at "+u.Host+", which is none of allowed_hosts", "add it there, or correct audience and resource"))
	}
	return rows
}

// names reports whether a Host header for the URL is one of the allowed ones.
func names(hosts []string, u *url.URL) bool {
	port := map[string]string{"https": "443", "http": "80"}[u.Scheme]
	if u.Port() != "" {
		port = u.Port()
	}
	return slices.ContainsFunc(hosts, func(host string) bool {
		return strings.EqualFold(host, u.Host) || strings.EqualFold(host, net.JoinHostPort(u.Hostname(), port))
	})
}
