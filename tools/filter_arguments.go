package tools

import (
	"cmp"
	"slices"
	"time"

	"github.com/tokenreeve/tokenreeve/providers"
)

// filterArguments are the filters that list_tokens, count_tokens and
// bulk_revoke_tokens share. Each tool repeats the fields, since schemas are flat,
// and fills this.
type filterArguments struct {
	Owner           string
	ServiceAccounts []string
	Query           string
	Kind            string
	Status          string
	Access          string
	CreatedAfter    string
	CreatedBefore   string
	UnusedFor       string
	ExpiresWithin   string
}

// filter turns ages into moments, counted from now.
func (a filterArguments) filter(now time.Time) (providers.Filter, error) {
	f := providers.Filter{
		Owner: a.Owner, ServiceAccounts: a.ServiceAccounts, Query: a.Query,
		Kind: providers.Kind(a.Kind), Status: providers.Status(a.Status), Access: providers.Access(a.Access),
		Now: now,
	}
	var errs [4]error
	if a.CreatedAfter != "" {
		f.CreatedAfter, errs[0] = parseMoment("created_after", a.CreatedAfter, now)
	}
	if a.CreatedBefore != "" {
		f.CreatedBefore, errs[1] = parseMoment("created_before", a.CreatedBefore, now)
	}
	f.Unused, errs[2] = parseBound("unused_for", a.UnusedFor, now, false)
	f.Expires, errs[3] = parseBound("expires_within", a.ExpiresWithin, now, true)
	for _, err := range errs {
		if err != nil {
			return providers.Filter{}, err
		}
	}
	if !f.CreatedAfter.IsZero() && !f.CreatedBefore.IsZero() && !f.CreatedAfter.Before(f.CreatedBefore) {
		return providers.Filter{}, &Problem{Code: "invalid_date", Message: "created_after is not before created_before, so nothing can match"}
	}
	return f, nil
}

// answerable checks the filter's ids and returns the connections on which
// something can match. It fails where no connection can answer.
func answerable(filter providers.Filter, connections []*Connection) ([]*Connection, error) {
	var able, blind []*Connection
	var refused error
	for _, c := range connections {
		err := checkIDs(filter, c)
		switch {
		case err != nil:
			refused = cmp.Or(refused, err)
			continue
		case len(filter.Undecidable(c.Provider.Unknown())) > 0:
			blind = append(blind, c)
		}
		able = append(able, c)
	}
	switch {
	case len(able) > len(blind) || len(connections) == 0:
		return able, nil
	case refused != nil:
		return nil, refused
	default:
		return nil, undecidable(filter, blind)
	}
}

func undecidable(filter providers.Filter, connections []*Connection) error {
	var fields, vendors []string
	for _, c := range connections {
		vendors = append(vendors, c.Provider.Name())
		for _, field := range filter.Undecidable(c.Provider.Unknown()) {
			fields = append(fields, string(field))
		}
	}
	fields, vendors = unique(fields), unique(vendors)
	return &Problem{
		Code:    "unsupported_filter",
		Message: joinWords(vendors) + " does not tell what " + joinWords(fields) + " needs, so nothing could match",
		Next:    "leave out " + joinWords(fields) + ", or ask another connection",
	}
}

// checkIDs checks every id in the filter that the vendor knows how to judge.
func checkIDs(filter providers.Filter, c *Connection) error {
	unknown := c.Provider.Unknown()
	if filter.Owner != "" && !slices.Contains(unknown, providers.FieldOwner) {
		if err := c.Provider.CheckID(providers.PartOwner, filter.Owner); err != nil {
			return err
		}
	}
	for _, id := range filter.ServiceAccounts {
		if slices.Contains(unknown, providers.FieldServiceAccounts) {
			break
		}
		if err := c.Provider.CheckID(providers.PartServiceAccount, id); err != nil {
			return err
		}
	}
	return nil
}
