package providers_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/providers"
)

const (
	match     = providers.Match
	noMatch   = providers.NoMatch
	undecided = providers.Undecided
)

// known is a token of which every fact is known.
func known() providers.Token {
	return providers.Token{
		ID: "t1", Name: "Deploy key", Owner: providers.Owner{ID: "m1", Name: "Dana Ruiz", Email: "Dana@Example.com"},
		Kind: providers.KindService, Status: providers.StatusActive, Access: providers.AccessWrite,
		Created: providers.At(lastYear), LastUsed: providers.At(yesterday), Expires: providers.At(tomorrow),
	}
}

// blank is a token of which nothing is known but its name.
func blank() providers.Token {
	return providers.Token{ID: "t1", Name: "Deploy key", Kind: providers.KindUnknown, Status: providers.StatusUnknown, Access: providers.AccessUnknown}
}

// with returns a known token after a change.
func with(change func(*providers.Token)) providers.Token {
	t := known()
	change(&t)
	return t
}

func at(t time.Time) providers.Bound { return providers.Bound{At: t} }

// TestMatch judges each field by itself.
func TestMatch(t *testing.T) {
	t.Parallel()
	never, at := providers.Bound{Never: true}, at
	used := func(d providers.Date) providers.Token { return with(func(t *providers.Token) { t.LastUsed = d }) }
	created := func(used, d providers.Date) providers.Token {
		return with(func(t *providers.Token) { t.LastUsed, t.Created = used, d })
	}
	expires := func(d providers.Date) providers.Token { return with(func(t *providers.Token) { t.Expires = d }) }
	kind := func(k providers.Kind) providers.Token { return with(func(t *providers.Token) { t.Kind = k }) }
	for name, test := range map[string]struct {
		filter providers.Filter
		token  providers.Token
		want   providers.Verdict
	}{
		"no filter":                {providers.Filter{}, known(), match},
		"no filter, nothing known": {providers.Filter{}, blank(), match},
		"only now":                 {providers.Filter{Now: now}, blank(), match},

		"owner by id":               {providers.Filter{Owner: "m1"}, known(), match},
		"another owner":             {providers.Filter{Owner: "m2"}, known(), noMatch},
		"owner's id in other case":  {providers.Filter{Owner: "M1"}, known(), noMatch},
		"part of the owner's id":    {providers.Filter{Owner: "m"}, known(), noMatch},
		"owner by name":             {providers.Filter{Owner: "Dana Ruiz"}, known(), noMatch},
		"owner by e-mail":           {providers.Filter{Owner: "Dana@Example.com"}, known(), match},
		"e-mail in any case":        {providers.Filter{Owner: "dana@EXAMPLE.com"}, known(), match},
		"part of an e-mail":         {providers.Filter{Owner: "dana@example"}, known(), noMatch},
		"owner unknown":             {providers.Filter{Owner: "m1"}, blank(), undecided},
		"e-mail unknown":            {providers.Filter{Owner: "dana@example.com"}, with(func(t *providers.Token) { t.Owner.Email = "" }), undecided},
		"id known, e-mail asked":    {providers.Filter{Owner: "m1@x"}, with(func(t *providers.Token) { t.Owner.Email = "" }), undecided},
		"e-mail known, id asked":    {providers.Filter{Owner: "m1"}, with(func(t *providers.Token) { t.Owner.ID = "" }), undecided},
		"service account":           {providers.Filter{ServiceAccounts: []string{"m0", "m1"}}, known(), match},
		"another service account":   {providers.Filter{ServiceAccounts: []string{"m0"}}, known(), noMatch},
		"a user":                    {providers.Filter{ServiceAccounts: []string{"m1"}}, kind(providers.KindUser), noMatch},
		"a user without id":         {providers.Filter{ServiceAccounts: []string{"m1"}}, with(func(t *providers.Token) { t.Kind, t.Owner.ID = providers.KindUser, "" }), noMatch},
		"kind unknown, id fits":     {providers.Filter{ServiceAccounts: []string{"m1"}}, kind(providers.KindUnknown), undecided},
		"kind unknown, id does not": {providers.Filter{ServiceAccounts: []string{"m0"}}, kind(providers.KindUnknown), noMatch},
		"account unknown":           {providers.Filter{ServiceAccounts: []string{"m1"}}, with(func(t *providers.Token) { t.Owner.ID = "" }), undecided},

		"query in the name":       {providers.Filter{Query: "PLOY"}, known(), match},
		"query in the owner":      {providers.Filter{Query: "ruiz"}, known(), match},
		"query in the e-mail":     {providers.Filter{Query: "example.COM"}, known(), match},
		"query nowhere":           {providers.Filter{Query: "m1"}, known(), noMatch},
		"query over two of them":  {providers.Filter{Query: "key dana"}, known(), noMatch},
		"query, nothing known":    {providers.Filter{Query: "dana"}, blank(), noMatch},
		"query beyond ASCII":      {providers.Filter{Query: "ÉTÉ"}, with(func(t *providers.Token) { t.Name = "clé d'été" }), match},
		"kind":                    {providers.Filter{Kind: providers.KindService}, known(), match},
		"another kind":            {providers.Filter{Kind: providers.KindUser}, known(), noMatch},
		"kind unknown":            {providers.Filter{Kind: providers.KindUser}, blank(), undecided},
		"the unknown kind":        {providers.Filter{Kind: providers.KindUnknown}, blank(), match},
		"the unknown kind, known": {providers.Filter{Kind: providers.KindUnknown}, known(), noMatch},
		"status":                  {providers.Filter{Status: providers.StatusActive}, known(), match},
		"another status":          {providers.Filter{Status: providers.StatusInGrace}, known(), noMatch},
		"status unknown":          {providers.Filter{Status: providers.StatusExpired}, blank(), undecided},
		"access":                  {providers.Filter{Access: providers.AccessWrite}, known(), match},
		"another access":          {providers.Filter{Access: providers.AccessAdmin}, known(), noMatch},
		"access unknown":          {providers.Filter{Access: providers.AccessAdmin}, blank(), undecided},
		"the unknown access":      {providers.Filter{Access: providers.AccessUnknown}, blank(), match},

		"created after":            {providers.Filter{CreatedAfter: lastYear.Add(-1)}, known(), match},
		"created at that moment":   {providers.Filter{CreatedAfter: lastYear}, known(), match},
		"created too early":        {providers.Filter{CreatedAfter: lastYear.Add(1)}, known(), noMatch},
		"created before":           {providers.Filter{CreatedBefore: lastYear.Add(1)}, known(), match},
		"created not before":       {providers.Filter{CreatedBefore: lastYear}, known(), noMatch},
		"created between":          {providers.Filter{CreatedAfter: lastYear, CreatedBefore: now}, known(), match},
		"created out of it":        {providers.Filter{CreatedAfter: yesterday, CreatedBefore: now}, known(), noMatch},
		"an empty span":            {providers.Filter{CreatedAfter: now, CreatedBefore: lastYear}, known(), noMatch},
		"creation unknown, after":  {providers.Filter{CreatedAfter: lastYear}, blank(), undecided},
		"creation unknown, before": {providers.Filter{CreatedBefore: now}, blank(), undecided},

		"unused since":                   {providers.Filter{Unused: at(now)}, known(), match},
		"used at that moment":            {providers.Filter{Unused: at(yesterday)}, known(), match},
		"used later":                     {providers.Filter{Unused: at(yesterday.Add(-1))}, known(), noMatch},
		"use unknown":                    {providers.Filter{Unused: at(now)}, used(providers.Date{}), undecided},
		"never used, created before":     {providers.Filter{Unused: at(now)}, used(providers.Never()), match},
		"never used, created then":       {providers.Filter{Unused: at(lastYear)}, used(providers.Never()), match},
		"never used, created later":      {providers.Filter{Unused: at(lastYear.Add(-1))}, used(providers.Never()), noMatch},
		"never used, creation unknown":   {providers.Filter{Unused: at(now)}, created(providers.Never(), providers.Date{}), undecided},
		"used, creation unknown":         {providers.Filter{Unused: at(now)}, created(providers.At(yesterday), providers.Date{}), match},
		"never":                          {providers.Filter{Unused: never}, used(providers.Never()), match},
		"never, but used":                {providers.Filter{Unused: never}, known(), noMatch},
		"never, use unknown":             {providers.Filter{Unused: never}, used(providers.Date{}), undecided},
		"never, creation unknown":        {providers.Filter{Unused: never}, created(providers.Never(), providers.Date{}), match},
		"expires within":                 {providers.Filter{Now: now, Expires: at(nextYear)}, known(), match},
		"expires at that moment":         {providers.Filter{Now: now, Expires: at(tomorrow)}, known(), match},
		"expires later":                  {providers.Filter{Now: now, Expires: at(tomorrow.Add(-1))}, known(), noMatch},
		"has expired":                    {providers.Filter{Now: now, Expires: at(nextYear)}, expires(providers.At(yesterday)), noMatch},
		"expires now":                    {providers.Filter{Now: now, Expires: at(nextYear)}, expires(providers.At(now)), noMatch},
		"expires never":                  {providers.Filter{Now: now, Expires: at(nextYear)}, expires(providers.Never()), noMatch},
		"end unknown":                    {providers.Filter{Now: now, Expires: at(nextYear)}, expires(providers.Date{}), undecided},
		"without end":                    {providers.Filter{Now: now, Expires: never}, expires(providers.Never()), match},
		"without end, but has one":       {providers.Filter{Now: now, Expires: never}, known(), noMatch},
		"without end, but it is unknown": {providers.Filter{Now: now, Expires: never}, expires(providers.Date{}), undecided},

		"all":                       {everything(), known(), match},
		"one excludes":              {providers.Filter{Kind: providers.KindService, Query: "nowhere"}, known(), noMatch},
		"one unknown, one fits":     {providers.Filter{Kind: providers.KindUser, Query: "deploy"}, blank(), undecided},
		"one unknown, one does not": {providers.Filter{Kind: providers.KindUser, Query: "nowhere"}, blank(), noMatch},
		"excluded, then unknown":    {providers.Filter{Owner: "m2", Expires: never}, expires(providers.Date{}), noMatch},
		"unknown, then excluded":    {providers.Filter{Owner: "m1", Expires: never}, with(func(t *providers.Token) { t.Owner.ID = "" }), noMatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.filter.Match(&test.token); got != test.want {
				t.Errorf("verdict %d, want %d", got, test.want)
			}
		})
	}
}

