package e2e_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/mark3labs/mcp-go/client"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/oidctest"
)

// approving starts a server whose callers are agents, and people who may approve.
func (v *vendors) approving(t *testing.T, more map[string]any) *listening {
	t.Helper()
	settings := map[string]any{"auth": map[string]any{"tokens": approvers()}}
	for name, value := range more {
		settings[name] = value
	}
	// The variable is ignored, and spares the wait for a token that is shown.
	env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+callerToken("bot"))
	return listens(t, env, "serve", "--listen", "127.0.0.1:0", "--config", v.config(t, settings))
}

func approvers() []map[string]any {
	entry := func(name, role, token string) map[string]any {
		caller := configuredCaller(token, role)
		caller["name"] = name
		return caller
	}
	elsewhere := entry("elsewhere", "approver", "elsewhere")
	elsewhere["connections"] = map[string]any{"ld": "none"}
	return []map[string]any{
		entry("bot", "admin", "bot"), entry("bot", "approver", "bots-approver"), entry("zoe", "approver", "zoe"), entry("yan", "approver", "yan"),
		elsewhere, entry("viewer", "viewer", "viewer"), entry("operator", "operator", "operator"), entry("boss", "admin", "boss"),
	}
}

// hostile is a preview whose texts come from outside and mean no good.
func (v *vendors) hostile(t *testing.T, asker string, now func() time.Time) (*ledger.Ledger, ledger.Preview, string) {
	t.Helper()
	l := v.ledger(t, now)
	plan, err := json.Marshal(map[string]any{"plan": nil, "shown": map[string]any{
		"tool": "bulk_revoke_tokens", "connection": "ld", "reason": `</dd><script>alert(1)</script> "x" onload='y'`, "risk": "bulk", "ends": true,
		"phrase": "REVOKE 2", "effects": []string{"2 tokens end for good <img src=x onerror=alert(1)>"}, "warnings": []string{"hidden \x1b[31m\u202e text &lt;"}, "count": 2,
		"columns": []string{"id", "name", "last_used"}, "rows": [][]string{{"t-1", "deploy\"><style>*{display:none}</style>", "2026-10-30"}, {"t-2", "fake\nt-3 {{.}}", "never"}},
		"shared_columns": map[string]string{"owner": "<b>zoe@example.com"}, "owners": []string{`"<i>zoe"`}, "last_use": "2026-10-30",
	}})
	if err != nil {
		t.Fatal(err)
	}
	p, code, err := l.OpenPreview(t.Context(), ledger.Preview{
		Principal: asker, Tool: "bulk_revoke_tokens", Arguments: json.RawMessage(`{"reason":"clean-up"}`), Plan: plan,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, p, code
}

// ask sends a request to the page of a preview. An empty header is left out.
func (s *listening) ask(t *testing.T, method, id, caller, body string, headers map[string]string) (*http.Response, string) {
	t.Helper()
	return s.send(t, method, "/approve/"+id, body, func(request *http.Request) {
		request.Header.Del("Content-Type")
		if caller != "" {
			request.SetBasicAuth("anybody", callerToken(caller))
		}
		request.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		for name, value := range headers {
			if request.Header.Set(name, value); value == "" {
				request.Header.Del(name)
			}
		}
	})
}

// form returns the form value of a new page.
func (s *listening) form(t *testing.T, id, caller string) string {
	t.Helper()
	response, body := s.ask(t, http.MethodGet, id, caller, "", nil)
	form := regexp.MustCompile(`name="form" value="([A-Z2-7]{26})"`).FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || form == nil {
		t.Fatalf("status %d, no form in:\n%s", response.StatusCode, body)
	}
	return form[1]
}

// browsers is what a browser says when it sends our form.
func (s *listening) browsers() map[string]string {
	return map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": s.url, "Sec-Fetch-Site": "same-origin"}
}

func typedIn(form, phrase, decision string) string {
	return url.Values{"form": {form}, "phrase": {phrase}, "decision": {decision}}.Encode()
}

// decides posts a decision as a browser does.
func (s *listening) decides(t *testing.T, id, caller, body string) (int, string) {
	t.Helper()
	response, page := s.ask(t, http.MethodPost, id, caller, body, s.browsers())
	return response.StatusCode, page
}

// The page shows all that a person must know, and nothing on it does more than show.
func TestApprovePage(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	_, p, _ := v.hostile(t, "token:bot", nil)
	response, body := s.ask(t, http.MethodGet, p.ID, "zoe", "", nil)
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html; charset=utf-8") {
		t.Fatalf("status %d, %v", response.StatusCode, response.Header)
	}
	for _, shown := range []string{
		"token:bot", "bulk_revoke_tokens", "several tokens", "2026-10-30", p.Expires.UTC().Format("15:04:05"), "type <code>REVOKE 2</code>",
		"&lt;script&gt;alert(1)&lt;/script&gt; &#34;x&#34; onload=&#39;y&#39;", "2 tokens end for good &lt;img src=x onerror=alert(1)&gt;", "hidden [31m text &amp;lt;",
		`<th scope="row"><bdi>t-1</bdi></th>`, "deploy&#34;&gt;&lt;style&gt;*{display:none}&lt;/style&gt;", "fake t-3 {{.}}", "owner <bdi>&lt;b&gt;zoe@example.com</bdi>", "&#34;&lt;i&gt;zoe&#34;",
		`<th scope="col">last used</th>`, `<label for="phrase">`, `<html lang="en">`,
	} {
		if !strings.Contains(body, shown) {
			t.Errorf("the page does not show %s:\n%s", shown, body)
		}
	}
	if hidden := regexp.MustCompile(`[^\n\x20-\x{10ffff}]|\x{202e}|<script|<img|<i>|<b>|javascript:| on[a-z]+="`).FindString(body); hidden != "" {
		t.Errorf("the page holds %q", hidden)
	}
	if links := regexp.MustCompile(`<[^>]*(?:src|href|action)=`).FindAllString(body, -1); links != nil {
		t.Errorf("the page loads or leads to something: %q", links)
	}
	wantPageHeaders(t, "the page", response)
	for name, test := range map[string]struct {
		id, caller string
		status     int
	}{"nobody": {p.ID, "", 401}, "unknown": {"pv_X", "zoe", 404}, "own": {p.ID, "bot", 403}} {
		response, body := s.ask(t, http.MethodGet, test.id, test.caller, "", nil)
		if response.StatusCode != test.status || !strings.Contains(body, "<h1>") || strings.Contains(body, "deploy") || strings.Contains(body, "..") {
			t.Errorf("%s: status %d:\n%s", name, response.StatusCode, body)
		}
		wantPageHeaders(t, name, response)
		response, body = s.ask(t, http.MethodGet, test.id, test.caller, "", map[string]string{"Accept": "application/json"})
		var refusal struct{ Code, Message string }
		if err := json.Unmarshal([]byte(body), &refusal); err != nil || response.StatusCode != test.status || refusal.Code == "" || refusal.Message == "" {
			t.Errorf("%s, to a program: status %d: %s", name, response.StatusCode, body)
		}
	}
}

func wantPageHeaders(t *testing.T, what string, response *http.Response) {
	t.Helper()
	policy := response.Header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'sha256-", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("%s: the policy lacks %s: %s", what, part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		t.Errorf("%s: %s", what, policy)
	}
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin",
	} {
		if got := response.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s: %q, want %q", what, name, got, want)
		}
	}
}

