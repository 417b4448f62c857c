package atlassian

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// The vendor's words for what user management does not know.
const (
	keyAccountNotFound = "accountNotFound"
	keyTokenNotFound   = "notFound"
)

const nextUnscoped = "user management needs an organization API key without scopes: ask the operator to set one as user_management_credential"

func dialect() transport.Dialect {
	return transport.Dialect{
		Provider:  vendor,
		Authorize: func(h http.Header, credential string) { h.Set("Authorization", "Bearer "+credential) },
		Budgets:   budgets,
		Problem:   problem,
	}
}

// budgets reads the headers that API Access documents; user management has none.
// That the reset is ISO 8601 comes from a sibling API's page.
// A reset more than a day away is no window that anybody waits for.
func budgets(h http.Header, now time.Time) []transport.Budget {
	remaining, err := strconv.Atoi(h.Get("X-RateLimit-Remaining"))
	reset, ok := parseTime(h.Get("X-RateLimit-Reset"))
	if err != nil || !ok || remaining < 0 || reset.After(now.Add(24*time.Hour)) {
		return nil
	}
	limit, err := strconv.Atoi(h.Get("X-RateLimit-Limit"))
	if err != nil || limit < 0 {
		limit = 0 // not told
	}
	return []transport.Budget{{Name: "requests", Limit: limit, Remaining: remaining, Reset: reset}}
}

// problemBody is every error shape at once. User management answers key and
// context (documented); API Access documents none, and answers like its siblings
// or its gateway (assumed).
type problemBody struct {
	Key     string `json:"key"`
	Context struct {
		Reason struct {
			Key string `json:"key"`
		} `json:"reason"`
		FieldViolations []struct {
			Field      string `json:"field"`
			Violations []struct {
				Key string `json:"key"`
			} `json:"violations"`
		} `json:"fieldViolations"`
	} `json:"context"`
	Code    any    `json:"code"` // a number at the gateway
	Message string `json:"message"`
	Error   any    `json:"error"` // a word in the framework's shape
	Errors  []struct {
		Code   string `json:"code"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
	} `json:"errors"`
}

// problem reads an error body of any shape. Of a body that fits none it takes
// what fits.
func problem(status int, body []byte) (code, message string) {
	var b problemBody
	_ = json.Unmarshal(body, &b) // a member of the wrong type leaves the others
	switch {
	case b.Key != "":
		return b.Key, join(b.Context.Reason.Key, b.violations(), b.Message)
	case len(b.Errors) > 0:
		first := b.Errors[0]
		return first.Code, join(first.Title, first.Detail)
	}
	word, _ := b.Error.(string)
	switch c := b.Code.(type) {
	case string:
		word = c
	case float64:
		if int(c) != status { // the status again says nothing
			word = strconv.Itoa(int(c))
		}
	}
	return word, b.Message
}

func (b *problemBody) violations() string {
	var all []string
	for _, field := range b.Context.FieldViolations {
		for _, violation := range field.Violations {
			all = append(all, field.Field+" "+violation.Key)
		}
	}
	return strings.Join(all, ", ")
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// explainUsers adds to an error of user management what its operator needs to
// know. A 404 whose key is none of known did not come from user management and
// proves nothing.
func explainUsers(err error, known ...string) error {
	var e *providers.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case providers.CodeForbidden:
		if strings.HasPrefix(e.VendorCode, "forbidden.") {
			e.Next = "the vendor lets nobody do this to this account through the API; see its reason"
			break
		}
		if text := e.Message + e.VendorCode; strings.Contains(strings.ToLower(text), "scope") || strings.Contains(text, "manage:org") {
			e.Message = "user management refuses an organization API key with scopes"
		}
		e.Next = nextUnscoped
	case providers.CodeCredentialRejected:
		e.Next = "ask the operator to renew the organization API key for user management (user_management_credential where it is set, else credential)"
	case providers.CodeNotFound:
		switch {
		case !slices.Contains(known, e.VendorCode):
			e.Code, e.Message = providers.CodeBadAnswer, "the answer is a 404 that user management does not give"
			e.Next = "check the connection's base_url and any proxy in between, then try again"
		case e.VendorCode == keyAccountNotFound:
			e.Message, e.Next = "user management knows no such account", "list tokens to find the owner's account id"
		}
	}
	return err
}

// explainAccess names the scope that API Access asks for.
func explainAccess(err error, scope string) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeForbidden {
		e.Next = "ask the operator for an organization API key that has the scope " + scope + ", or none"
	}
	return err
}

// vendorCode returns the vendor's word in err, or "".
func vendorCode(err error) string {
	var e *providers.Error
	if errors.As(err, &e) {
		return e.VendorCode
	}
	return ""
}

func isAccountUnknown(err error) bool { return vendorCode(err) == keyAccountNotFound }

// isRefused reports whether the vendor refused the credential or its rights.
func isRefused(err error) bool {
	code := providers.CodeOf(err)
	return code == providers.CodeForbidden || code == providers.CodeCredentialRejected
}

func invalid(format string, args ...any) error {
	return &providers.Error{Provider: vendor, Code: providers.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

// contradiction is the error of an answer that cannot be right.
func contradiction(message string) error {
	return &providers.Error{
		Provider: vendor, Code: providers.CodeVendorProtocol, Message: message,
		Next: "try again; if it stays, check the connection's base_url and any proxy in between",
	}
}
