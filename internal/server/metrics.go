package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/refusal"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
)

const metricsPath = "/metrics"

// maxWatchers is how many connections the address for the metrics alone takes.
const maxWatchers = 64

// metrics shows the metrics to callers who may read, of connections those that they may know of.
func (v *service) metrics(w http.ResponseWriter, r *http.Request) {
	p, _ := auth.PrincipalFrom(r.Context())
	if !p.Allows(policy.Read, "") {
		v.options.Resource.Forbid(w, "role_refused", fmt.Sprintf("the role %s may not read the metrics; ask whoever runs this server for another role", p.Role))
		return
	}
	v.writeMetrics(w, r, func(connection string) bool { return p.Allows(policy.Read, connection) })
}

func (v *service) writeMetrics(w http.ResponseWriter, r *http.Request, shows func(connection string) bool) {
	w.Header().Set("Content-Type", telemetry.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	_ = telemetry.WriteText(w, v.options.Telemetry.Read(r.Context()), shows) // whoever asked is gone
}

// ListenMetrics opens an address for /metrics alone, which whoever reaches it may read. Beyond this
// machine it is opened only where isOpen says that this is meant.
func ListenMetrics(ctx context.Context, addr string, isOpen bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics-listen %q is not HOST:PORT, for example 127.0.0.1:9464", addr)
	}
	if !loopback.IsHost(host) && !isOpen {
		return nil, fmt.Errorf("--metrics-listen %q is not a loopback address: whoever reaches it could read the metrics, which hold no secret but tell what is used and how much; "+
			"leave it out, and /metrics stands on the main listener for callers who may read, or say --metrics-open", addr)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", addr)
}

// serveMetrics serves /metrics on the listener until the function is called.
func (v *service) serveMetrics(ctx context.Context, l net.Listener) (end func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+metricsPath, func(w http.ResponseWriter, r *http.Request) {
		v.writeMetrics(w, r, func(string) bool { return true })
	})
	bounded := boundConnections(l, maxWatchers, v.log)
	s := v.boundedServer(context.WithoutCancel(ctx), v.refuseWebPages(mux), bounded)
	s.WriteTimeout = v.options.Times.Read + v.options.Times.Write // nothing here is a stream
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.Serve(bounded); !errors.Is(err, http.ErrServerClosed) {
			v.log.Error("metrics are not served any more", "error", err)
		}
	}()
	return func() {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if s.Shutdown(wait) != nil {
			_ = s.Close() // what is cut off is a reading of the metrics
		}
		<-served
	}
}

// refuseWebPages refuses what a web page can have its reader's browser send: a request with an Origin, and
// one under a host name that the page's owner may have pointed at this machine (DNS rebinding). An
// address is no such name.
func (v *service) refuseWebPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Origin") != "":
			refusal.Write(w, http.StatusForbidden, "forbidden_origin", "the metrics are for no web page")
		case !v.isOwnName(r.Host):
			refusal.Write(w, http.StatusForbidden, "forbidden_host", "the Host header names another server than this one; the operator can name it in --allowed-hosts")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (v *service) isOwnName(hostPort string) bool {
	name := nameOf(hostPort)
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" {
		return true
	}
	return slices.ContainsFunc(v.options.Hosts, func(own string) bool { return nameOf(own) == name })
}

// nameOf returns the host of a Host header without its port.
func nameOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		hostPort = host
	}
	return strings.ToLower(strings.Trim(hostPort, "[]"))
}
