package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

// browser is a tab of a real browser, whose user gives a token when asked for a password.
type browser struct {
	ctx context.Context

	mu    sync.Mutex
	token string
	asked int      // times for a password
	said  []string // errors on its console
}

// openBrowser starts Debian's Chromium, or another that is installed. Without one the test is skipped.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		if os.Getenv("TOKENREEVE_TEST_BROWSER") == "required" {
			t.Fatal("no browser is installed")
		}
		t.Skip("no browser is installed; with Debian: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.DisableGPU, chromedp.Flag("disable-quic", true),
		chromedp.Flag("no-proxy-server", true), chromedp.Flag("disable-features", "Translate,BackForwardCache"), // a page from that cache never loads
		chromedp.WindowSize(1000, 1000), chromedp.Env("HOME="+t.TempDir()),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*hang)
	t.Cleanup(cancel)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &browser{ctx: ctx}
	b.answerQuestions(t)
	return b
}

// answerQuestions types the token where the browser asks for a password, and notes what it complains of.
func (b *browser) answerQuestions(t *testing.T) {
	t.Helper()
	type question struct {
		id     fetch.RequestID
		isAuth bool
	}
	questions := make(chan question, 100)
	err := chromedp.Listen(b.ctx, func(ev any) {
		switch ev := ev.(type) {
		case *fetch.EventAuthRequired:
			questions <- question{ev.RequestID, true}
		case *fetch.EventRequestPaused:
			questions <- question{ev.RequestID, false}
		case *log.EventEntryAdded:
			b.mu.Lock()
			b.said = append(b.said, ev.Entry.Text)
			b.mu.Unlock()
		}
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	if _, err := chromedp.Call(b.ctx, fetch.Enable, fetch.EnableParams{HandleAuthRequests: new(true)}); err != nil {
		t.Fatal(err)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		for {
			select {
			case q := <-questions:
				if q.isAuth {
					_, _ = chromedp.Call(b.ctx, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{RequestID: q.id, AuthChallengeResponse: b.password()})
				} else {
					_, _ = chromedp.Call(b.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: q.id})
				}
			case <-b.ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = chromedp.Cancel(b.ctx) // waits for the end of the process
		answering.Wait()
	})
}

func (b *browser) password() *fetch.AuthChallengeResponse {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.token == "" || b.asked > 1 { // else it would be asked for ever
		return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth}
	}
	return &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseProvideCredentials, Username: "zoe", Password: b.token}
}

func (b *browser) becomes(token string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.token, b.asked, b.said = token, 0, nil
}

// complaints are the errors on the console since the last becomes, but for statuses.
func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.said), func(s string) bool { return strings.Contains(s, "responded with a status of") })
}

func (b *browser) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// goes takes steps that lead to another page, and waits for that.
func (b *browser) goes(t *testing.T, steps ...chromedp.Action[chromedp.Void]) int64 {
	t.Helper()
	response, err := chromedp.RunResponse(b.ctx, steps...)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status
}