// everything is a filter with every field set that a known token matches.
func everything() providers.Filter {
	return providers.Filter{
		Owner: "m1", ServiceAccounts: []string{"m1"}, Query: "key", Kind: providers.KindService, Status: providers.StatusActive,
		Access: providers.AccessWrite, CreatedAfter: lastYear, CreatedBefore: now, Unused: at(now), Expires: at(nextYear), Now: now,
	}
}

// fields are all of them, in the order of the arguments, each with a filter that
// sets no other.
func fields() (all []providers.Field, single map[providers.Field]providers.Filter) {
	all = []providers.Field{
		providers.FieldOwner, providers.FieldServiceAccounts, providers.FieldQuery, providers.FieldKind, providers.FieldStatus,
		providers.FieldAccess, providers.FieldCreatedAfter, providers.FieldCreatedBefore, providers.FieldUnusedFor, providers.FieldExpiresWithin,
	}
	return all, map[providers.Field]providers.Filter{
		providers.FieldOwner:           {Owner: "m1"},
		providers.FieldServiceAccounts: {ServiceAccounts: []string{"m1"}},
		providers.FieldQuery:           {Query: "q"},
		providers.FieldKind:            {Kind: providers.KindUser},
		providers.FieldStatus:          {Status: providers.StatusActive},
		providers.FieldAccess:          {Access: providers.AccessRead},
		providers.FieldCreatedAfter:    {CreatedAfter: now},
		providers.FieldCreatedBefore:   {CreatedBefore: now},
		providers.FieldUnusedFor:       {Unused: at(now)},
		providers.FieldExpiresWithin:   {Expires: providers.Bound{Never: true}},
	}
}

