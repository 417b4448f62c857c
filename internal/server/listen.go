package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
)

// ListenOptions say where HTTP is served, and how its callers are protected on the way.
type ListenOptions struct {
	Addr string // HOST:PORT
	// CertFile and KeyFile are PEM files of the certificate chain and its key, for TLS.
	CertFile, KeyFile string
	// BehindTLSProxy says that a proxy in front does TLS.
	BehindTLSProxy bool
	// Authenticated says that callers authenticate.
	Authenticated bool
}

// Listener is where HTTP is served.
type Listener struct {
	net.Listener
	// URL is the listener's own, without a path.
	URL string
	// Hosts are the names, with port, by which a client on this machine reaches it or, where it
	// listens on an address that other machines reach, that address.
	Hosts []string

	connections *connections

	isSecure   bool // clients use TLS, here or at the proxy
	isWildcard bool // all of this machine's addresses lead here
}

// Listen opens the listener. Beyond this machine it wants callers who authenticate, and TLS.
func Listen(ctx context.Context, o ListenOptions, logger *slog.Logger) (*Listener, error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("--listen %q is not HOST:PORT, for example 127.0.0.1:7777", o.Addr)
	}
	hasTLS := o.CertFile != "" || o.KeyFile != ""
	if err := checkReach(o, host, hasTLS); err != nil {
		return nil, err
	}
	var encryption *tls.Config
	if hasTLS {
		if encryption, err = encrypted(o.CertFile, o.KeyFile, logger); err != nil {
			return nil, err
		}
	}
	var config net.ListenConfig
	inner, err := config.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	bounded := boundConnections(inner, spareConnections, logger)
	l := &Listener{Listener: bounded, connections: bounded, URL: "http://" + inner.Addr().String(), isSecure: hasTLS || o.BehindTLSProxy, isWildcard: IsWildcard(host)}
	l.Hosts = hostsOf(host, inner.Addr().(*net.TCPAddr).Port)
	if hasTLS {
		l.Listener, l.URL = tls.NewListener(bounded, encryption), "https://"+inner.Addr().String()
	}
	return l, nil
}

// checkReach refuses an address that other machines reach where callers could be anybody, or what
// they present could be read on the way.
func checkReach(o ListenOptions, host string, hasTLS bool) error {
	if loopback.IsHost(host) {
		return nil
	}
	var missing []string
	if !o.Authenticated {
		missing = append(missing, "callers that authenticate")
	}
	if !hasTLS && !o.BehindTLSProxy {
		missing = append(missing, "TLS, since callers present a token (--tls-cert and --tls-key, or --behind-tls-proxy where a proxy in front does it)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("--listen %q is not a loopback address: other machines could connect, which needs %s; without that use 127.0.0.1:PORT, [::1]:PORT or localhost:PORT",
		o.Addr, strings.Join(missing, ", and "))
}

// IsWildcard reports whether a listener on host listens on all addresses of this machine.
func IsWildcard(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func hostsOf(host string, port int) []string {
	own := net.JoinHostPort(strings.ToLower(host), strconv.Itoa(port))
	switch local := auth.LoopbackHosts(port); {
	case IsWildcard(host), loopback.IsHost(host) && slices.Contains(local, own):
		return local
	case loopback.IsHost(host):
		return append(local, own)
	default:
		return []string{own}
	}
}