// Only an approver of the connection, and never who asked for it, learns of a preview. To everybody
// else it is one that does not exist.
func TestApproveRoles(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	l, p, _ := v.hostile(t, "token:bot", nil)
	_, unknown := s.ask(t, http.MethodGet, "pv_ABCDEFGHIJ", "elsewhere", "", map[string]string{"Accept": "application/json"})
	for caller, want := range map[string]int{
		"zoe": 200, "yan": 200, "bot": 403, "bots-approver": 403, "elsewhere": 404, "viewer": 404, "operator": 404, "boss": 404, "stranger": 401, "": 401,
	} {
		for _, accept := range []string{"application/json", "text/html"} {
			response, body := s.ask(t, http.MethodGet, p.ID, caller, "", map[string]string{"Accept": accept})
			if response.StatusCode != want {
				t.Errorf("%s: status %d, want %d: %s", caller, response.StatusCode, want, body)
			}
			if want == 404 && accept == "application/json" && body != unknown {
				t.Errorf("%s is told %s, and of an unknown preview %s", caller, body, unknown)
			}
			if want != 200 && strings.Contains(body, "zoe@example.com") {
				t.Errorf("%s sees it:\n%s", caller, body)
			}
		}
		if want == 200 {
			continue
		}
		for _, decision := range []string{"approve", "decline"} {
			if got, body := s.decides(t, p.ID, caller, typedIn("X", "REVOKE 2", decision)); got != want {
				t.Errorf("%s: %s: status %d, want %d: %s", caller, decision, got, want, body)
			}
		}
	}
	if found, err := l.FindPreview(t.Context(), p.ID); err != nil || found.ApprovedBy != "" || found.State != ledger.PreviewOpen {
		t.Errorf("approved by %q, state %s (%v)", found.ApprovedBy, found.State, err)
	}
	// The password of HTTP Basic is a token on these pages only.
	for _, path := range []string{"/mcp", "/sse", "/approve/../mcp"} {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		request.SetBasicAuth("zoe", callerToken("zoe"))
		response, err := s.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized || strings.Contains(fmt.Sprint(response.Header), "Basic") {
			t.Errorf("%s by HTTP Basic: status %d, %v", path, response.StatusCode, response.Header)
		}
	}
}

