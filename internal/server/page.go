package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/tools"
)

// style is that of all pages. Its digest stands in their Content-Security-Policy.
const style = `
:root{color-scheme:light dark;--edge:#c8ccd0;--soft:#f3f4f6;--dim:#57606a;--go:#1a6b35;--stop:#a4262c;--mind:#8a5a00}
@media (prefers-color-scheme:dark){:root{--edge:#3d444d;--soft:#1c2128;--dim:#9aa4af;--go:#3fa35c;--stop:#f0706a;--mind:#d9a441}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}
h2{font-size:1rem;margin:1.5rem 0 .25rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.5rem;margin:0;padding:.75rem 1rem;background:var(--soft);border:1px solid var(--edge);border-radius:6px}
dt{color:var(--dim)}
dd{margin:0}
ul{margin:0;padding-left:1.25rem}
.mind{border-left:4px solid var(--mind);padding-left:1.5rem}
.notice{border-left:4px solid var(--stop);padding-left:.75rem;font-weight:600}
.scroll{overflow-x:auto;border:1px solid var(--edge);border-radius:6px}
table{border-collapse:collapse;width:100%;font-size:.875rem}
caption{text-align:left;padding:.5rem .75rem;font-weight:600}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem;border-top:1px solid var(--edge)}
thead th{color:var(--dim);font-weight:600;white-space:nowrap}
tbody th{font-weight:400;font-family:ui-monospace,monospace;white-space:nowrap}
td{min-width:6rem}
code{font-family:ui-monospace,monospace;font-weight:600}
form{margin-top:1.5rem;padding:1rem;border:1px solid var(--edge);border-radius:6px}
label{display:block;margin-bottom:.35rem}
input[type=text]{margin-bottom:1rem}
input{font:inherit;width:100%;max-width:24rem;padding:.45rem .6rem;border:1px solid var(--dim);border-radius:6px;background:Canvas;color:CanvasText}
.buttons{display:flex;flex-wrap:wrap;gap:.75rem}
button{font:inherit;font-weight:600;padding:.5rem 1.25rem;border:1px solid currentColor;border-radius:6px;background:Canvas;cursor:pointer}
.go{color:var(--go)}
.stop{color:var(--stop)}
:focus-visible{outline:3px solid #4c8dff;outline-offset:2px}
footer{margin-top:2rem;color:var(--dim);font-size:.875rem}
@media (max-width:32rem){dl{grid-template-columns:1fr}dt{margin-top:.35rem}}
`

// page is what a person sees.
type page struct {
	Title    string
	Notice   string // what was wrong with what was sent
	Message  string
	Facts    []fact
	Effects  []string
	Warnings []string
	Shared   []fact
	Columns  []string
	Rows     [][]string
	Form     string // empty: there is nothing to decide
	Phrase   string // empty: there is nothing to approve
	Again    bool
	Footer   string
}

type fact struct{ Name, Value string }

// pages writes pages.
type pages struct{ policy string }

func newPages() pages {
	sum := sha256.Sum256([]byte(style))
	return pages{
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	}
}

func (pages) show(w http.ResponseWriter, status int, content page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = content.node().Render(w) // fails where the client is gone
}

// guard puts the headers of pages on every answer, and makes pages of refusals for browsers.
func (p pages) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": p.policy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			// With no-referrer a browser would hide the page's own Origin from it, which is wanted.
			"Referrer-Policy":              "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			w.Header().Set(name, value)
		}
		w.Header().Add("Vary", "Accept")
		if !wantsPage(r) {
			next.ServeHTTP(w, r)
			return
		}
		caught := &refusals{ResponseWriter: w}
		next.ServeHTTP(caught, r)
		if caught.status != 0 {
			p.show(w, caught.status, caught.page())
		}
	})
}

// wantsPage tells a browser from a program.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// refusals is the writer of an answer to a browser. It holds a refusal back, which is JSON, so that a page
// can take its place.
type refusals struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

