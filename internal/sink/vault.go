package sink

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const (
	vaultMount   = "secret"
	vaultField   = "value"
	vaultTimeout = 10 * time.Second
	// maxVaultBody caps an answer, in bytes. Vault itself takes no entry above 1 MiB by default.
	maxVaultBody = 2 << 20
)

var (
	_ Sink   = (*Vault)(nil)
	_ Holder = (*Vault)(nil)
)

// Source gives a credential.
type Source interface {
	Read(ctx context.Context) (secret.Secret, error)
}

// VaultOptions configure a vault sink.
type VaultOptions struct {
	// Address is the server's, for example https://vault.example.com:8200. Plain http is for loopback only.
	Address string
	// Namespace is the namespace at Vault Enterprise; empty is the root.
	Namespace string
	// Mount is where the KV version 2 engine is mounted; empty means "secret".
	Mount string
	// Prefix stands before each key in the engine, for example "ci/tokens"; empty is none.
	Prefix string
	// Field is the field of the entry that holds the secret; empty means "value".
	Field string
	// Token gives the Vault token, anew for each use.
	Token Source
	// CA gives the certificates, in PEM, that the server's must descend from, at the first use; nil
	// means the system's.
	CA func() ([]byte, error)
	// Timeout is for one request; 0 means 10 s.
	Timeout time.Duration
	Accept  Accept
}

// Vault is a sink that keeps secrets in a KV version 2 engine, by its HTTP API
// (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2). OpenBao has the same.
//
// A secret is one field of an entry. All writes are check-and-set: an entry is made only where none
// is, and a next version only on the one that was read; other fields of the entry are carried over.
// The token needs create, update and read on the data path. Redirects are not followed.
//
// It does without github.com/hashicorp/vault/api (v1.23.0), since every start of the server would pay
// for that package, also without a vault sink: it compiles 38 regular expressions when the process
// begins. With it, go run ./internal/bench -only start goes from 1.38 to 1.50 times the bare server,
// of 1.4 allowed, and -only memory from 1.51 to 1.61. Its NewClient also reads the VAULT_ variables
// whatever it is told, and fails where one is malformed.
type Vault struct {
	door
	options VaultOptions

	mu     sync.Mutex
	client *http.Client // made at the first use
}

// NewVault returns the vault sink called name. Nothing is sent yet; [Vault.Check] does that.
func NewVault(name string, o VaultOptions) (*Vault, error) {
	d, err := newDoor(name, o.Accept)
	if err != nil {
		return nil, err
	}
	if err := joined(o.Faults()); err != nil {
		return nil, d.wrap(err)
	}
	if o.Token == nil {
		return nil, d.wrap(errors.New("there is no source for the Vault token"))
	}
	o.Address = strings.TrimRight(o.Address, "/")
	o.Mount = cmp.Or(strings.Trim(o.Mount, "/"), vaultMount)
	o.Prefix = strings.Trim(o.Prefix, "/")
	o.Field = cmp.Or(o.Field, vaultField)
	o.Timeout = cmp.Or(o.Timeout, vaultTimeout)
	return &Vault{door: d, options: o}, nil
}

// Faults returns what is wrong with o, but for the token and what [Accept.Faults] says.
func (o VaultOptions) Faults() []Fault {
	var faults []Fault
	if err := checkAddress(strings.TrimRight(o.Address, "/")); err != nil {
		faults = append(faults, Fault{"address", err})
	}
	paths := []struct{ setting, value string }{{"namespace", o.Namespace}, {"mount", o.Mount}, {"prefix", o.Prefix}}
	for _, path := range paths {
		trimmed := strings.Trim(path.value, "/")
		if _, err := ParseKey(trimmed); trimmed != "" && err != nil {
			faults = append(faults, fault(path.setting, "the %s is not valid: it has segments of letters, digits, \".\", \"_\" and \"-\" parted by \"/\"", path.setting))
		}
	}
	if o.Timeout < 0 {
		faults = append(faults, fault("timeout", "the timeout is negative; valid is for example 10s"))
	}
	return faults
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" {
		return errors.New("the address is not valid; it is a scheme and a host, for example https://vault.example.com:8200")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback.IsHost(u.Hostname())) {
		return errors.New("the address must begin with https://, since secrets are sent there; http:// is for loopback only")
	}
	return nil
}