// A page elsewhere, or a value that is not of this page, decides nothing.
func TestApproveForgery(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, map[string]any{"serve": map[string]any{"allowed_origins": []string{"https://app.example"}}})
	l, p, _ := v.hostile(t, "token:bot", nil)
	_, other, _ := v.hostile(t, "token:bot", nil)
	mine, another, ofAnother := s.form(t, p.ID, "zoe"), s.form(t, p.ID, "yan"), s.form(t, other.ID, "zoe")
	right := typedIn(mine, "REVOKE 2", "approve")
	for name, test := range map[string]struct {
		body    string
		headers map[string]string
		status  int
		says    string
	}{
		"foreign origin":        {right, map[string]string{"Origin": "https://evil.example"}, 403, "forbidden_origin"},
		"allowed origin":        {right, map[string]string{"Origin": "https://app.example"}, 403, "forbidden_origin"},
		"null origin":           {right, map[string]string{"Origin": "null"}, 403, "forbidden_origin"},
		"other scheme":          {right, map[string]string{"Origin": strings.Replace(s.url, "http:", "https:", 1)}, 403, "forbidden_origin"},
		"no origin":             {right, map[string]string{"Origin": ""}, 403, "no_origin"},
		"cross-site":            {right, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "forbidden_site"},
		"same-site":             {right, map[string]string{"Sec-Fetch-Site": "same-site"}, 403, "forbidden_site"},
		"by its user":           {right, map[string]string{"Sec-Fetch-Site": "none"}, 403, "forbidden_site"},
		"text":                  {right, map[string]string{"Content-Type": "text/plain"}, 415, "not_a_decision"},
		"multipart":             {right, map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, 415, "not_a_decision"},
		"no type":               {right, map[string]string{"Content-Type": ""}, 415, "not_a_decision"},
		"no value":              {typedIn("", "REVOKE 2", "approve"), nil, 403, "form_spent"},
		"value of another":      {typedIn(another, "REVOKE 2", "approve"), nil, 403, "form_spent"},
		"value of another page": {typedIn(ofAnother, "REVOKE 2", "approve"), nil, 403, "form_spent"},
		"decline without value": {typedIn("", "", "decline"), nil, 403, "form_spent"},
		"no decision":           {typedIn(mine, "REVOKE 2", ""), nil, 400, "not_a_decision"},
		"other decision":        {typedIn(mine, "REVOKE 2", "perhaps"), nil, 400, "not_a_decision"},
		"broken":                {"form=%", nil, 400, "not_a_decision"},
		"huge":                  {right + "&x=" + strings.Repeat("x", 16<<10), nil, 413, "too_large"},
		"wrong phrase":          {typedIn(mine, "REVOKE 3", "approve"), nil, 303, ""},
		"lower case":            {typedIn(mine, "revoke 2", "approve"), nil, 303, ""},
		"no phrase":             {typedIn(mine, "", "approve"), nil, 303, ""},
	} {
		headers := s.browsers()
		for name, value := range test.headers {
			headers[name] = value
		}
		response, body := s.ask(t, http.MethodPost, p.ID, "zoe", test.body, headers)
		if response.StatusCode != test.status || !strings.Contains(body, test.says) {
			t.Errorf("%s: status %d, want %d and %q:\n%s", name, response.StatusCode, test.status, test.says, body)
		}
		if again := response.Header.Get("Location"); test.status == http.StatusSeeOther && again != p.ID+"?phrase=wrong" {
			t.Errorf("%s: sent to %s", name, again)
		}
		if found, err := l.FindPreview(t.Context(), p.ID); err != nil || found.ApprovedBy != "" || found.State != ledger.PreviewOpen {
			t.Fatalf("%s: approved by %q, state %s (%v)", name, found.ApprovedBy, found.State, err)
		}
	}
	// What a URL says is no form, and a page within another is none.
	headers := s.browsers()
	if response, _ := s.ask(t, http.MethodPost, p.ID+"?"+right, "zoe", "", headers); response.StatusCode != http.StatusBadRequest {
		t.Errorf("a decision in the URL: status %d", response.StatusCode)
	}
	for _, dest := range []string{"iframe", "image", "empty"} {
		if response, _ := s.ask(t, http.MethodGet, p.ID, "zoe", "", map[string]string{"Sec-Fetch-Dest": dest}); response.StatusCode != http.StatusForbidden {
			t.Errorf("the page as %s: status %d", dest, response.StatusCode)
		}
	}
	if status, body := s.decides(t, p.ID, "zoe", right); status != http.StatusSeeOther {
		t.Errorf("the right form: status %d:\n%s", status, body)
	}
	if status, _ := s.decides(t, p.ID, "zoe", right); status != http.StatusForbidden {
		t.Errorf("a used form: status %d", status)
	}
	if status, body := s.decides(t, p.ID, "yan", typedIn(another, "REVOKE 2", "approve")); status != http.StatusConflict || !strings.Contains(body, "Decided already") {
		t.Errorf("a second yes: status %d:\n%s", status, body)
	}
	if status, _ := s.decides(t, p.ID, "yan", typedIn(s.form(t, p.ID, "yan"), "", "decline")); status != http.StatusSeeOther {
		t.Errorf("a no after the yes: status %d", status)
	}
	found, err := l.FindPreview(t.Context(), p.ID)
	if err != nil || found.State != ledger.PreviewDeclined || found.Approval() != "token:zoe (static from 127.0.0.1)" || found.DeclinedBy != "token:yan" {
		t.Errorf("%+v (%v)", found, err)
	}
	if status, _ := s.decides(t, p.ID, "zoe", typedIn(mine, "REVOKE 2", "approve")); status != http.StatusConflict {
		t.Errorf("a yes after the no: status %d", status)
	}
	v.verify(t)
}

