package sandbox

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// managementToken is a record of user management (facts: Atlassian user
// management API, list API tokens).
type managementToken struct {
	ID             string `json:"id"`
	Label          string `json:"label"`
	CreatedAt      string `json:"createdAt"`
	LastAccess     any    `json:"lastAccess,omitempty"`
	Expiry         any    `json:"expiry,omitempty"`
	DisabledStatus string `json:"disabledStatus,omitempty"` // undocumented, as seen
	Canary         string `json:"sandboxCanary,omitempty"`
}

func (a *atlassian) managementRoutes() []route {
	return []route{
		newRoute("GET", "/users/*/manage/api-tokens", "", a.listUserTokens),
		newRoute("DELETE", "/users/*/manage/api-tokens/*", "", a.deleteUserToken),
		newRoute("GET", "/users/*/manage", "", a.userPrivileges),
	}
}

func (a *atlassian) serveUsers(c *call) answer {
	now := a.env.now()
	key := a.authenticate(c, now)
	if key == nil {
		return a.keyError(http.StatusUnauthorized, "unauthorized", nil)
	}
	if key.scopes != nil {
		return a.gatewayError(http.StatusForbidden, "The request requires the scope manage:org")
	}
	if allowed := a.userLimit.take("org", now); !allowed.ok {
		refused := a.gatewayError(http.StatusTooManyRequests, "Too Many Requests")
		a.addRetryAfter(refused, allowed, now)
		return refused
	}
	found, args, allow := find(a.userRoutes, c.method, c.path)
	switch {
	case found != nil:
	case allow != nil:
		refused := a.keyError(http.StatusMethodNotAllowed, "methodNotAllowed", nil)
		refused.header.Set("Allow", strings.Join(allow, ", "))
		return refused
	default:
		return a.keyError(http.StatusNotFound, "notFound", nil)
	}
	if !a.accountID.MatchString(args[0]) {
		return a.keyError(http.StatusBadRequest, "fieldConstraintsViolated", map[string]any{"fieldViolations": []any{
			map[string]any{"field": "account_id", "violations": []any{map[string]any{"key": "pattern"}}},
		}})
	}
	return found.handle(c, args)
}

// account finds an account for user management. Service accounts do not exist
// there, and an account that the organization does not manage is refused.
func (a *atlassian) account(id string) (*atlassianAccount, *answer) {
	account := a.accounts[id]
	if account == nil || account.service {
		refused := a.keyError(http.StatusNotFound, "accountNotFound", nil)
		return nil, &refused
	}
	if !account.managed {
		refused := a.forbiddenAction("managedAccount")
		return nil, &refused
	}
	return account, nil
}

func (a *atlassian) forbiddenAction(reason string) answer {
	return a.keyError(http.StatusForbidden, "forbidden.action",
		map[string]any{"allowed": false, "reason": map[string]any{"key": reason}})
}

func (a *atlassian) listUserTokens(_ *call, args []string) answer {
	account, refused := a.account(args[0])
	if refused != nil {
		return *refused
	}
	tokens := make([]managementToken, 0, len(account.tokens))
	for _, t := range account.tokens {
		record := managementToken{ID: t.userID, Label: t.label, CreatedAt: isoMillis(t.created), Canary: a.env.marker()}
		record.LastAccess = a.managementDate(t.lastActive)
		if !a.opts.OmitExpiry {
			record.Expiry = a.managementDate(t.expires)
		}
		if t.status != "ALLOWED" {
			record.DisabledStatus = t.status
		}
		tokens = append(tokens, record)
	}
	return reply(http.StatusOK, tokens)
}

func (a *atlassian) managementDate(ms int64) any {
	switch {
	case ms != 0:
		return isoMillis(ms)
	case a.opts.NullLastAccess:
		return json.RawMessage("null")
	default:
		return nil
	}
}

func (a *atlassian) deleteUserToken(c *call, args []string) answer {
	account, refused := a.account(args[0])
	if refused != nil {
		return *refused
	}
	if account.refusal != "" {
		return a.forbiddenAction(account.refusal)
	}
	i := slices.IndexFunc(account.tokens, func(t *atlassianToken) bool { return t.userID == args[1] })
	if i < 0 {
		return a.keyError(http.StatusNotFound, "notFound", nil)
	}
	a.note(TokenDeleted, account.tokens[i], c.seq)
	a.remove(account.tokens[i])
	return reply(http.StatusNoContent, nil)
}

// userPrivileges answers what the caller may do to the account. The asked names
// may be repeated or a comma list; none asks for all that concern tokens.
func (a *atlassian) userPrivileges(c *call, args []string) answer {
	account, refused := a.account(args[0])
	if refused != nil {
		return *refused
	}
	asked := []string{}
	for _, value := range c.query["privileges"] {
		asked = append(asked, strings.Split(value, ",")...)
	}
	if len(asked) == 0 {
		asked = []string{"apiToken.read", "apiToken.delete"}
	}
	body := map[string]any{}
	for _, privilege := range asked {
		switch {
		case privilege == "apiToken.delete" && account.refusal != "":
			body[privilege] = map[string]any{"allowed": false, "reason": map[string]any{"key": account.refusal}}
		case privilege == "apiToken.read" || privilege == "apiToken.delete":
			body[privilege] = map[string]any{"allowed": true}
		}
	}
	return reply(http.StatusOK, body)
}
