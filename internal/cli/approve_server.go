package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/tools"
)

const (
	// approveToken is the variable that holds the approver's token.
	approveToken = "TOKENREEVE_APPROVE_TOKEN"
	// approveTime bounds one exchange with the server.
	approveTime = 30 * time.Second
	// maxApproval bounds an answer of the server, in bytes.
	maxApproval = 4 << 20
)

// remote is a preview at a server.
type remote struct {
	http  *http.Client
	page  string
	id    string
	token secret.Secret
}

// approveAt asks a server for a preview, and sends it what a person decides.
func (a *app) approveAt(cmd *cobra.Command, server, tokenFile, id string, decline bool) error {
	page, err := approvalPage(server, id)
	if err != nil {
		return err
	}
	c, err := a.operatorConfiguration(cmd)
	if err != nil {
		return err
	}
	hc, err := trusting(c.CAFile)
	if err != nil {
		return err
	}
	defer hc.CloseIdleConnections()
	r := remote{http: hc, page: page, id: id}
	t, err := openTerminal("approve") // before the token is looked for: without a person there is no use for it
	if err != nil {
		return err
	}
	defer t.close()
	if r.token, err = t.approverToken(cmd.Context(), tokenFile); err != nil {
		return err
	}
	shown, err := r.look(cmd.Context())
	if err != nil {
		return err
	}
	p := ledger.Preview{
		ID: shown.PreviewID, Principal: shown.AskedBy, Expires: shown.Expires, State: shown.State,
		ApprovedBy: shown.ApprovedBy, DeclinedBy: shown.DeclinedBy,
	}
	if over := judgePreview(&p); over != "" {
		return errors.New(over)
	}
	if !shown.CanApprove && !decline {
		a.sayAlreadyApproved(&p)
		return nil
	}
	if err := hasPhrase(id, &shown.Shown); err != nil {
		return err
	}
	if err := t.showPreview(&p, &shown.Shown); err != nil {
		return err
	}
	return t.decideAt(cmd.Context(), &r, &shown, decline)
}

func (t *terminal) decideAt(ctx context.Context, r *remote, shown *tools.Approvable, decline bool) error {
	if decline {
		if err := t.askDecline(ctx); err != nil {
			return err
		}
		if err := r.decide(ctx, decisionBody{Decision: "decline", Form: shown.Form}); err != nil {
			return err
		}
		t.sayDeclined(r.id)
		return nil
	}
	if err := t.askPhrase(ctx, shown.Shown.Phrase); err != nil {
		return notApproved(err)
	}
	if err := r.decide(ctx, decisionBody{Decision: "approve", Phrase: shown.Shown.Phrase, Form: shown.Form}); err != nil {
		return err
	}
	t.sayApproved()
	return nil
}

// approvalPage returns the address of a preview at a server. A token goes by TLS, or stays on this
// machine.
func approvalPage(server, id string) (string, error) {
	if !regexp.MustCompile(`^pv_[A-Z2-7]{10}$`).MatchString(id) {
		return "", fmt.Errorf("%q is no preview's id; valid: what the preview calls preview_id, for example pv_ABCDEFGHIJ", oneLine(id))
	}
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("--server is not a server's URL; valid: for example https://tokenreeve.acme.example, without user, query and fragment")
	case u.Scheme == "http" && !loopback.IsHost(u.Hostname()):
		return "", fmt.Errorf("--server %s would send your token unencrypted; valid: https, or http on this machine", oneLine(server))
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/") + "/approve/" + id, nil
}

// approverToken takes the token from where the user keeps it, else asks for it.
func (t *terminal) approverToken(ctx context.Context, file string) (secret.Secret, error) {
	reference := auth.Reference{Env: approveToken}
	switch {
	case file != "":
		absolute, err := filepath.Abs(file)
		if err != nil {
			return secret.Secret{}, fmt.Errorf("--token-file: %w", err)
		}
		reference = auth.Reference{File: absolute}
	case os.Getenv(approveToken) == "":
		token, err := t.passphrase(ctx, "Your token for the server: ")
		if err == nil && token.IsZero() {
			err = errors.New("no token was typed")
		}
		return token, err
	}
	source, err := auth.New(reference)
	if err != nil {
		return secret.Secret{}, err
	}
	return source.Read(ctx)
}

// look returns the preview.
func (r *remote) look(ctx context.Context) (tools.Approvable, error) {
	a, err := r.send(ctx, http.MethodGet, nil)
	if err != nil {
		return a, err
	}
	if a.PreviewID != r.id || a.State == ledger.PreviewOpen && a.Form == "" {
		return a, errors.New("the server's answer is not this preview; check --server")
	}
	return a, nil
}

// decisionBody is a decision as the server reads it.
type decisionBody struct {
	Decision string `json:"decision"`
	Phrase   string `json:"phrase,omitempty"`
	Form     string `json:"form"`
}

func (r *remote) decide(ctx context.Context, d decisionBody) error {
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	a, err := r.send(ctx, http.MethodPost, body)
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return fmt.Errorf("%w; it is not known whether the decision counts: run the same again to see", err)
	case d.Decision == "approve" && (a.PreviewID != r.id || a.ApprovedBy == ""), d.Decision == "decline" && a.State != ledger.PreviewDeclined:
		return errors.New("the server's answer does not say that the decision counts; run the same again to see")
	}
	return nil
}

// refusedError is what the server refuses, in its words.
type refusedError struct {
	status  int
	message string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the server refuses this: %s (status %d)", e.message, e.status)
}

// unreachable says why the server could not be asked, and what to do where its certificate is one's own.
func unreachable(err error) error {
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return errors.New(`the server's certificate is of an authority that this machine does not know: name that authority's ` +
			`certificate in a configuration, {"ca_file": "/path/to/ca.pem"}, and give it with --config`)
	}
	return fmt.Errorf("the server cannot be asked: %s", sanitize.Message(err.Error()))
}

// send asks the server, and follows no redirect.
func (r *remote) send(ctx context.Context, method string, body []byte) (tools.Approvable, error) {
	ctx, cancel := context.WithTimeout(ctx, approveTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, r.page, bytes.NewReader(body))
	if err != nil {
		return tools.Approvable{}, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+r.token.Expose())
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return tools.Approvable{}, unreachable(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxApproval+1))
	switch {
	case err != nil:
		return tools.Approvable{}, fmt.Errorf("the server's answer broke off: %s", sanitize.Message(err.Error()))
	case len(data) > maxApproval:
		return tools.Approvable{}, errors.New("the server's answer is too long")
	case response.StatusCode != http.StatusOK:
		return tools.Approvable{}, refusal(response.StatusCode, data)
	}
	var a tools.Approvable
	if json.Unmarshal(data, &a) != nil {
		return a, errors.New("the server's answer is no preview; check --server")
	}
	return a, nil
}

func refusal(status int, data []byte) error {
	var refused struct{ Message string }
	if json.Unmarshal(data, &refused) != nil {
		refused.Message = ""
	}
	message := cmp.Or(sanitize.Message(refused.Message), http.StatusText(status), "no reason is given")
	if status >= 300 && status < 400 {
		message = "it leads elsewhere, where your token does not go; check --server"
	}
	return &refusedError{status, message}
}
