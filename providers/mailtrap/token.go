package mailtrap

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	maxScopes    = 20  // entries of Detail.Scopes before "… and N more"
	maxAccessKey = 120 // bytes of an access key that stays readable
)

// token maps a record. Mailtrap tells neither creation nor last use (unknown, not
// never), and created_by can be a token's name, so it is no owner.
func (p *Provider) token(r *record, now time.Time) providers.Token {
	cleanName, altered := sanitize.Name(string(r.Name))
	createdBy, isMakerAltered := sanitize.Name(string(r.CreatedBy))
	scopes, isScopeAltered := r.Resources.scopes()
	t := providers.Token{
		ID:          string(r.ID),
		Name:        cleanName,
		NameAltered: altered,
		TextAltered: isMakerAltered || isScopeAltered,
		Kind:        providers.KindUnknown,
		Status:      p.status(r, now),
		Access:      r.Resources.access(),
		Expires:     r.Expires.date,
		AccessKey:   r.Resources.key(),
		LastFour:    lastFour(string(r.LastFour)),
		Detail:      providers.Detail{CreatedBy: createdBy, Scopes: scopes},
	}
	if altered {
		t.NameKey = digest(string(r.Name))
	}
	return t
}

// status judges by the end of life alone. That a token is in grace shows only
// where this process reset it: to others it is one with an end of life.
func (p *Provider) status(r *record, now time.Time) providers.Status {
	at, ok := r.Expires.date.Time()
	switch {
	case r.Expires.date.IsUnknown():
		return providers.StatusUnknown
	case ok && !at.After(now):
		return providers.StatusExpired
	case ok && p.wasReset(string(r.ID)):
		return providers.StatusInGrace
	default:
		return providers.StatusActive
	}
}

func (p *Provider) wasReset(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reset[id]
}

func (p *Provider) rememberReset(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset[id] = true
}

// wasMade reports whether somebody got the token's secret: this process, or one that the caller
// knows of. With an error that is not known.
func (p *Provider) wasMade(ctx context.Context, id string) (bool, error) {
	p.mu.Lock()
	made := p.made[id]
	p.mu.Unlock()
	if made {
		return true, nil
	}
	return providers.IsMade(ctx, id)
}

func (p *Provider) rememberMade(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[id] = true
}

// lastFour drops what is not the end of a secret: nothing longer may pass.
func lastFour(s string) string {
	clean, altered := sanitize.Name(s)
	if altered || utf8.RuneCountInString(clean) != 4 {
		return ""
	}
	return clean
}

// access is admin for an admin of the whole account only; admin of a part is custom.
func (r resources) access() providers.Access {
	if len(r.list) == 0 {
		return providers.AccessUnknown
	}
	all := providers.AccessRead
	for _, p := range r.list {
		level := p.level()
		switch {
		case p.Type == "account" && level >= levelAdmin:
			return providers.AccessAdmin
		case level != levelViewer && level != levelViewerPlus:
			all = providers.AccessCustom
		}
	}
	return all
}

// key is the permissions in an order of their own, since the vendor promises none.
func (r resources) key() string {
	if r.unreadable != "" {
		return digest(r.unreadable)
	}
	parts := make([]string, 0, len(r.list))
	for _, p := range r.list {
		parts = append(parts, keyPart(p.Type)+"/"+keyPart(p.ID)+" "+keyPart(p.Level))
	}
	slices.Sort(parts)
	key := strings.Join(parts, ", ")
	if len(key) > maxAccessKey {
		return digest(key)
	}
	return key
}

// keyPart quotes what could be mistaken for a separator.
func keyPart(t text) string {
	if isWord(string(t)) {
		return string(t)
	}
	return strconv.QuoteToASCII(string(t))
}

// isWord reports whether s is 1 to 64 letters, digits, "_", "-", "." or ":".
func isWord(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("_-.:", r)
	})
}

// scopes returns the permissions as "account/3229 admin", at most 20, and whether
// cleaning changed one.
func (r resources) scopes() (scopes []string, altered bool) {
	if r.unreadable != "" {
		return []string{"permissions in an unknown form"}, false
	}
	for _, p := range r.list {
		if len(scopes) == maxScopes {
			return append(scopes, fmt.Sprintf("… and %d more", len(r.list)-maxScopes)), altered
		}
		scope, changed := sanitize.Name(string(p.Type) + "/" + string(p.ID) + " " + levelWord(p.Level))
		scopes, altered = append(scopes, scope), altered || changed
	}
	return scopes, altered
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