// http returns the client for all requests. What failed is tried anew at the next use.
func (v *Vault) http() (*http.Client, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if v.client == nil {
		v.client, err = v.options.client()
	}
	return v.client, err
}

func (o VaultOptions) client() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != nil {
		ca, err := o.CA()
		if err != nil {
			return nil, fmt.Errorf("the CA cannot be read: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the CA holds no certificate in PEM")
		}
	}
	return &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: o.Timeout,
			ForceAttemptHTTP2: true, IdleConnTimeout: o.Timeout, MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect would take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Check reads the entry, and asks what the token may do there. A server that does not tell is taken
// to allow it.
func (v *Vault) Check(ctx context.Context, key Key, o Options) error {
	if err := v.admit(key, o); err != nil {
		return v.wrap(err)
	}
	if err := v.checkEngine(ctx); err != nil {
		return v.wrap(err)
	}
	entry, err := v.get(ctx, key, 0)
	if err != nil {
		return v.wrap(err)
	}
	if entry.version > 0 && !o.Successor {
		return v.wrap(keyExists(key))
	}
	return v.wrap(v.checkCapability(ctx, key, entry.version > 0))
}

// Deliver writes s as the entry's next version. Where the answer is lost, it reads back.
func (v *Vault) Deliver(ctx context.Context, key Key, s secret.Secret, o Options) (Delivery, error) {
	if err := errors.Join(checkSecret(s), v.admit(key, o)); err != nil {
		return Delivery{}, v.wrap(err)
	}
	if !utf8.ValidString(s.Expose()) {
		return Delivery{}, v.wrap(errors.New("the secret is not text, and a KV entry holds JSON"))
	}
	version, err := v.deliver(ctx, key, s, o)
	if err != nil {
		return Delivery{}, v.wrap(err)
	}
	return Delivery{Sink: v.name, Key: key.String(), Version: version}, nil
}

func (v *Vault) deliver(ctx context.Context, key Key, s secret.Secret, o Options) (int, error) {
	entry, err := v.get(ctx, key, 0)
	if err != nil {
		return 0, err
	}
	if v.holds(entry, s.Digest()) {
		return entry.version, nil
	}
	if entry.version > 0 && !o.Successor {
		return 0, keyExists(key)
	}
	version, err := v.put(ctx, key, s, entry)
	if err == nil {
		return version, nil
	}
	// Refused, or the answer was lost: what the server holds now decides.
	now, readErr := v.get(ctx, key, 0)
	switch {
	case readErr == nil && v.holds(now, s.Digest()):
		return now.version, nil
	case errors.Is(err, errOutdated) && !o.Successor:
		return 0, keyExists(key)
	}
	return 0, err
}

// Holds reports whether the delivery's version of the entry has a secret with this SHA-256. A
// missing or deleted version is false.
func (v *Vault) Holds(ctx context.Context, delivery Delivery, digest [sha256.Size]byte) (bool, error) {
	if err := v.owns(delivery); err != nil {
		return false, v.wrap(err)
	}
	if delivery.Version < 1 {
		return false, v.wrap(errors.New("the delivery is not one of this sink: it has no version"))
	}
	key, err := ParseKey(delivery.Key)
	if err != nil {
		return false, v.wrap(err)
	}
	entry, err := v.get(ctx, key, delivery.Version)
	if err != nil {
		return false, v.wrap(err)
	}
	return entry.version == delivery.Version && v.holds(entry, digest), nil
}

