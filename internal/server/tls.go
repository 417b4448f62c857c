package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/trustedfile"
)

const (
	maxPEM = 1 << 20 // bytes
	// certificateTime is how often the files are looked at, at most.
	certificateTime = time.Second
)

// encrypted returns the settings of TLS with a certificate from files. HTTP/2 is not offered: with
// it, streams of one client would share a connection, and its bounds.
func encrypted(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("--tls-cert and --tls-key belong together")
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, log: logger}
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}, nil
}

// ReadCertificate returns the certificate in PEM files as Listen takes it, where the key is its own.
func ReadCertificate(certFile, keyFile string) (*x509.Certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.New(slog.DiscardHandler)}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c.pair.Leaf, nil
}

// certificate is a certificate with its key, from files that may be replaced while it is used.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	looked time.Time
	digest []byte // of both files, as they were last read
	pair   *tls.Certificate
	fault  string // why they were last not taken
}

// current looks at the files again once a second has passed. What cannot be used does not replace
// what can: whoever renews a certificate may write its files one after the other.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateTime {
		return c.pair
	}
	err := c.read()
	if err == nil {
		c.fault = ""
		return c.pair
	}
	if text := err.Error(); text != c.fault {
		c.fault = text
		c.log.Error("the new TLS certificate is not used; the one before is kept", "error", err)
	}
	return c.pair
}

// read takes the files' content where it is new.
func (c *certificate) read() error {
	c.looked = time.Now()
	chain, err := trustedfile.Read(c.certFile, maxPEM)
	if err != nil {
		return err
	}
	key, err := trustedfile.Read(c.keyFile, maxPEM)
	if err != nil {
		return err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%d ", len(chain))
	hash.Write(chain)
	hash.Write(key)
	digest := hash.Sum(nil)
	if slices.Equal(digest, c.digest) {
		return nil
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("%s with %s: %w", c.certFile, c.keyFile, err)
	}
	if c.pair != nil {
		c.log.Info("the TLS certificate was renewed", "not_after", pair.Leaf.NotAfter)
	}
	c.pair, c.digest = &pair, digest
	return nil
}