func TestIsZeroAndOnly(t *testing.T) {
	t.Parallel()
	all, single := fields()
	if zero := (providers.Filter{Now: now, ServiceAccounts: []string{}}); !zero.IsZero() || !zero.Only() {
		t.Error("a filter that sets no field is not zero")
	}
	for field, filter := range single {
		if filter.IsZero() || filter.Only() {
			t.Errorf("%s: the filter counts as zero", field)
		}
		for _, allowed := range all {
			if got, want := filter.Only(allowed), allowed == field; got != want {
				t.Errorf("%s: only %s is %v, want %v", field, allowed, got, want)
			}
		}
		if !filter.Only(all...) {
			t.Errorf("%s: not only one of all", field)
		}
	}
	if !everything().Only(all...) || everything().Only(all[1:]...) || everything().Only(all[:len(all)-1]...) {
		t.Error("the filter with every field does not want each of them allowed")
	}
}

func TestUndecidable(t *testing.T) {
	t.Parallel()
	all, single := fields()
	reversed := []providers.Field{providers.FieldExpiresWithin, providers.FieldOwner}
	for name, test := range map[string]struct {
		filter        providers.Filter
		unknown, want []providers.Field
	}{
		"nothing asked":        {providers.Filter{}, all, nil},
		"nothing unknown":      {everything(), nil, nil},
		"everything":           {everything(), all, all},
		"the arguments' order": {everything(), reversed, []providers.Field{providers.FieldOwner, providers.FieldExpiresWithin}},
		"another field":        {single[providers.FieldOwner], []providers.Field{providers.FieldKind}, nil},
		"the unknown kind":     {providers.Filter{Kind: providers.KindUnknown, Owner: "m1"}, all, []providers.Field{providers.FieldOwner}},
		"the unknown access":   {providers.Filter{Access: providers.AccessUnknown, Owner: "m1"}, all, []providers.Field{providers.FieldOwner}},
		"a kind":               {providers.Filter{Kind: providers.KindUser}, all, []providers.Field{providers.FieldKind}},
		"an access":            {providers.Filter{Access: providers.AccessRead}, all, []providers.Field{providers.FieldAccess}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.filter.Undecidable(test.unknown)); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzMatch checks what holds of every filter and token: where all facts are
// known, nothing is undecided; a fact that gets lost never changes a verdict but
// to undecided; and a field more never lets more through.
func FuzzMatch(f *testing.F) {
	f.Add(uint16(0), uint16(0), uint32(0), int64(0), int64(0), int64(0))
	f.Add(uint16(0x3ff), uint16(0), uint32(0), int64(-365), int64(-1), int64(1))
	f.Add(uint16(0x3ff), uint16(0xffff), uint32(0xffffffff), int64(3), int64(2), int64(1))
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		f.Add(uint16(random.Uint32()), uint16(random.Uint32()), random.Uint32(), random.Int64N(200), random.Int64N(200), random.Int64N(200))
	}
	f.Fuzz(func(t *testing.T, set, lost uint16, choice uint32, created, used, ends int64) {
		c := chooser(choice)
		token := anyToken(&c, created, used, ends)
		filter := anyFilter(&c, set)
		verdict := filter.Match(&token)
		if verdict == undecided {
			t.Fatalf("undecided, though all of %+v is known: %+v", token, filter)
		}
		poorer := lose(token, lost)
		if got := filter.Match(&poorer); got != verdict && got != undecided {
			t.Errorf("%d, but %d with less known: %+v and %+v: %+v", verdict, got, token, poorer, filter)
		}
		wider := filter
		wider.Owner, wider.Unused, wider.Kind = "", providers.Bound{}, ""
		for _, of := range []*providers.Token{&token, &poorer} {
			if wider.Match(of) < filter.Match(of) {
				t.Errorf("%+v lets less through than %+v", wider, filter)
			}
		}
	})
}

// chooser takes one choice after the other from a number.
type chooser uint32

func (c *chooser) pick(from ...string) string {
	n := uint32(len(from))
	choice := from[uint32(*c)%n]
	*c = chooser(uint32(*c) / n)
	return choice
}

// anyToken returns a token of which every fact is known. The days count from
// now; a third of the uses and of the ends never happen.
func anyToken(c *chooser, created, used, ends int64) providers.Token {
	date := func(day int64) providers.Date {
		if day%3 == 0 {
			return providers.Never()
		}
		return providers.At(dayFromNow(day))
	}
	return providers.Token{
		Name: "name", Owner: providers.Owner{ID: c.pick("m1", "m2"), Name: "owner", Email: c.pick("a@x", "b@x")},
		Kind:   providers.Kind(c.pick("user", "service")),
		Status: providers.Status(c.pick("active", "blocked", "expired", "in_grace")), Access: providers.Access(c.pick("admin", "write", "read", "custom")),
		Created: providers.At(dayFromNow(created)), LastUsed: date(used), Expires: date(ends),
	}
}

// dayFromNow is a moment less than hundred days away.
func dayFromNow(day int64) time.Time { return now.AddDate(0, 0, int(day%100)) }

func anyFilter(c *chooser, set uint16) providers.Filter {
	bounds := []providers.Bound{{At: yesterday}, {At: tomorrow}, {Never: true}, {At: lastYear}}
	bound := func() providers.Bound { return bounds[len(c.pick("", "x", "xx", "xxx"))] }
	f := providers.Filter{
		Owner: c.pick("m1", "m2", "A@X", "c@x"), ServiceAccounts: []string{c.pick("m1", "m3")}, Query: c.pick("NAME", "none"),
		Kind: providers.Kind(c.pick("user", "service")), Status: providers.Status(c.pick("active", "expired")), Access: providers.Access(c.pick("read", "admin")),
		CreatedAfter: yesterday, CreatedBefore: tomorrow, Unused: bound(), Expires: bound(), Now: now,
	}
	for i, clear := range []func(){
		func() { f.Owner = "" }, func() { f.ServiceAccounts = nil }, func() { f.Query = "" }, func() { f.Kind = "" }, func() { f.Status = "" },
		func() { f.Access = "" }, func() { f.CreatedAfter = time.Time{} }, func() { f.CreatedBefore = time.Time{} },
		func() { f.Unused = providers.Bound{} }, func() { f.Expires = providers.Bound{} },
	} {
		if set&(1<<i) == 0 {
			clear()
		}
	}
	return f
}

// lose makes facts unknown. The names stay: a query takes what is not there for
// not matching.
func lose(t providers.Token, lost uint16) providers.Token {
	for i, forget := range []func(){
		func() { t.Owner.ID = "" }, func() { t.Owner.Email = "" }, func() { t.Kind = providers.KindUnknown }, func() { t.Status = providers.StatusUnknown },
		func() { t.Access = providers.AccessUnknown }, func() { t.Created = providers.Date{} }, func() { t.LastUsed = providers.Date{} },
		func() { t.Expires = providers.Date{} },
	} {
		if lost&(1<<i) != 0 {
			forget()
		}
	}
	return t
}