// Programs see the same and decide by JSON.
func TestApproveByProgram(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	_, p, _ := v.hostile(t, "token:bot", nil)
	bearer := map[string]string{"Accept": "application/json", "Authorization": "Bearer " + callerToken("zoe"), "Content-Type": "application/json"}
	_, body := s.ask(t, http.MethodGet, p.ID, "", "", bearer)
	var view struct {
		PreviewID  string `json:"preview_id"`
		AskedBy    string `json:"asked_by"`
		State      string
		ApprovedBy string `json:"approved_by"`
		Form       string
		Shown      struct {
			Phrase string
			Rows   [][]string
		}
	}
	if err := json.Unmarshal([]byte(body), &view); err != nil || view.PreviewID != p.ID || view.AskedBy != "token:bot" || view.State != "open" || len(view.Shown.Rows) != 2 || view.Form == "" {
		t.Fatalf("%s (%v)", body, err)
	}
	answer := fmt.Sprintf(`{"decision":"approve","form":%q,"phrase":%q}`, view.Form, view.Shown.Phrase)
	if response, body := s.ask(t, http.MethodPost, p.ID, "", strings.Replace(answer, "REVOKE", "revoke", 1), bearer); response.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "the phrase is REVOKE 2") {
		t.Errorf("a wrong phrase: status %d: %s", response.StatusCode, body)
	}
	bearer["Origin"] = "https://evil.example"
	if response, body := s.ask(t, http.MethodPost, p.ID, "", answer, bearer); response.StatusCode != http.StatusForbidden {
		t.Errorf("from another page: status %d: %s", response.StatusCode, body)
	}
	bearer["Origin"] = ""
	response, body := s.ask(t, http.MethodPost, p.ID, "", answer, bearer)
	if err := json.Unmarshal([]byte(body), &view); err != nil || response.StatusCode != http.StatusOK || view.ApprovedBy != "token:zoe (static from 127.0.0.1)" {
		t.Errorf("status %d: %s (%v)", response.StatusCode, body, err)
	}
}

