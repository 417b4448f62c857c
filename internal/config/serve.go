package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/auth"
)

const (
	maxSessions = 100_000
	maxCalls    = 1000
)

// ServeFlags are the flags of the command that serves. An empty member means that its flag was not
// given.
type ServeFlags struct {
	Listen         string   // --listen
	Transport      string   // --transport
	TLSCert        string   // --tls-cert, relative to the working directory
	TLSKey         string   // --tls-key, likewise
	BehindTLSProxy *bool    // --behind-tls-proxy
	AllowedHosts   []string // --allowed-hosts
	AllowedOrigins []string // --allowed-origins
	TrustedProxies []string // --trusted-proxies
	MetricsListen  string   // --metrics-listen
	MetricsOpen    *bool    // --metrics-open
	MaxSessions    *int     // --max-sessions
	MaxCalls       *int     // --max-calls
}

// ServeOf returns what the flags say without a file. Its error is a *Problems.
func ServeOf(flags ServeFlags) (Serve, error) {
	l := newLoader(Options{})
	l.config.Serve.setDefaults()
	l.applyServeFlags(flags)
	if len(l.problems.list) > 0 {
		return Serve{}, &Problems{List: l.problems.list}
	}
	return l.config.Serve, nil
}

// servePlaces are where each setting was said, for problems.
type servePlaces struct {
	listen, transport, cert, key, hosts, origins, metrics, sessions, calls string
}

// checkServe judges what the file says.
func (l *loader) checkServe() {
	s := &l.config.Serve
	if s.TLS.Cert != "" {
		s.TLS.Cert = l.checkPath("serve.tls.cert", s.TLS.Cert)
	}
	if s.TLS.Key != "" {
		s.TLS.Key = l.checkPath("serve.tls.key", s.TLS.Key)
	}
	l.judgeProxies("serve.trusted_proxies", s.TrustedProxies)
	l.judgeServe(*s, servePlaces{
		"serve.listen", "serve.transport", "serve.tls.cert", "serve.tls.key", "serve.allowed_hosts", "serve.allowed_origins", "serve.metrics_listen", "serve.max_sessions", "serve.max_calls",
	})
}

func (l *loader) judgeProxies(place string, proxies []string) {
	if _, err := auth.ParseProxies(proxies); err != nil {
		l.problems.add(place, "%v", err)
	}
}

// applyServeFlags puts the flags over what the file says, and judges them.
func (l *loader) applyServeFlags(f ServeFlags) {
	s := &l.config.Serve
	s.Listen = orElse(f.Listen, s.Listen)
	s.Transport = orElse(f.Transport, s.Transport)
	s.TLS.Cert = orElse(l.flagPath("--tls-cert", f.TLSCert), s.TLS.Cert)
	s.TLS.Key = orElse(l.flagPath("--tls-key", f.TLSKey), s.TLS.Key)
	if f.BehindTLSProxy != nil {
		s.BehindTLSProxy = *f.BehindTLSProxy
	}
	if len(f.AllowedHosts) > 0 {
		s.AllowedHosts = f.AllowedHosts
	}
	if len(f.AllowedOrigins) > 0 {
		s.AllowedOrigins = f.AllowedOrigins
	}
	if len(f.TrustedProxies) > 0 {
		s.TrustedProxies = f.TrustedProxies
		l.judgeProxies("--trusted-proxies", s.TrustedProxies)
	}
	s.MetricsListen = orElse(f.MetricsListen, s.MetricsListen)
	if f.MetricsOpen != nil {
		s.MetricsOpen = *f.MetricsOpen
	}
	if f.MaxSessions != nil {
		s.MaxSessions = *f.MaxSessions
	}
	if f.MaxCalls != nil {
		s.MaxCalls = *f.MaxCalls
	}
	if len(l.problems.list) == 0 { // else what the file says would be told again
		l.judgeServe(*s, flagPlaces())
	}
}

func flagPlaces() servePlaces {
	return servePlaces{"--listen", "--transport", "--tls-cert", "--tls-key", "--allowed-hosts", "--allowed-origins", "--metrics-listen", "--max-sessions", "--max-calls"}
}

func (l *loader) flagPath(place, path string) string {
	if path == "" {
		return ""
	}
	absolute, err := l.dirs.absolute(path)
	if err != nil {
		l.problems.add(place, "%v", err)
	}
	return absolute
}

func (l *loader) judgeServe(s Serve, at servePlaces) {
	ps := &l.problems
	if _, _, err := net.SplitHostPort(s.Listen); s.Listen != "" && err != nil {
		ps.add(at.listen, "is %s; valid: HOST:PORT, for example 127.0.0.1:7777", quote(s.Listen))
	}
	if _, _, err := net.SplitHostPort(s.MetricsListen); s.MetricsListen != "" && err != nil {
		ps.add(at.metrics, "is %s; valid: HOST:PORT, for example 127.0.0.1:9464", quote(s.MetricsListen))
	}
	checkOneOf(ps, at.transport, s.Transport, []string{TransportSSE, TransportHTTP, TransportBoth})
	if s.TLS.Cert == "" && s.TLS.Key != "" {
		ps.add(at.cert, "is missing; a key needs its certificate")
	}
	if s.TLS.Cert != "" && s.TLS.Key == "" {
		ps.add(at.key, "is missing; a certificate needs its key")
	}
	for i, host := range s.AllowedHosts {
		if !isHost(host) {
			ps.add(element(at.hosts, i), "is %s; valid: HOST or HOST:PORT, for example mcp.example.com", quote(host))
		}
	}
	for i, origin := range s.AllowedOrigins {
		if !isOrigin(origin) {
			ps.add(element(at.origins, i), "is %s; valid: the scheme and host of a web page, for example https://app.example.com", quote(origin))
		}
	}
	if s.MaxSessions < 1 || s.MaxSessions > maxSessions {
		ps.add(at.sessions, "is out of range; valid: 1 to %d", maxSessions)
	}
	if s.MaxCalls < 1 || s.MaxCalls > maxCalls {
		ps.add(at.calls, "is out of range; valid: 1 to %d", maxCalls)
	}
}

// isHost reports whether s is HOST or HOST:PORT as they stand in a Host header. No pattern is: a
// name that is not written out could be anybody's.
func isHost(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	} else if inner, ok := strings.CutPrefix(s, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	if net.ParseIP(host) != nil {
		return true
	}
	return host != "" && strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_") == ""
}

// isOrigin reports whether s is SCHEME://HOST or SCHEME://HOST:PORT, as browsers write an origin.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	return s == u.Scheme+"://"+u.Host && isHost(u.Host)
}
