package server

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// What a web page of an allowed origin may send and see.
const (
	corsMethods = "GET, POST, DELETE"
	corsHeaders = "Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, Mcp-Protocol-Version, Mcp-Session-Id, Traceparent, Tracestate"
	corsExposed = "Mcp-Session-Id, Retry-After, WWW-Authenticate"
	corsSeconds = "600"
)

// access is which servers a request may name, and which web pages may send it.
type access struct {
	hosts   []string // HOST:PORT in lower case
	origins []string // SCHEME://HOST:PORT in lower case
	port    string   // stands where a Host header names none
}

func newAccess(hosts, origins []string, isSecure bool) access {
	a := access{port: "80"}
	if isSecure {
		a.port = "443"
	}
	for _, host := range hosts {
		a.hosts = append(a.hosts, withPort(host, a.port))
	}
	for _, origin := range origins {
		if scheme, host, ok := splitOrigin(origin); ok {
			a.origins = append(a.origins, scheme+"://"+host)
		}
	}
	return a
}

// check answers 403 to a request for another server, and to one from a web page of an origin that
// is neither ours nor allowed. Without it any web page could reach the server through its reader's
// browser, under a name that it points here.
func (a access) check(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(a.origins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		origins := r.Header.Values("Origin")
		switch {
		case !slices.Contains(a.hosts, withPort(r.Host, a.port)):
			refusal.Write(w, http.StatusForbidden, "forbidden_host", "the Host header names another server than this one; the operator can name it in --allowed-hosts")
		case len(origins) == 0 || len(origins) == 1 && a.isOwn(origins[0]):
			next.ServeHTTP(w, r)
		case len(origins) > 1 || !a.allows(origins[0]):
			refusal.Write(w, http.StatusForbidden, "forbidden_origin", "the Origin header names a page that may not call this server; the operator can add it to --allowed-origins")
		default:
			a.cross(next, w, r)
		}
	})
}

// cross answers a browser for a page of an allowed origin. Such a page authenticates in each request:
// cookies and the like are not asked for.
func (a access) cross(next http.Handler, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		w.Header().Set("Access-Control-Expose-Headers", corsExposed)
		next.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Access-Control-Allow-Methods", corsMethods)
	w.Header().Set("Access-Control-Allow-Headers", corsHeaders)
	w.Header().Set("Access-Control-Max-Age", corsSeconds)
	w.WriteHeader(http.StatusNoContent)
}

// isOwn reports whether the page came from this server.
func (a access) isOwn(origin string) bool {
	_, host, ok := splitOrigin(origin)
	return ok && slices.Contains(a.hosts, host)
}

func (a access) allows(origin string) bool {
	scheme, host, ok := splitOrigin(origin)
	return ok && slices.Contains(a.origins, scheme+"://"+host)
}

// splitOrigin returns the scheme and HOST:PORT of a web page's origin.
func splitOrigin(origin string) (scheme, host string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", false
	}
	port, ok := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return u.Scheme, withPort(u.Host, port), ok
}

// withPort returns host in lower case, with the port where it names none.
func withPort(host, port string) string {
	host = strings.ToLower(host)
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