// What has expired is as if it had never been.
func TestApproveExpired(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	_, p, _ := v.hostile(t, "token:bot", func() time.Time { return time.Now().Add(-11 * time.Minute) })
	if response, body := s.ask(t, http.MethodGet, p.ID, "zoe", "", nil); response.StatusCode != http.StatusNotFound || !strings.Contains(body, "has expired") {
		t.Errorf("status %d:\n%s", response.StatusCode, body)
	}
	if status, _ := s.decides(t, p.ID, "zoe", typedIn("X", "REVOKE 2", "approve")); status != http.StatusNotFound {
		t.Errorf("approve: status %d", status)
	}
}

// Yes, no and the agent's confirm come at the same time: what is declined is not carried out, and
// what is carried out was approved and not declined.
func TestApproveRace(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, map[string]any{"human_approval": map[string]any{"single": "required"}})
	s.token = callerToken("bot")
	c := s.streamable(t, modern)
	l := v.ledger(t, nil)
	for n, id := range v.mailtrapIDs(6) {
		arguments := map[string]any{"connection": "mt", "token_id": id}
		shown, text := callTool(t, c, "revoke_token", arguments)
		if shown["confirm"] == nil {
			t.Fatal(text)
		}
		arguments["confirm"] = shown["confirm"]
		preview := shown["preview_id"].(string)
		yes, no := s.form(t, preview, "zoe"), s.form(t, preview, "yan")
		if n%2 == 0 {
			no = s.form(t, preview, "zoe")
		}
		var racing sync.WaitGroup
		racing.Go(func() { s.decides(t, preview, "zoe", typedIn(yes, "REVOKE 1", "approve")) })
		racing.Go(func() { s.decides(t, preview, []string{"zoe", "yan"}[n%2], typedIn(no, "", "decline")) })
		racing.Go(func() { callTool(t, c, "revoke_token", arguments) })
		racing.Wait()
		got, text := callTool(t, c, "revoke_token", arguments)
		found, err := l.FindPreview(t.Context(), preview)
		if err != nil {
			t.Fatal(err)
		}
		switch found.State {
		case ledger.PreviewDone:
			if got["status"] != "revoked" || found.ApprovedBy == "" || found.DeclinedBy != "" {
				t.Errorf("%+v, answered %s", found, text)
			}
		case ledger.PreviewDeclined:
			if !strings.Contains(text, `"declined"`) {
				t.Errorf("declined, answered %s", text)
			}
		default:
			t.Errorf("state %s, answered %s", found.State, text)
		}
	}
	v.verify(t)
}

// sureOfPage reads the page that a preview's next step names.
func sureOfPage(t *testing.T, s *listening, preview map[string]any) string {
	t.Helper()
	page := s.url + "/approve/" + preview["preview_id"].(string)
	if next := preview["next"].(string); !strings.Contains(next, "have an approver open "+page+";") {
		t.Errorf("next: %s", next)
	}
	return page
}

// bulk previews the revocation of so many tokens and returns the preview, and the call that confirms.
func (v *vendors) bulk(t *testing.T, c *client.Client, n int) (ids []string, preview, confirmed map[string]any) {
	t.Helper()
	ids = v.mailtrapIDs(n)
	confirmed = map[string]any{"connection": "mt", "token_ids": ids, "reason": "unused since May"}
	preview, text := callTool(t, c, "bulk_revoke_tokens", confirmed)
	if preview["confirm"] == nil {
		t.Fatal(text)
	}
	confirmed["confirm"] = preview["confirm"]
	return ids, preview, confirmed
}