func (v *Vault) holds(entry vaultEntry, digest [sha256.Size]byte) bool {
	var value string
	if json.Unmarshal(entry.fields[v.options.Field], &value) != nil || value == "" {
		return false
	}
	held := sha256.Sum256([]byte(value))
	return subtle.ConstantTimeCompare(held[:], digest[:]) == 1
}

// vaultEntry is one version of an entry. Version 0 stands for no entry at all; a version without
// fields was deleted.
type vaultEntry struct {
	version int
	fields  map[string]json.RawMessage
}

// get reads a version of an entry, the newest for 0.
func (v *Vault) get(ctx context.Context, key Key, version int) (vaultEntry, error) {
	path := v.data(key)
	if version > 0 {
		path += "?version=" + strconv.Itoa(version)
	}
	var answer struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata struct {
				Version int `json:"version"`
			} `json:"metadata"`
		} `json:"data"`
		Errors []string `json:"errors"`
	}
	status, err := v.call(ctx, http.MethodGet, path, nil, &answer)
	// What is not there is 404 without a reason; a deleted version is so too, with its metadata.
	if status == http.StatusNotFound && len(answer.Errors) > 0 {
		return vaultEntry{}, fmt.Errorf("the Vault server has no engine at %s", v.options.Mount)
	}
	if err != nil && status != http.StatusNotFound {
		return vaultEntry{}, err
	}
	if status == http.StatusOK && answer.Data.Metadata.Version < 1 {
		return vaultEntry{}, errors.New("the answer has no version; is the engine a KV version 2 one?")
	}
	return vaultEntry{answer.Data.Metadata.Version, answer.Data.Data}, nil
}

// put writes the next version after entry and returns its number.
func (v *Vault) put(ctx context.Context, key Key, s secret.Secret, entry vaultEntry) (int, error) {
	value, err := json.Marshal(s.Expose())
	if err != nil {
		return 0, errors.New("the secret cannot be written as JSON") // not wrapped: the cause could quote it
	}
	fields := map[string]json.RawMessage{}
	for name, field := range entry.fields {
		fields[name] = field
	}
	fields[v.options.Field] = value
	request := map[string]any{"options": map[string]int{"cas": entry.version}, "data": fields}
	var answer struct {
		Data struct {
			Version int `json:"version"`
		} `json:"data"`
	}
	if _, err := v.call(ctx, http.MethodPost, v.data(key), request, &answer); err != nil {
		return 0, err
	}
	if answer.Data.Version < 1 {
		return 0, errors.New("the answer has no version; is the engine a KV version 2 one?")
	}
	return answer.Data.Version, nil
}

// checkEngine refuses an engine of version 1, which would take a write for something else. This is
// the endpoint that Vault's own command line asks first; a server that does not answer it is let pass.
func (v *Vault) checkEngine(ctx context.Context) error {
	var answer struct {
		Data struct {
			Type    string            `json:"type"`
			Options map[string]string `json:"options"`
		} `json:"data"`
	}
	status, err := v.call(ctx, http.MethodGet, "sys/internal/ui/mounts/"+v.options.Mount, nil, &answer)
	if err != nil {
		return ignored(status, err)
	}
	if answer.Data.Type == "kv" && answer.Data.Options["version"] == "2" || answer.Data.Type == "" {
		return nil
	}
	return fmt.Errorf("the engine at %s is not a KV version 2 one", v.options.Mount)
}

// checkCapability asks whether the token may write the entry.
func (v *Vault) checkCapability(ctx context.Context, key Key, exists bool) error {
	var answer struct {
		Capabilities []string `json:"capabilities"`
		Data         struct {
			Capabilities []string `json:"capabilities"`
		} `json:"data"`
	}
	status, err := v.call(ctx, http.MethodPost, "sys/capabilities-self", map[string][]string{"paths": {v.data(key)}}, &answer)
	if err != nil {
		return ignored(status, err)
	}
	may := slices.Concat(answer.Capabilities, answer.Data.Capabilities)
	needed := "create"
	if exists {
		needed = "update"
	}
	if len(may) == 0 || slices.Contains(may, "root") || slices.Contains(may, needed) {
		return nil
	}
	return fmt.Errorf("the Vault token may not %s %s; its policy must allow create, update and read there", needed, v.data(key))
}

