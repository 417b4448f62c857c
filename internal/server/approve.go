package server

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/loopback"
	"github.com/tokenreeve/tokenreeve/internal/refusal"
	"github.com/tokenreeve/tokenreeve/tools"
)

// approvePath is where previews are approved; their ids follow.
const (
	approvePath  = "/approve/"
	approveRoute = approvePath + "{id}"
)

// maxDecision bounds the body of a decision, in bytes.
const maxDecision = 16 << 10

// TakesBasic reports whether a browser may present its token by HTTP Basic: on the pages for people.
// The router has found the route before callers are asked for.
func TakesBasic(r *http.Request) bool {
	_, route, _ := strings.Cut(r.Pattern, " ")
	return route == approveRoute
}

// showApproval shows a preview to who may approve it.
func (v *service) showApproval(w http.ResponseWriter, r *http.Request) {
	v.approval(w, r, func(who auth.Principal) {
		// Another page could have its reader's browser open this one as an image or a frame.
		if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
			refusal.Write(w, http.StatusForbidden, "not_a_page", "open this address itself, not within another page")
			return
		}
		a, err := v.options.Env.ToApprove(r.Context(), who, r.PathValue("id"))
		v.answerApproval(w, r, a, err)
	})
}

// decide takes a person's yes or no. Only our own page, or a program, may send it.
func (v *service) decide(w http.ResponseWriter, r *http.Request) {
	v.approval(w, r, func(who auth.Principal) {
		d, ok := v.readDecision(w, r)
		if !ok {
			return
		}
		id := r.PathValue("id")
		a, err := v.options.Env.Decide(r.Context(), who, id, d)
		var problem *tools.Problem
		switch {
		case err == nil && wantsPage(r):
			seePage(w, id)
		case errors.As(err, &problem) && problem.Code == tools.CodeWrongPhrase && wantsPage(r):
			seePage(w, id+"?"+wrongPhrase)
		default:
			v.answerApproval(w, r, a, err)
		}
	})
}

// wrongPhrase is the query of a page that is shown again.
const wrongPhrase = "phrase=wrong"

// seePage sends a browser from its form back to the page, so that neither going back nor loading it
// again sends the form a second time. The place is beside that of the request, whatever a proxy puts in
// front.
func seePage(w http.ResponseWriter, page string) {
	w.Header().Set("Location", page)
	w.WriteHeader(http.StatusSeeOther)
}

// approval checks what is common to looking and deciding.
func (v *service) approval(w http.ResponseWriter, r *http.Request, do func(auth.Principal)) {
	who, _ := auth.PrincipalFrom(r.Context()) // there is one, else the request had not come so far
	origins := r.Header.Values("Origin")
	switch {
	case v.options.Env == nil:
		refusal.Write(w, http.StatusNotFound, tools.CodeNoPreview, "no previews are approved here")
	case len(origins) > 0 && !v.isOwnPage(origins[0]):
		refusal.Write(w, http.StatusForbidden, "forbidden_origin", "the Origin header names another page than this server's own")
	case !v.messages.begin(who.Name):
		tooManyMessages(w)
	default:
		defer v.messages.end(who.Name)
		do(who)
	}
}

// isOwnPage reports whether the origin is this server as browsers reach it.
func (v *service) isOwnPage(origin string) bool {
	scheme, _, _ := splitOrigin(origin)
	return v.access.isOwn(origin) && scheme == v.scheme
}

