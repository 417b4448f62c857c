// Package transport is the one HTTP client for all vendors: credentials,
// pacing, retries and error mapping. It opens a secret only to put it into the
// Authorization header of a request to the configured host.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options are the settings that all vendors share.
type Options struct {
	UserAgent string
	RootCAs   []byte        // PEM certificates trusted besides the system's
	Timeout   time.Duration // for one attempt, from dial to the last byte; of a stream, to its headers and for each silence
	Reserve   float64       // share of a vendor's budget left to everybody else, 0 to 1
	// ObserveRequest is told of every request right before it is sent, and end once with the status of
	// its answer, 0 where there is none, and with why there is no whole answer, empty where there is.
	// Nil: nobody is told.
	ObserveRequest func(ctx context.Context, s Sending) (end func(status int, failed string))
	// ObserveBudget is told what an answer tells of a budget; route is empty where the budget is for all
	// routes. Nil: nobody is told.
	ObserveBudget func(b Budget, route string)
}

// Sending is a request as others may see it: without ids, headers and body.
type Sending struct {
	Method string
	Route  string // of the request
	Host   string // the vendor's, as [Host] spells it
	Resend int    // how often it was sent before
}

// The limits of one exchange.
const (
	defaultTimeout   = 30 * time.Second
	maxBody          = 8 << 20 // bytes of an answer that is not streamed
	maxErrorBody     = 64 << 10
	maxStreamElement = 1 << 20
	// idlePerHost lets every page in flight of every call in flight keep its
	// connection; net/http keeps two by default and then opens dozens.
	idlePerHost = 64
)

// New returns the HTTP client behind every connection. It follows no redirect:
// a redirect could carry the credential to another host.
func New(o Options) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.RootCAs) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		if !pool.AppendCertsFromPEM(o.RootCAs) {
			return nil, errors.New("there is no PEM certificate")
		}
		tlsConfig.RootCAs = pool
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    10 * time.Second,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           4 * idlePerHost,
			MaxIdleConnsPerHost:    idlePerHost,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 1 << 20,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Host returns the host of a base URL in one spelling, with its port unless that is
// the scheme's own: two spellings name one account. Empty where base is no URL.
func Host(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	port := u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return host
	}
	return net.JoinHostPort(host, port)
}