// ignored drops an error of a question that servers need not answer.
func ignored(status int, err error) error {
	if status == http.StatusForbidden || status == http.StatusNotFound || status == http.StatusBadRequest || status == http.StatusMethodNotAllowed {
		return nil
	}
	return err
}

// data is the path of a key's entry. Its parts were parsed: none needs escaping, none is "..".
func (v *Vault) data(key Key) string {
	path := v.options.Mount + "/data/"
	if v.options.Prefix != "" {
		path += v.options.Prefix + "/"
	}
	return path + key.String()
}

// errOutdated says that the entry has another version than the one a write was for.
var errOutdated = errors.New("the entry has changed meanwhile; try again")

// call sends a request and decodes the answer. The status is 0 when there was none. No error holds
// the token or any part of an answer.
func (v *Vault) call(ctx context.Context, method, path string, request, answer any) (int, error) {
	var body io.Reader = http.NoBody
	if request != nil {
		encoded, err := json.Marshal(request)
		if err != nil {
			return 0, errors.New("the request cannot be encoded") // not wrapped: the cause could quote it
		}
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, method, v.options.Address+"/v1/"+path, body)
	if err != nil {
		return 0, errors.New("the request cannot be made: the address is not valid")
	}
	if err := v.sign(ctx, r); err != nil {
		return 0, err
	}
	client, err := v.http()
	if err != nil {
		return 0, err
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("the Vault server did not answer: %w", withoutURL(err))
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxVaultBody+1))
	if err != nil {
		return 0, fmt.Errorf("the Vault server's answer broke off: %w", withoutURL(err))
	}
	if len(data) > maxVaultBody {
		return 0, fmt.Errorf("the Vault server's answer has more than %d MiB", maxVaultBody>>20)
	}
	decoded := json.Unmarshal(data, answer)
	if err := statusError(response.StatusCode, data); err != nil {
		return response.StatusCode, err
	}
	if decoded != nil { // not wrapped: the cause could quote it
		return response.StatusCode, errors.New("the Vault server's answer is not the JSON that was expected")
	}
	return response.StatusCode, nil
}

func (v *Vault) sign(ctx context.Context, r *http.Request) error {
	token, err := v.options.Token.Read(ctx)
	if err != nil {
		return fmt.Errorf("the Vault token cannot be read: %w", err)
	}
	value := token.Expose()
	if strings.IndexFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) >= 0 || value == "" {
		return errors.New("the Vault token is empty or holds what no token holds")
	}
	r.Header.Set("X-Vault-Token", value)
	r.Header.Set("X-Vault-Request", "true")
	r.Header.Set("Content-Type", "application/json")
	if v.options.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", v.options.Namespace)
	}
	return nil
}

// statusError explains a status. What the body says decides one case only, and is not shown.
func statusError(status int, body []byte) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusBadRequest && bytes.Contains(body, []byte("check-and-set")):
		return errOutdated
	case status == http.StatusForbidden:
		return errors.New("the Vault server refused (403): the token is not valid, or its policy lacks create, update or read on the data path")
	case status == http.StatusNotFound:
		return errors.New("the Vault server has nothing there (404)")
	case status == http.StatusServiceUnavailable:
		return errors.New("the Vault server is sealed or in maintenance (503)")
	case status >= 300 && status < 400:
		return fmt.Errorf("the Vault server redirects (%d), which is not followed; give the address of the active node or of the load balancer", status)
	}
	return fmt.Errorf("the Vault server answered with status %d", status)
}

// withoutURL leaves the cause of a failed request: the sink has been named.
func withoutURL(err error) error {
	if urlError := (*url.Error)(nil); errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}