// readDecision reads a form of our page, or the same as JSON from a program, or answers the request.
// A browser says from where a form comes, and asks beforehand before it sends JSON for another page.
func (v *service) readDecision(w http.ResponseWriter, r *http.Request) (tools.Decision, bool) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isForm := mediaType == "application/x-www-form-urlencoded"
	site := r.Header.Get("Sec-Fetch-Site")
	refused := func(status int, code, message string) (tools.Decision, bool) {
		w.Header().Set("Connection", "close") // its body was not read
		refusal.Write(w, status, code, message)
		return tools.Decision{}, false
	}
	switch {
	case site != "" && site != "same-origin":
		return refused(http.StatusForbidden, "forbidden_site", "the decision comes from another page than this server's own")
	case isForm && r.Header.Get("Origin") == "":
		return refused(http.StatusForbidden, "no_origin", "the browser does not say from which page the decision comes (Origin)")
	case !isForm && mediaType != "application/json":
		return refused(http.StatusUnsupportedMediaType, "not_a_decision", "Content-Type must be application/json, or that of the page's form")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxDecision)
	var sent struct{ Decision, Phrase, Form string }
	var err error
	if isForm {
		if err = r.ParseForm(); err == nil {
			sent.Decision, sent.Phrase, sent.Form = r.PostForm.Get("decision"), r.PostForm.Get("phrase"), r.PostForm.Get("form")
		}
	} else {
		err = json.NewDecoder(r.Body).Decode(&sent)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refused(http.StatusRequestEntityTooLarge, "too_large", "a decision has at most 16384 bytes")
	case err != nil:
		return refused(http.StatusBadRequest, "not_a_decision", "the decision cannot be read")
	case sent.Decision != "approve" && sent.Decision != "decline":
		return refused(http.StatusBadRequest, "not_a_decision", "decision is neither approve nor decline")
	}
	return tools.Decision{Approve: sent.Decision == "approve", Phrase: sent.Phrase, Form: sent.Form}, true
}

// answerApproval answers with the preview, or with what was wrong.
func (v *service) answerApproval(w http.ResponseWriter, r *http.Request, a tools.Approvable, err error) {
	var problem *tools.Problem
	switch {
	case errors.As(err, &problem):
		refusal.Write(w, statusOf(problem.Code), problem.Code, problem.Error())
	case err != nil:
		refusal.Write(w, http.StatusInternalServerError, "internal_error", "the server failed")
	case wantsPage(r):
		p := pageOf(&a)
		if a.CanApprove && r.URL.RawQuery == wrongPhrase {
			p.Notice = "Nothing was approved: that was not the phrase."
		}
		v.pages.show(w, http.StatusOK, p)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a)
	}
}

func statusOf(code string) int {
	switch code {
	case tools.CodeNoPreview:
		return http.StatusNotFound
	case tools.CodeOwnPreview, tools.CodeFormSpent:
		return http.StatusForbidden
	case tools.CodeAlreadyDecided:
		return http.StatusConflict
	case tools.CodeWrongPhrase:
		return http.StatusUnprocessableEntity
	default:
		return http.StatusServiceUnavailable
	}
}

// withApprovalPage lets the answers to calls name the page where their previews are approved.
func (v *service) withApprovalPage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if base := v.approvalPage(r.Host); base != "" {
			r = r.WithContext(tools.WithApprovalPage(r.Context(), base))
		}
		next.ServeHTTP(w, r)
	})
}

// approvalPage returns where people reach the pages for approvals, or "" where that is not known: by
// the name of the request, which was checked, or behind a proxy rather by that of the OAuth resource.
func (v *service) approvalPage(host string) string {
	if v.options.Env == nil || !v.options.Env.ApprovedOverHTTP {
		return ""
	}
	isDirect := v.hasTLS || v.scheme == "http" && loopback.IsHost(nameOf(host))
	if u, err := url.Parse(v.options.Resource.URL); !isDirect && err == nil && u.Host != "" {
		prefix := strings.TrimRight(u.EscapedPath(), "/")
		for _, path := range []string{"/mcp", "/sse"} {
			prefix = strings.TrimSuffix(prefix, path)
		}
		return u.Scheme + "://" + u.Host + prefix + approvePath
	}
	if !isDirect && v.scheme != "https" {
		return ""
	}
	return v.scheme + "://" + host + approvePath
}