// Previews name the page as people reach it: by the name under which the call came, or behind a proxy
// by that of the OAuth resource. Where no name is sure, or nobody may approve, they name a command.
func TestApprovalIsNamed(t *testing.T) {
	t.Parallel()
	provider := oidctest.StartProvider(t, oidctest.NewKey(t, "one", jose.ES256))
	oidc := func(resource string) map[string]any {
		return map[string]any{"tokens": approvers(), "oidc": map[string]any{
			"issuer": provider.Issuer, "audience": "https://other.example", "resource": resource, "roles": map[string]any{"x": map[string]any{"role": "viewer"}},
		}}
	}
	const required, proxied = "--behind-tls-proxy", "https://tokens.example"
	for name, test := range map[string]struct {
		settings map[string]any
		args     []string
		way      string // URL and ID stand for the server's and the preview's
	}{
		"loopback":           {nil, nil, "have an approver open URL/approve/ID;"},
		"TLS":                {nil, []string{"--tls-cert"}, "have an approver open URL/approve/ID;"},
		"proxy":              {nil, []string{required}, "have an approver open PROXY/approve/ID;"},
		"proxy with a name":  {map[string]any{"auth": oidc(proxied)}, []string{required}, "have an approver open https://tokens.example/approve/ID;"},
		"proxy, below /mcp":  {map[string]any{"auth": oidc(proxied + "/mcp")}, []string{required}, "have an approver open https://tokens.example/approve/ID;"},
		"proxy, with prefix": {map[string]any{"auth": oidc(proxied + "/team/")}, []string{required}, "have an approver open https://tokens.example/team/approve/ID;"},
		"no approver":        {map[string]any{"auth": map[string]any{"tokens": approvers()[:1]}}, nil, "have the operator run `tokenreeve approve ID`;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			settings := map[string]any{"auth": map[string]any{"tokens": approvers()}, "human_approval": map[string]any{"single": "required"}}
			for key, value := range test.settings {
				settings[key] = value
			}
			own := http.DefaultClient
			if len(test.args) == 1 && test.args[0] == "--tls-cert" {
				cert, key, roots := v.certificate(t)
				test.args = []string{"--tls-cert", cert, "--tls-key", key}
				own = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
			}
			env := append(v.bareEnv(), "TOKENREEVE_BEARER_TOKEN="+callerToken("bot"))
			s := listens(t, env, append([]string{"serve", "--listen", "127.0.0.1:0", "--config", v.config(t, settings)}, test.args...)...)
			s.http = own
			for way, c := range map[string]*client.Client{"HTTP": s.streamable(t, legacy), "HTTP, modern": s.streamable(t, modern), "events": s.sse(t, legacy)} {
				shown, text := callTool(t, c, "revoke_token", map[string]any{"connection": "mt", "token_id": v.mailtrapIDs(1)[0]})
				if shown["confirm"] == nil {
					t.Fatal(text)
				}
				id := shown["preview_id"].(string)
				want := strings.ReplaceAll(test.way, "URL", s.url)
				want = strings.ReplaceAll(want, "PROXY", strings.Replace(s.url, "http://", "https://", 1))
				want = strings.ReplaceAll(want, "ID", id) // last: an id can have any letters
				if next := shown["next"].(string); !strings.Contains(next, want) {
					t.Errorf("%s: no %q in %q", way, want, next)
				}
			}
		})
	}
}

