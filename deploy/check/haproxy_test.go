package check

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// haproxy lets the installed one judge a configuration, where a warning counts as well. It needs a
// certificate, so one is made for it.
func haproxy(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "check-haproxy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certificate := filepath.Join(dir, "tls.pem")
	if err := writeCertificate(certificate); err != nil {
		return err
	}
	const place = "crt /run/secrets/tls.pem"
	if !bytes.Contains(data, []byte(place)) {
		return fmt.Errorf("%s does not say %s", file, place)
	}
	copied := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(copied, bytes.ReplaceAll(data, []byte(place), []byte("crt "+certificate)), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "haproxy", "-c", "-dW", "-f", copied).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return checkCare(string(data))
}

// checkCare wants what HAProxy does not: that nothing which may have reached a replica is sent again,
// and that the log holds no session's id.
func checkCare(content string) error {
	var problems []error
	for line := range strings.Lines(content) {
		words := strings.Fields(line)
		if len(words) > 1 && words[0] == "retry-on" && !strings.EqualFold(strings.Join(words[1:], " "), "conn-failure") {
			problems = append(problems, fmt.Errorf("%q would send a change twice", strings.TrimSpace(line)))
		}
		if len(words) > 1 && words[0] == "log-format" && slices.ContainsFunc(strings.FieldsFunc(line, isBetween), isTelling) {
			problems = append(problems, errors.New("the log would hold sessions' ids"))
		}
		if len(words) > 1 && words[0] == "option" && (words[1] == "httplog" || words[1] == "httpslog" || words[1] == "forwardfor") {
			problems = append(problems, fmt.Errorf("option %s: the log would hold sessions' ids, or a client's own X-Forwarded-For would stay", words[1]))
		}
	}
	if !strings.Contains(content, "http-request set-header X-Forwarded-For %[src]\n") {
		problems = append(problems, errors.New("a client's own X-Forwarded-For stays"))
	}
	return errors.Join(problems...)
}

// isBetween reports what stands between the fields of a log format.
func isBetween(r rune) bool { return strings.ContainsRune(` "/:[]{}`, r) }

// isTelling reports a field that holds a request's query or headers.
func isTelling(field string) bool {
	return slices.Contains([]string{"%r", "%HU", "%HQ", "%HP", "%hr", "%hrl", "%hs", "%hsl"}, field)
}

func writeCertificate(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	content := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, content, 0o600)
}
