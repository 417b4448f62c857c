package providers

import (
	"slices"
	"strings"
	"time"
)

// Filter selects tokens. All fields that are set must hold. The zero value
// selects every token. Ages were turned into moments by the caller, so that a
// filter means the same on every page and at the confirmation.
type Filter struct {
	Owner           string   // account id, member id or exact e-mail address
	ServiceAccounts []string // ids of service accounts
	Query           string   // part of the name, the owner's name or e-mail address, any case
	Kind            Kind
	Status          Status
	Access          Access
	CreatedAfter    time.Time // created at or after
	CreatedBefore   time.Time // created before
	Unused          Bound     // last use at or before At, or never used and created at or before it
	Expires         Bound     // end of life after Now and at or before At
	Now             time.Time // the moment the filter was made
	// VendorSearch lets the vendor's own search choose what is read: quick where an
	// account is large, but a token may be missed, and the listing says so with the
	// limit of that name. Without it everything is read and filtered here.
	VendorSearch bool
}

// Bound limits a date: by a moment, or to dates that are "never".
type Bound struct {
	At    time.Time
	Never bool
}

// IsSet reports whether the bound limits anything.
func (b Bound) IsSet() bool { return b.Never || !b.At.IsZero() }

// IsZero reports whether the filter selects every token.
func (f Filter) IsZero() bool { return len(f.fields()) == 0 }

// Field names an argument of list_tokens that filters.
type Field string

// The fields, by the names of the arguments.
const (
	FieldOwner           Field = "owner"
	FieldServiceAccounts Field = "service_accounts"
	FieldQuery           Field = "query"
	FieldKind            Field = "kind"
	FieldStatus          Field = "status"
	FieldAccess          Field = "access"
	FieldCreatedAfter    Field = "created_after"
	FieldCreatedBefore   Field = "created_before"
	FieldUnusedFor       Field = "unused_for"
	FieldExpiresWithin   Field = "expires_within"
)

// Only reports whether the filter sets no field but the given ones.
func (f Filter) Only(allowed ...Field) bool {
	for _, field := range f.fields() {
		if !slices.Contains(allowed, field) {
			return false
		}
	}
	return true
}

// Undecidable returns the fields set in the filter that need one of the unknown
// facts, in the order of the arguments.
func (f Filter) Undecidable(unknown []Field) []Field {
	var missing []Field
	for _, field := range f.fields() {
		if slices.Contains(unknown, field) && !f.asksForUnknown(field) {
			missing = append(missing, field)
		}
	}
	return missing
}

// asksForUnknown reports whether the field asks for the word "unknown" itself,
// which a vendor that does not tell answers exactly.
func (f Filter) asksForUnknown(field Field) bool {
	return field == FieldKind && f.Kind == KindUnknown || field == FieldAccess && f.Access == AccessUnknown
}

func (f Filter) fields() []Field {
	set := []struct {
		field Field
		is    bool
	}{
		{FieldOwner, f.Owner != ""},
		{FieldServiceAccounts, len(f.ServiceAccounts) > 0},
		{FieldQuery, f.Query != ""},
		{FieldKind, f.Kind != ""},
		{FieldStatus, f.Status != ""},
		{FieldAccess, f.Access != ""},
		{FieldCreatedAfter, !f.CreatedAfter.IsZero()},
		{FieldCreatedBefore, !f.CreatedBefore.IsZero()},
		{FieldUnusedFor, f.Unused.IsSet()},
		{FieldExpiresWithin, f.Expires.IsSet()},
	}
	var fields []Field
	for _, s := range set {
		if s.is {
			fields = append(fields, s.field)
		}
	}
	return fields
}

// Verdict is what a filter says of a token.
type Verdict int

// The verdicts. Undecided means that no known fact excludes the token, and that
// a fact the filter needs is not known: such a token never matches.
const (
	NoMatch Verdict = iota
	Undecided
	Match
)

// Match judges t. One excluding fact is enough for NoMatch, also where another
// fact is unknown.
func (f Filter) Match(t *Token) Verdict {
	verdict := Match
	for _, v := range [...]Verdict{
		f.matchOwner(t), f.matchServiceAccount(t), f.matchQuery(t),
		matchWord(f.Kind, t.Kind, KindUnknown), matchWord(f.Status, t.Status, StatusUnknown),
		matchWord(f.Access, t.Access, AccessUnknown),
		f.matchCreated(t), f.matchUnused(t), f.matchExpires(t),
	} {
		verdict = min(verdict, v)
	}
	return verdict
}

func (f Filter) matchOwner(t *Token) Verdict {
	if f.Owner == "" {
		return Match
	}
	isEmail := strings.Contains(f.Owner, "@")
	known := t.Owner.ID
	if isEmail {
		known = t.Owner.Email
	}
	switch {
	case known == "":
		return Undecided
	case isEmail:
		return decided(strings.EqualFold(known, f.Owner))
	default:
		return decided(known == f.Owner)
	}
}

func (f Filter) matchServiceAccount(t *Token) Verdict {
	switch {
	case len(f.ServiceAccounts) == 0:
		return Match
	case t.Kind == KindUser:
		return NoMatch
	case t.Owner.ID == "":
		return Undecided
	case !slices.Contains(f.ServiceAccounts, t.Owner.ID):
		return NoMatch
	case t.Kind == KindUnknown:
		return Undecided
	default:
		return Match
	}
}

func (f Filter) matchQuery(t *Token) Verdict {
	if f.Query == "" {
		return Match
	}
	query := strings.ToLower(f.Query)
	for _, text := range [...]string{t.Name, t.Owner.Name, t.Owner.Email} {
		if strings.Contains(strings.ToLower(text), query) {
			return Match
		}
	}
	return NoMatch
}

func matchWord[W ~string](asked, is, unknown W) Verdict {
	switch {
	case asked == "" || asked == is:
		return Match
	case is == unknown:
		return Undecided
	default:
		return NoMatch
	}
}

func (f Filter) matchCreated(t *Token) Verdict {
	if f.CreatedAfter.IsZero() && f.CreatedBefore.IsZero() {
		return Match
	}
	created, ok := t.Created.Time()
	if !ok {
		return Undecided
	}
	if !f.CreatedAfter.IsZero() && created.Before(f.CreatedAfter) {
		return NoMatch
	}
	return decided(f.CreatedBefore.IsZero() || created.Before(f.CreatedBefore))
}

func (f Filter) matchUnused(t *Token) Verdict {
	switch used, ok := t.LastUsed.Time(); {
	case !f.Unused.IsSet():
		return Match
	case t.LastUsed.IsUnknown():
		return Undecided
	case f.Unused.Never:
		return decided(t.LastUsed.IsNever())
	case ok:
		return decided(!used.After(f.Unused.At))
	}
	// Never used: as old as its creation.
	created, ok := t.Created.Time()
	if !ok {
		return Undecided
	}
	return decided(!created.After(f.Unused.At))
}

func (f Filter) matchExpires(t *Token) Verdict {
	switch end, ok := t.Expires.Time(); {
	case !f.Expires.IsSet():
		return Match
	case t.Expires.IsUnknown():
		return Undecided
	case f.Expires.Never:
		return decided(t.Expires.IsNever())
	case !ok:
		return NoMatch
	default:
		return decided(end.After(f.Now) && !end.After(f.Expires.At))
	}
}

func decided(matches bool) Verdict {
	if matches {
		return Match
	}
	return NoMatch
}