// WriteHeader implements http.ResponseWriter.
func (w *refusals) WriteHeader(status int) {
	if status >= http.StatusBadRequest && w.Header().Get("Content-Type") == "application/json" {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *refusals) Write(data []byte) (int, error) {
	if w.status != 0 {
		return w.body.Write(data)
	}
	return w.ResponseWriter.Write(data)
}

// Unwrap serves http.ResponseController.
func (w *refusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *refusals) page() page {
	var refusal struct{ Code, Message string }
	_ = json.Unmarshal(w.body.Bytes(), &refusal) // it is ours
	title := map[int]string{
		http.StatusUnauthorized: "Who are you?", http.StatusForbidden: "Refused", http.StatusNotFound: "Nothing to approve", http.StatusConflict: "Decided already",
	}[w.status]
	if title == "" {
		title = http.StatusText(w.status)
	}
	message := refusal.Message
	if w.status == http.StatusUnauthorized {
		message = "give your token as the password; the user's name does not matter"
	}
	return page{Title: title, Message: sentence(message), Again: w.status != http.StatusNotFound, Footer: fmt.Sprintf("%d %s", w.status, refusal.Code)}
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// pageOf shows a preview, or what became of it.
func pageOf(a *tools.Approvable) page {
	s := &a.Shown
	p := page{Effects: s.Effects, Warnings: s.Warnings, Form: a.Form, Footer: "tokenreeve preview " + a.PreviewID}
	switch {
	case a.CanApprove:
		p.Title, p.Phrase = "Approve this change?", s.Phrase
		p.Message = "An agent has asked for it, and nothing was changed yet. It acts once you approve and the agent asks again."
	case a.State == ledger.PreviewOpen:
		p.Title = "Approved"
		p.Message = "The agent's next call with its code makes the change. Until then you can still decline."
	case a.State == ledger.PreviewDeclined:
		p.Title, p.Message = "Declined", "Nothing was changed, and the agent's code does nothing any more."
	case a.State == ledger.PreviewRunning:
		p.Title, p.Message = "Being carried out", "The agent has asked again, and the change is under way."
	default:
		p.Title, p.Message = "Carried out", "The change has ended as "+string(a.Outcome)+", and is on record as operation "+a.OperationID+"."
	}
	for _, f := range []fact{
		{"Asked by", a.AskedBy},
		{"Tool", s.Tool},
		{"Connection", s.Connection},
		{"Reason given", s.Reason},
		{"Risk", risk(s)},
		{"Tokens", tokens(s)},
		{"Owners", strings.Join(s.Owners, ", ")},
		{"Most recent use", s.LastUse},
		{"Approved by", a.ApprovedBy},
		{"Declined by", a.DeclinedBy},
		{"Expires", expiry(a)},
	} {
		if f.Value != "" {
			p.Facts = append(p.Facts, f)
		}
	}
	for _, column := range s.Columns {
		p.Columns = append(p.Columns, inWords(column))
	}
	for _, column := range slices.Sorted(maps.Keys(s.SharedColumns)) {
		p.Shared = append(p.Shared, fact{inWords(column), s.SharedColumns[column]})
	}
	p.Rows = s.Rows
	return p
}

func inWords(column string) string { return strings.ReplaceAll(column, "_", " ") }

// tokens says how many there are, and whether they are shown.
func tokens(s *tools.Shown) string {
	switch {
	case s.Count == 0:
		return ""
	case len(s.Rows) == 0:
		return fmt.Sprintf("%d, too many to show", s.Count)
	default:
		return strconv.Itoa(s.Count)
	}
}

// risk says how much the change can end.
func risk(s *tools.Shown) string {
	words := map[policy.Risk]string{
		policy.RiskSingle: "one token", policy.RiskBulk: "several tokens", policy.RiskOrgWide: "every token of the organization",
	}[s.Risk]
	if s.Ends {
		words += ", which may be in use"
	}
	return words
}

// expiry says until when an open preview can be decided and carried out.
func expiry(a *tools.Approvable) string {
	if a.State != ledger.PreviewOpen {
		return ""
	}
	left := time.Until(a.Expires).Round(time.Second)
	return a.Expires.UTC().Format("2006-01-02 15:04:05 UTC") + ", " + left.String() + " from when this page was loaded"
}
