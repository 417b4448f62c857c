package mailtrap

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	maxName  = 255 // runes; the vendor publishes no limit, one of its SDKs checks this
	maxYears = 5   // years that an end of life may lie ahead
)

// TokenSpec is a token to be made.
type TokenSpec struct {
	Name        string // 1 to 255 characters; need not be unique (assumed)
	Permissions []Permission
	// Expires is the end of life: unknown leaves the choice to Mailtrap, Never asks
	// for none, a moment must be in the future and at most five years ahead. It is
	// sent to the second.
	Expires providers.Date
}

// Permission is access to one resource and what is below it.
type Permission struct {
	ResourceType string // account, project, sandbox or domain; inbox and sending_domain are synonyms
	ResourceID   string // for account: the account id
	AccessLevel  string // viewer or admin; 10 and 100 are synonyms
}

// Check returns an Error with CodeInvalidArgument where the name or a permission
// cannot be sent. The end of life needs a clock: [Provider.CheckSpec].
func (s TokenSpec) Check() error {
	switch {
	case strings.TrimSpace(s.Name) == "":
		return invalid("name is empty; it needs 1 to %d characters", maxName)
	case !utf8.ValidString(s.Name):
		return invalid("name is not valid UTF-8")
	case utf8.RuneCountInString(s.Name) > maxName:
		return invalid("name has %d characters; at most %d are allowed", utf8.RuneCountInString(s.Name), maxName)
	case len(s.Permissions) == 0:
		return invalid("permissions are empty; Mailtrap makes no token without at least one")
	}
	seen := map[[2]string]bool{}
	for _, p := range s.Permissions {
		if err := p.check(); err != nil {
			return err
		}
		current, _ := currentWord(p.ResourceType)
		resource := [2]string{current, p.ResourceID}
		if seen[resource] {
			return invalid("permissions name %s %s twice; give one access_level for each resource", current, quote(p.ResourceID))
		}
		seen[resource] = true
	}
	return nil
}

func (p Permission) check() error {
	if _, ok := currentWord(p.ResourceType); !ok {
		return invalid("unknown resource words: resource_type %s; valid are account, project, sandbox and domain", quote(p.ResourceType))
	}
	if !isWord(p.ResourceID) {
		return invalid("resource_id %s is not an id of Mailtrap; valid is a whole number, such as 3229", quote(p.ResourceID))
	}
	if _, ok := writableLevel(p.AccessLevel); !ok {
		return invalid("access_level %s cannot be written; valid are viewer (10) and admin (100)", quote(p.AccessLevel))
	}
	return nil
}

// IsElevated reports whether the token would be an admin of the whole account.
func (s TokenSpec) IsElevated() bool {
	for _, p := range s.Permissions {
		if level, _ := writableLevel(p.AccessLevel); p.ResourceType == "account" && level >= levelAdmin {
			return true
		}
	}
	return false
}

// Grant names what the token would be given: "account_admin" for an admin of the
// whole account, "read" for a viewer, else "write". What cannot be told is
// "account_admin".
func (s TokenSpec) Grant() string {
	if s.IsElevated() || len(s.Permissions) == 0 {
		return "account_admin"
	}
	grant := "read"
	for _, p := range s.Permissions {
		level, ok := writableLevel(p.AccessLevel)
		if _, known := currentWord(p.ResourceType); !ok || !known {
			return "account_admin"
		}
		if level != levelViewer {
			grant = "write"
		}
	}
	return grant
}

// CheckSpec returns an Error with CodeInvalidArgument where s cannot be sent now.
// It sends nothing.
func (p *Provider) CheckSpec(s TokenSpec) error {
	if err := s.Check(); err != nil {
		return err
	}
	return checkExpires(s.Expires, p.now())
}

func checkExpires(expires providers.Date, now time.Time) error {
	at, ok := expires.Time()
	if !ok {
		return nil
	}
	// Judged as it is sent, to the second.
	if at = at.Truncate(time.Second); !at.After(now) {
		return invalid("expires is %s, which is not in the future", expires)
	}
	if latest := now.AddDate(maxYears, 0, 0); at.After(latest) {
		return invalid("expires is %s; Mailtrap allows at most %d years ahead, until %s, or never", expires, maxYears, providers.At(latest))
	}
	return nil
}

// Create makes a token. The Expires of the answer is what Mailtrap told, which
// can differ from what was asked: see [ExpiryDiffers].
//
// The tokens of the same name are listed before, since Mailtrap does not tell when
// a token was made: without that list nothing is sent. After a lost answer they are
// listed again, and the error has CodeOutcomeUnknown and says in Lost what is new.
func (p *Provider) Create(ctx context.Context, spec TokenSpec) (providers.Minted, error) {
	return p.create(ctx, spec, "call create_mailtrap_token again")
}

// create is Create; again says how to try once more.
func (p *Provider) create(ctx context.Context, spec TokenSpec, again string) (providers.Minted, error) {
	if err := p.CheckSpec(spec); err != nil {
		return providers.Minted{}, err
	}
	before, err := p.namesakes(ctx, spec.Name)
	if err != nil {
		return providers.Minted{}, nothingSent(err)
	}
	m, err := p.client.create(ctx, spec.body(p.words))
	if err != nil {
		return providers.Minted{}, p.lostCreation(ctx, spec.Name, before, m, again, err)
	}
	return p.minted(m), nil
}

func (p *Provider) minted(m *minted) providers.Minted {
	p.rememberMade(string(m.ID))
	return providers.Minted{Token: p.token(&m.record, p.now()), Secret: m.Secret}
}

// body returns the spec, which was checked, as it is sent.
func (s TokenSpec) body(words string) newToken {
	body := newToken{Name: s.Name, Expires: expiry{s.Expires}}
	for _, p := range s.Permissions {
		current, _ := currentWord(p.ResourceType)
		level, _ := writableLevel(p.AccessLevel)
		body.Resources = append(body.Resources, grant{Type: sentWord(current, words), ID: resourceID(p.ResourceID), Level: level})
	}
	return body
}

// ExpiryDiffers reports whether Mailtrap gave a new token another end of life
// than was asked for: an older server ignores the wish. Compared to the second;
// where nothing was asked for, nothing differs.
func ExpiryDiffers(asked, told providers.Date) bool {
	if asked.IsUnknown() {
		return false
	}
	return !toSecond(asked).Equal(toSecond(told))
}

func toSecond(d providers.Date) providers.Date {
	if at, ok := d.Time(); ok {
		return providers.At(at.Truncate(time.Second))
	}
	return d
}
