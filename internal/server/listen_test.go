package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/client/transport"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

// Beyond this machine the listener wants callers who authenticate, and TLS.
func TestListen(t *testing.T) {
	t.Parallel()
	files := newFiles(t)
	files.write(t, 1)
	type options = server.ListenOptions
	anybody := func(o options) options { o.Authenticated = false; return o }
	plain := func(addr string) options { return options{Addr: addr, Authenticated: true} }
	behind := func(addr string) options { return options{Addr: addr, Authenticated: true, BehindTLSProxy: true} }
	encrypted := func(addr string) options {
		return options{Addr: addr, Authenticated: true, CertFile: files.cert, KeyFile: files.key}
	}
	for name, test := range map[string]struct {
		options options
		want    []string // in the error; none: it listens
	}{
		"loopback":                         {plain("127.0.0.1:0"), nil},
		"another loopback":                 {plain("127.0.0.2:0"), nil},
		"name":                             {plain("localhost:0"), nil},
		"loopback with TLS":                {encrypted("127.0.0.1:0"), nil},
		"wildcard":                         {plain("0.0.0.0:0"), []string{"is not a loopback address", "--tls-cert", "--behind-tls-proxy"}},
		"wildcard, no host":                {plain(":0"), []string{"is not a loopback address", "--tls-cert"}},
		"wildcard, IPv6":                   {plain("[::]:0"), []string{"is not a loopback address", "--tls-cert"}},
		"public":                           {plain("192.0.2.1:0"), []string{"is not a loopback address", "--tls-cert"}},
		"name elsewhere":                   {plain("example.com:0"), []string{"is not a loopback address"}},
		"name that begins right":           {plain("localhost.example.com:0"), []string{"is not a loopback address"}},
		"wildcard, TLS":                    {encrypted("0.0.0.0:0"), nil},
		"wildcard, behind a proxy":         {behind("0.0.0.0:0"), nil},
		"wildcard, TLS, anybody":           {anybody(encrypted("0.0.0.0:0")), []string{"callers that authenticate"}},
		"wildcard, behind, anybody":        {anybody(behind(":0")), []string{"callers that authenticate"}},
		"wildcard, plain, anybody":         {anybody(plain(":0")), []string{"callers that authenticate", "--tls-cert"}},
		"no port":                          {plain("127.0.0.1"), []string{"not HOST:PORT"}},
		"no host":                          {plain("7777"), []string{"not HOST:PORT"}},
		"nothing":                          {plain(""), []string{"not HOST:PORT"}},
		"certificate alone":                {options{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert}, []string{"belong together"}},
		"key alone":                        {options{Addr: "127.0.0.1:0", Authenticated: true, KeyFile: files.key}, []string{"belong together"}},
		"no such certificate":              {options{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert + "x", KeyFile: files.key}, []string{"--tls-cert", "no such file"}},
		"certificate in place of its key":  {options{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert, KeyFile: files.cert}, []string{"--tls-cert", "private key"}},
		"a certificate that others change": {options{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.open(t), KeyFile: files.key}, []string{"others can change it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := server.Listen(t.Context(), test.options, slog.New(slog.DiscardHandler))
			if err == nil {
				_ = l.Close()
			}
			if (err == nil) != (test.want == nil) {
				t.Fatalf("Listen: %v, want %q", err, test.want)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Listen: %v, want %q in it", err, want)
				}
			}
		})
	}
}

// files are a certificate and its key.
type files struct{ cert, key string }

func newFiles(t *testing.T) files {
	t.Helper()
	dir := t.TempDir()
	return files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

// write makes a certificate with a serial number.
func (f files) write(t *testing.T, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// open returns a copy of the certificate that everybody may write.
func (f files) open(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(f.cert)
	if err != nil {
		t.Fatal(err)
	}
	path := f.cert + ".open"
	put(t, path, data)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serial makes a handshake that trusts the certificate in the file, and returns its serial number.
func (s *web) serial(t *testing.T) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", s.listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// A certificate is used from the next handshake on, at most a second after its files changed. What
// cannot be used leaves the one before in place, and is logged once.
func TestCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	files := newFiles(t)
	files.write(t, 1)
	s := startWebOn(t, server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert, KeyFile: files.key}, server.HTTPOptions{})
	if got := s.serial(t); got != 1 {
		t.Errorf("certificate %d", got)
	}
	renew := func(serial int64) {
		t.Helper()
		files.write(t, serial)
		began := time.Now()
		for s.serial(t) != serial {
			if time.Since(began) > hang {
				t.Fatal("the certificate was not read again")
			}
		}
	}
	renew(2)
	key, err := os.ReadFile(files.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(){
		"no PEM": func() { put(t, files.cert, []byte("half a certifi")) },
		"gone":   func() { _ = os.Remove(files.cert) },
		"the key of another one": func() {
			files.write(t, 3)
			put(t, files.key, key)
		},
	} {
		logged := strings.Count(s.log.String(), "is not used")
		spoil()
		for strings.Count(s.log.String(), "is not used") == logged {
			if got := s.serial(t); got != 2 {
				t.Fatalf("%s: certificate %d", name, got)
			}
		}
	}
	renew(4)
	if strings.Contains(s.log.String(), "half a certifi") || strings.Contains(s.log.String(), string(bytes.Split(key, []byte("\n"))[1])) {
		t.Errorf("the log holds what stands in the files:\n%s", s.log)
	}
}

// Clients that verify the certificate reach everything over TLS, and nothing older than TLS 1.2.
func TestTLS(t *testing.T) {
	t.Parallel()
	files := newFiles(t)
	files.write(t, 1)
	s := startWebOn(t, server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert, KeyFile: files.key}, server.HTTPOptions{})
	close(s.release)
	data, err := os.ReadFile(files.cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data)
	s.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Errorf("the URL is %s", s.url)
	}
	for _, version := range []string{legacy, modern} {
		c := s.streamable(t, version, token, transport.WithHTTPBasicClient(s.client))
		if got, err := answer(t.Context(), c, "read"); got != "finished" {
			t.Errorf("%s: %q, %v", version, got, err)
		}
	}
	if response := s.do(t, http.MethodGet, "/healthz", "", nil); response.ProtoMajor != 1 { // though the client asks for more
		t.Errorf("%s is spoken", response.Proto)
	}
	events, messages, _ := s.open(t)
	s.call(t, messages, "change")
	events.await(t, "finished")
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: version}}
		conn, err := dialer.DialContext(t.Context(), "tcp", s.listener.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	// Plain HTTP gets nothing but a refusal.
	response, err := http.Get("http://" + s.listener.Addr().String() + "/healthz")
	if err == nil {
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: status %d %s", response.StatusCode, body)
		}
	}
	s.finish(t)
	events.await(t, cleanEnd)
}

// Who connects and does not shake hands is not waited for.
func TestSlowHandshake(t *testing.T) {
	t.Parallel()
	files := newFiles(t)
	files.write(t, 1)
	s := startWebOn(t, server.ListenOptions{Addr: "127.0.0.1:0", Authenticated: true, CertFile: files.cert, KeyFile: files.key},
		server.HTTPOptions{Times: server.Times{Read: short}})
	wantEnd(t, s.raw(t, ""))
	wantEnd(t, s.raw(t, "\x16\x03\x01"))
}