func get[T any](t *testing.T, b *browser, a chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(b.ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (b *browser) heading(t *testing.T) string {
	t.Helper()
	return get(t, b, chromedp.Text(chromedp.CSS("h1")))
}

// picture keeps the page as a person sees it, by day and by night, and on a phone; go test -artifacts
// keeps it.
func (b *browser) picture(t *testing.T, name string) {
	t.Helper()
	for scheme, width := range map[string]int64{"light": 1000, "dark": 1000, "phone": 390} {
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: strings.Replace(scheme, "phone", "light", 1)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.do(t, chromedp.EmulateViewport(width, 800))
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name+"-"+scheme+".png"), get(t, b, chromedp.FullScreenshot(100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.do(t, chromedp.EmulateViewport(1000, 800))
}

// names are what a screen reader says of the page's parts, as ROLE NAME.
func (b *browser) names(t *testing.T) []string {
	t.Helper()
	tree, err := chromedp.Call(b.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, node := range tree.Nodes {
		if !node.Ignored && node.Role != nil && node.Name != nil {
			names = append(names, strings.Trim(string(node.Role.Value), `"`)+" "+strings.Trim(string(node.Name.Value), `"`))
		}
	}
	return names
}

// isNotFooled has pages elsewhere send the form, frame it and fetch it, with the password that the
// browser has kept, and with a form value that no attacker knows.
func (b *browser) isNotFooled(t *testing.T, page, form string, isOpen func() bool) {
	t.Helper()
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/frame":
			_, _ = fmt.Fprintf(w, `<iframe src="%s"></iframe><h1>evil</h1>`, page)
		case "/fetch":
			_, _ = fmt.Fprintf(w, `<h1>waits</h1><script>fetch(%q, {method: "POST", credentials: "include", mode: "no-cors", body: new URLSearchParams({form: %q, phrase: "REVOKE 2", decision: "approve"})})
				.then(() => document.querySelector("h1").textContent = "sent", () => document.querySelector("h1").textContent = "failed")</script>`, page, form)
		default:
			_, _ = fmt.Fprintf(w, `<form method="post" action="%s"><input name="form" value="%s"><input name="phrase" value="REVOKE 2"><input name="decision" value="approve"><button>Win</button></form>`,
				page, form)
		}
	}))
	t.Cleanup(evil.Close)
	for name, origin := range map[string]string{"same site": evil.URL, "cross site": strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)} {
		b.do(t, chromedp.Navigate(origin+"/form"))
		if status := b.goes(t, chromedp.Click(chromedp.CSS("button"))); status != http.StatusForbidden {
			t.Errorf("%s: a foreign page's form: status %d", name, status)
		}
		b.do(t, chromedp.Navigate(origin+"/fetch"), chromedp.WaitVisible(chromedp.CSS("h1")))
		_ = get(t, b, chromedp.Poll[bool](`document.querySelector("h1").textContent != "waits"`))
		b.do(t, chromedp.Navigate(origin+"/frame"))
		if strings.Contains(strings.Join(b.names(t), "\n"), "Approve this change?") {
			t.Errorf("%s: the page is shown in a frame", name)
		}
		if !isOpen() {
			t.Fatalf("%s: the preview was decided", name)
		}
	}
}

