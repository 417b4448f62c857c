package mailtrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/transport"
)

// notFound marks a 404 whose body is in the vendor's form. It never leaves this
// package: Mailtrap has no codes.
const notFound = "not_found"

// maxDepth bounds how deep an error body is read.
const maxDepth = 6

// problem reads an error body: {"error": text} or {"errors": text, list or object}.
func problem(status int, body []byte) (code, message string) {
	var answer struct {
		Error  any `json:"error"`
		Errors any `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", ""
	}
	message = flatten(answer.Errors, 0)
	if message == "" {
		message = flatten(answer.Error, 0)
	}
	if status == http.StatusNotFound && message != "" {
		code = notFound
	}
	return code, message
}

// flatten writes lists as "a, b" and objects as "base: a; name: b", by their keys.
func flatten(value any, depth int) string {
	if depth > maxDepth {
		return "…"
	}
	var parts []string
	add := func(prefix string, value any) {
		if text := flatten(value, depth+1); text != "" {
			parts = append(parts, prefix+text)
		}
	}
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	case []any:
		for _, v := range value {
			add("", v)
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			add(key+": ", value[key])
		}
		return strings.Join(parts, "; ")
	default:
		return fmt.Sprint(value)
	}
}

// explain adds to an error what is particular to Mailtrap.
func explain(err error, request transport.Request, response transport.Response) error {
	var e *providers.Error
	if !errors.As(err, &e) {
		return err
	}
	fromVendor := e.VendorCode == notFound
	e.VendorCode = ""
	switch e.Status {
	case http.StatusUnauthorized:
		e.Message += "; Mailtrap answers so also where the credential is valid but lacks a permission"
		e.Next = "ask the operator to check the connection's credential: a live API token with admin access to the account is needed"
	case http.StatusForbidden:
		e.Next = "ask the operator for a credential with admin access to the account, and to check account_id"
	case http.StatusTooManyRequests:
		if e.RetryAfter == 0 {
			e.Next = "wait 10 seconds, then try again"
		}
	case http.StatusNotFound:
		e.Next = "list tokens to find the right id; where that fails as well, ask the operator to check account_id"
		if !fromVendor {
			strange404(e, request, response)
		}
	}
	return err
}

// strange404 turns a 404 that is not in Mailtrap's form into an error that proves
// nothing: a proxy or a wrong base URL answers so as well, and a live token must
// not be taken for gone.
func strange404(e *providers.Error, request transport.Request, response transport.Response) {
	e.Code = providers.CodeBadAnswer
	e.Message = "a 404 came that is not in Mailtrap's form, so it does not prove that the record is gone"
	e.Next = "ask the operator to check the connection's base_url, account_id and any proxy in between"
	if request.Retry == transport.Repeatable && response.MayHaveActed {
		e.Code = providers.CodeOutcomeUnknown
		e.Next = "read the token to see whether an earlier attempt was carried out before trying again"
	}
}

// withNext replaces the next step of an error that has the code.
func withNext(err error, code providers.Code, next string) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == code {
		e.Next = next
	}
	return err
}

// withMessage puts a sentence before the message of an error that has the code.
func withMessage(err error, code providers.Code, message string) error {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == code {
		e.Message = message + ": " + e.Message
	}
	return err
}

// invalid returns the error of an argument that is refused before anything is sent.
func invalid(format string, args ...any) *providers.Error {
	return &providers.Error{Provider: providerName, Code: providers.CodeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}

// refused returns the error of what cannot be done to a token.
func refused(message, next string) *providers.Error {
	return &providers.Error{Provider: providerName, Code: providers.CodeRefused, Message: message, Next: next}
}