// An access token of the provider counts as the password too, and the record names its subject.
func TestApproveWithAccessToken(t *testing.T) {
	t.Parallel()
	const audience = "https://tokens.example"
	provider := oidctest.StartProvider(t, oidctest.NewKey(t, "one", jose.RS256))
	v := newVendors(t)
	s := v.approving(t, map[string]any{"auth": map[string]any{"tokens": approvers(), "oidc": map[string]any{
		"issuer": provider.Issuer, "audience": audience, "role_claim": []string{"realm_access", "roles"},
		"roles": map[string]any{"approvers": map[string]any{"role": "approver"}, "agents": map[string]any{"role": "admin"}},
	}}})
	l, p, _ := v.hostile(t, "token:bot", nil)
	basic := func(token string) map[string]string {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
		r.SetBasicAuth("ann", token)
		return map[string]string{"Authorization": r.Header.Get("Authorization")}
	}
	if response, body := s.ask(t, http.MethodGet, p.ID, "", "", basic(provider.Token(t, "bob", audience, "agents"))); response.StatusCode != http.StatusNotFound {
		t.Errorf("an agent: status %d:\n%s", response.StatusCode, body)
	}
	headers := basic(provider.Token(t, "ann", audience, "approvers"))
	_, body := s.ask(t, http.MethodGet, p.ID, "", "", headers)
	form := regexp.MustCompile(`name="form" value="([A-Z2-7]{26})"`).FindStringSubmatch(body)
	if form == nil {
		t.Fatalf("no form in:\n%s", body)
	}
	for name, value := range s.browsers() {
		headers[name] = value
	}
	if response, body := s.ask(t, http.MethodPost, p.ID, "", typedIn(form[1], "REVOKE 2", "approve"), headers); response.StatusCode != http.StatusSeeOther {
		t.Errorf("status %d:\n%s", response.StatusCode, body)
	}
	found, err := l.FindPreview(t.Context(), p.ID)
	if by := found.Approval(); err != nil || !strings.HasPrefix(by, "oidc:") || !strings.HasSuffix(by, ":ann (oidc from 127.0.0.1)") {
		t.Errorf("approved by %s (%v)", by, err)
	}
}

// A server that stops takes no more decisions.
func TestApproveWhileStopping(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	s := v.approving(t, nil)
	s.token = callerToken("bot")
	l, p, _ := v.hostile(t, "token:zoe", nil)
	form := s.form(t, p.ID, "yan")
	gate := v.hold("GET", "/api/v2/tokens")
	c := s.streamable(t, legacy)
	ended := background(t.Context(), c, "list_tokens", map[string]any{"connection": "ld"})
	gate.await(t, 1)
	s.signal(t, terminate)
	for { // until the signal has arrived
		if status, _ := s.get(t, "/readyz", false); status == http.StatusServiceUnavailable {
			break
		}
	}
	response, body := s.ask(t, http.MethodGet, p.ID, "yan", "", nil)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "<h1>") || !strings.Contains(body, "shutting down") {
		t.Errorf("the page: status %d:\n%s", response.StatusCode, body)
	}
	if status, body := s.decides(t, p.ID, "yan", typedIn(form, "REVOKE 2", "approve")); status != http.StatusServiceUnavailable {
		t.Errorf("a decision: status %d:\n%s", status, body)
	}
	gate.release()
	receive(t, ended, "the end of the call")
	s.exit(t, 0)
	if found, err := l.FindPreview(t.Context(), p.ID); err != nil || found.ApprovedBy != "" {
		t.Errorf("approved by %s (%v)", found.Approval(), err)
	}
}

// A page that one replica showed is answered at another, once, also where both are asked at the same
// time.
func TestApproveAtAnyReplica(t *testing.T) {
	t.Parallel()
	m := newTeam(t, map[string]any{"human_approval": map[string]any{"bulk": "required", "second_person": true}})
	one, other := m.servers(t)
	ids := m.mailtrapIDs(2)
	confirmed, id := preview(t, one.as(t, "admin"), "bulk_revoke_tokens", map[string]any{"connection": "mt", "token_ids": ids, "reason": "unused"})
	form := one.form(t, id, "approver")
	var counted atomic.Int32
	var deciding sync.WaitGroup
	for i := range 4 {
		s := []*listening{one, other}[i%2]
		deciding.Go(func() {
			switch status, body := s.decides(t, id, "approver", typedIn(form, "REVOKE 2", "approve")); status {
			case http.StatusSeeOther:
				counted.Add(1)
			case http.StatusForbidden:
			default:
				t.Errorf("status %d:\n%s", status, body)
			}
		})
	}
	deciding.Wait()
	if n := counted.Load(); n != 1 {
		t.Errorf("one form counted %d times", n)
	}
	if done, text := callTool(t, other.as(t, "admin"), "bulk_revoke_tokens", confirmed); done["status"] != "revoked" {
		t.Fatalf("once approved: %s", text)
	}
	m.checkGone(t, ids, ids)
	if _, body := one.ask(t, http.MethodGet, id, "approver", "", nil); !strings.Contains(body, "Carried out") {
		t.Errorf("afterwards:\n%s", body)
	}
}