// A person approves in a real browser, by the keyboard alone, and forged requests of other pages that
// the same browser sends change nothing.
func TestApproveInABrowser(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	v := newVendors(t)
	s := v.approving(t, nil)
	l, p, _ := v.hostile(t, "token:bot", nil)
	page := s.url + "/approve/" + p.ID
	state := func() string {
		t.Helper()
		found, err := l.FindPreview(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		return string(found.State) + " " + found.Approval()
	}

	b.becomes("")
	if status := b.goes(t, chromedp.Navigate(page)); status != http.StatusUnauthorized || b.heading(t) != "Who are you?" {
		t.Errorf("without a password: status %d, %q", status, b.heading(t))
	}
	b.picture(t, "refused")
	b.becomes(callerToken("zoe"))
	if status := b.goes(t, chromedp.Navigate(page)); status != http.StatusOK || b.heading(t) != "Approve this change?" {
		t.Errorf("with a password: status %d, %q", status, b.heading(t))
	}
	if weight := get(t, b, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("button")).fontWeight`)); weight != "600" {
		t.Errorf("the style is not applied: %s", weight)
	}
	if got := get(t, b, chromedp.Text(chromedp.CSS("tbody tr:nth-child(1) td"))); got != `deploy"><style>*{display:none}</style>` {
		t.Errorf("a hostile name is shown as %q", got)
	}
	names := b.names(t)
	for _, want := range []string{
		"heading Approve this change?", "heading Targets", "table The tokens that it is about", "columnheader last used", "rowheader t-1",
		"textbox To approve, type REVOKE 2", "button Approve", "button Decline", "region Targets",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("a screen reader is not told %q, but %q", want, names)
		}
	}
	if complaints := b.complaints(); len(complaints) > 0 {
		t.Errorf("the browser complains: %q", complaints)
	}
	b.picture(t, "open")

	b.isNotFooled(t, page, s.form(t, p.ID, "zoe"), func() bool { return state() == "open " })

	b.do(t, chromedp.Navigate(page))
	typing := func(keys string) chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(keys) }
	b.do(t, typing("\t"), typing("\t")) // past the table, to the field
	if status := b.goes(t, typing("REVOKE 3\r")); status != http.StatusOK || state() != "open " {
		t.Errorf("a wrong phrase: status %d, %s", status, state())
	}
	if !slices.Contains(b.names(t), "textbox To approve, type REVOKE 2") || !strings.Contains(get(t, b, chromedp.Text(chromedp.CSS("[role=alert]"))), "that was not the phrase") {
		t.Errorf("the form is not shown again: %q", b.names(t))
	}
	b.picture(t, "wrong")
	b.do(t, typing("\t"), typing("\t"))
	if status := b.goes(t, typing("REVOKE 2\r")); status != http.StatusOK || b.heading(t) != "Approved" || state() != "open token:zoe (static from 127.0.0.1)" {
		t.Errorf("the phrase: status %d, %q, %s", status, b.heading(t), state())
	}
	b.picture(t, "approved")
	b.do(t, chromedp.NavigateBack())
	if got := b.heading(t); got != "Approved" || state() != "open token:zoe (static from 127.0.0.1)" {
		t.Errorf("back: %q, %s", got, state())
	}
	b.do(t, chromedp.Navigate(page), typing("\t"), typing("\t")) // on the one button
	if status := b.goes(t, typing("\r")); status != http.StatusOK || b.heading(t) != "Declined" || state() != string(ledger.PreviewDeclined)+" token:zoe (static from 127.0.0.1)" {
		t.Errorf("decline: status %d, %q, %s", status, b.heading(t), state())
	}
	b.picture(t, "declined")
}

// An agent previews over Streamable HTTP what a second person must agree to. It is refused, an approver
// agrees in a browser, and the same code acts.
func TestSecondPersonInABrowser(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	for _, version := range []string{legacy, modern} {
		v := newVendors(t)
		s := v.approving(t, map[string]any{"human_approval": map[string]any{"bulk": "required", "second_person": true}})
		s.token = callerToken("bot")
		c := s.streamable(t, version)
		ids, preview, confirmed := v.bulk(t, c, 3)
		page := sureOfPage(t, s, preview)
		if code := fail(t, c, "bulk_revoke_tokens", confirmed); code != "human_required" || v.sent("DELETE") != 0 {
			t.Fatalf("before the approval: %s, %d requests", code, v.sent("DELETE"))
		}
		b.becomes(callerToken("zoe"))
		b.do(t, chromedp.Navigate(page), chromedp.SendKeys(chromedp.ID("phrase"), "REVOKE 3"))
		if status := b.goes(t, chromedp.Click(chromedp.CSS("button.go"))); status != http.StatusOK || b.heading(t) != "Approved" {
			t.Fatalf("status %d, %q", status, b.heading(t))
		}
		got, text := callTool(t, c, "bulk_revoke_tokens", confirmed)
		if got["status"] != "revoked" {
			t.Fatalf("after the approval: %s", text)
		}
		v.checkGone(t, ids, ids)
		on, err := v.ledger(t, nil).Get(t.Context(), got["operation_id"].(string))
		if err != nil || on.ApprovedBy != "token:zoe" || on.ApprovedFrom != "static from 127.0.0.1" || on.Principal != "token:bot" {
			t.Errorf("on record: asked by %s, approved by %s (%v)", on.Principal, on.ApprovedBy, err)
		}
		b.do(t, chromedp.Navigate(page))
		if b.heading(t) != "Carried out" || !strings.Contains(get(t, b, chromedp.Text(chromedp.CSS("main"))), on.ID) {
			t.Errorf("afterwards: %q", b.heading(t))
		}
	}
}
