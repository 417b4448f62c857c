package launchdarkly_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/launchdarkly"
)

const tokensPath = "/api/v2/tokens"

// order orders faults at the vendor.
func order(t *testing.T, s *sandbox.Sandbox, faults ...sandbox.Fault) {
	t.Helper()
	for _, f := range faults {
		f.Vendor = sandbox.LaunchDarkly
		if _, err := s.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
}

// add adds a token behind the provider's back and returns its id.
func add(t *testing.T, s *sandbox.Sandbox, token sandbox.LaunchDarklyToken) string {
	t.Helper()
	added, err := s.AddLaunchDarklyToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
}

// ids are those of all tokens.
func idsOf(s *sandbox.Sandbox) []string {
	var ids []string
	for _, token := range s.LaunchDarklyTokens() {
		ids = append(ids, token.ID)
	}
	return ids
}

// wantLost checks that the error tells of a lost answer, that one change was sent,
// and that no secret shows.
func wantLost(t *testing.T, s *sandbox.Sandbox, err error, happened providers.Happened, orphans []string, next ...string) {
	t.Helper()
	e := wantCode(t, err, providers.CodeOutcomeUnknown)
	lost := providers.LostOf(err)
	if lost == nil || lost.Happened != happened || e.Next != lost.Next {
		t.Fatalf("lost is %+v, want %s; next is %q", lost, happened, e.Next)
	}
	var found []string
	for _, orphan := range lost.Orphans {
		found = append(found, orphan.ID)
	}
	if !slices.Equal(found, orphans) {
		t.Errorf("orphans are %q, want %q", found, orphans)
	}
	for _, part := range append(next, orphans...) {
		if !strings.Contains(lost.Next, part) {
			t.Errorf("next is %q, want %q in it", lost.Next, part)
		}
	}
	changes := 0
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet {
			changes++
		}
	}
	if changes != 1 {
		t.Errorf("%d changes were sent", changes)
	}
	text := vendortest.Texts(err)
	for _, secret := range s.Secrets() {
		if strings.Contains(text, secret) {
			t.Fatalf("the error shows a secret: %s", text)
		}
	}
}

// creating is a fault of the creation.
func creating(kind sandbox.FaultKind, change ...func(*sandbox.Fault)) sandbox.Fault {
	f := sandbox.Fault{Kind: kind, Method: http.MethodPost, PathPrefix: tokensPath}
	for _, c := range change {
		c(&f)
	}
	return f
}

func applied(f *sandbox.Fault) { f.Applied = true }

// Whatever loses the answer, the list shows whether the token was made.
func TestLostCreation(t *testing.T) {
	t.Parallel()
	const search = "list_tokens in a minute"
	tests := map[string]struct {
		fault    sandbox.Fault
		made     bool
		happened providers.Happened
		next     []string
	}{
		"lost":                 {creating(sandbox.FaultLostAnswer), true, providers.HappenedYes, []string{"rotate_token", "revoke_token"}},
		"truncated":            {creating(sandbox.FaultTruncate), true, providers.HappenedYes, nil},
		"empty":                {creating(sandbox.FaultEmpty), true, providers.HappenedYes, nil},
		"with a wrong status":  {creating(sandbox.FaultWrongStatus), true, providers.HappenedYes, nil},
		"a 504 and yet made":   {creating(sandbox.Fault504, applied), true, providers.HappenedYes, nil},
		"HTML and yet made":    {creating(sandbox.FaultHTML, applied), true, providers.HappenedYes, nil},
		"cut before":           {creating(sandbox.FaultCut), false, providers.HappenedUnknown, []string{search, "create_launchdarkly_token again"}},
		"HTML and not made":    {creating(sandbox.FaultHTML), false, providers.HappenedUnknown, []string{search}},
		"a 502 and not made":   {creating(sandbox.Fault502), false, providers.HappenedUnknown, []string{search}},
		"a 503 and not made":   {creating(sandbox.Fault503), false, providers.HappenedUnknown, []string{search}},
		"the vendor's own 500": {creating(sandbox.Fault500), false, providers.HappenedNo, []string{"create_launchdarkly_token again"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			before := idsOf(s)
			order(t, s, tt.fault)
			_, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "deploy <b>bot</b>", Role: "writer", ServiceToken: true})
			var made []string
			if after := idsOf(s); tt.made {
				made = after[len(before):]
			} else if len(after) != len(before) {
				t.Fatal("a token was made")
			}
			wantLost(t, s, err, tt.happened, made, tt.next...)
			if tt.made && len(made) != 1 {
				t.Errorf("%d tokens were made", len(made))
			}
		})
	}
}

// Which tokens may be the one that was made, when others bear its name.
func TestLostCreationAmongNamesakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 130)
	tests := map[string]struct {
		name    string
		other   func(*sandbox.LaunchDarklyToken)
		another bool // the other may be the one as well
	}{
		"made just before":          {"n", func(o *sandbox.LaunchDarklyToken) { o.CreatedAt = time.Now().Add(-time.Minute) }, true},
		"made long before":          {"n", func(o *sandbox.LaunchDarklyToken) { o.CreatedAt = time.Now().Add(-time.Hour) }, false},
		"made in the future":        {"n", func(o *sandbox.LaunchDarklyToken) { o.CreatedAt = time.Now().Add(time.Hour) }, false},
		"used":                      {"n", func(o *sandbox.LaunchDarklyToken) { o.LastUsed = time.Now() }, false},
		"another role":              {"n", func(o *sandbox.LaunchDarklyToken) { o.Role = "admin" }, false},
		"a service token":           {"n", func(o *sandbox.LaunchDarklyToken) { o.ServiceToken = true }, false},
		"another name":              {"n", func(o *sandbox.LaunchDarklyToken) { o.Name = "N" }, false},
		"a name that looks alike":   {"n", func(o *sandbox.LaunchDarklyToken) { o.Name = "n\u200b" }, false},
		"a name that begins alike":  {long, func(o *sandbox.LaunchDarklyToken) { o.Name = long + "x" }, false},
		"a long name, made just so": {long, func(*sandbox.LaunchDarklyToken) {}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			other := sandbox.LaunchDarklyToken{Name: tt.name, Role: "reader", CreatedAt: time.Now()}
			tt.other(&other)
			otherID := add(t, s, other)
			order(t, s, creating(sandbox.FaultLostAnswer))
			_, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: tt.name, Role: "reader"})
			after := idsOf(s)
			made := after[len(after)-1]
			if tt.another {
				wantLost(t, s, err, providers.HappenedUnknown, []string{otherID, made}, "cannot be told", "get_token", "revoke_token")
			} else {
				wantLost(t, s, err, providers.HappenedYes, []string{made})
			}
		})
	}
}

// A token whose secret came is no orphan, though it was made just before under the
// same name.
func TestLostCreationAfterAGoodOne(t *testing.T) {
	t.Parallel()
	spec := launchdarkly.TokenSpec{Name: "n", CustomRoles: []string{"auditor"}}
	for name, kind := range map[string]sandbox.FaultKind{"made": sandbox.FaultLostAnswer, "not made": sandbox.FaultCut} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			good, err := p.Create(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			s.ClearRequests()
			order(t, s, creating(kind))
			_, err = p.Create(t.Context(), spec)
			after := idsOf(s)
			if kind == sandbox.FaultCut {
				wantLost(t, s, err, providers.HappenedUnknown, nil)
				return
			}
			wantLost(t, s, err, providers.HappenedYes, after[len(after)-1:])
			if after[len(after)-1] == good.Token.ID {
				t.Error("the good token counts as the orphan")
			}
		})
	}
}

// A token that was there before is no orphan either, though the vendor answers with it.
func TestLostCreationAnsweredWithAnOldToken(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	made := time.Now().Add(-time.Hour)
	id := add(t, s, sandbox.LaunchDarklyToken{Name: "n", CreatedAt: made})
	order(t, s, creating(sandbox.FaultStatus, func(f *sandbox.Fault) {
		f.Status, f.Body = 201, fmt.Sprintf(`{"_id":%q,"name":"n","creationDate":%d}`, id, made.UnixMilli())
	}))
	_, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "n", CustomRoles: []string{"auditor"}})
	wantLost(t, s, err, providers.HappenedUnknown, nil, "no such token shows yet")
}

// Where it cannot be told who has the secret of a token, nobody is told to end it as one that nobody has.
func TestLostCreationWhereNobodyKnowsWhoHasTheSecret(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	order(t, s, creating(sandbox.FaultLostAnswer))
	unknown := providers.WithMade(t.Context(), func(context.Context, string) (bool, error) { return false, errors.New("the record cannot be read") })
	_, err := p.Create(unknown, launchdarkly.TokenSpec{Name: "n", CustomRoles: []string{"auditor"}})
	after := idsOf(s)
	wantLost(t, s, err, providers.HappenedUnknown, after[len(after)-1:], "cannot be told")
}

// Moments are compared on the vendor's clock; where it is not told, on ours with
// more room.
func TestLostCreationAndClocks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ahead time.Duration // of the vendor's clock
		told  bool
		found bool
	}{
		"same":                 {0, true, true},
		"ahead":                {3 * time.Hour, true, true},
		"behind":               {-3 * time.Hour, true, true},
		"not told":             {0, false, true},
		"not told, some apart": {4 * time.Minute, false, true},
		"not told, far apart":  {-3 * time.Hour, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url := simulation(t, sandbox.Options{Now: func() time.Time { return time.Now().Add(tt.ahead) }})
			access := s.Access(url).LaunchDarkly
			order(t, s, creating(sandbox.FaultLostAnswer))
			if !tt.told {
				order(t, s, sandbox.Fault{
					Kind: sandbox.FaultWrongStatus, Status: 200, Method: http.MethodGet, PathPrefix: tokensPath, Header: map[string]string{"Date": "none"},
				})
			}
			_, err := caller(t, access.BaseURL, access.Credential).Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
			after := idsOf(s)
			if tt.found {
				wantLost(t, s, err, providers.HappenedYes, after[len(after)-1:])
			} else {
				wantLost(t, s, err, providers.HappenedUnknown, nil)
			}
		})
	}
}

// Where the list cannot be read, or not all of it shows, nothing is proved.
func TestLostCreationWithoutAFullList(t *testing.T) {
	t.Parallel()
	reading := func(kind sandbox.FaultKind) sandbox.Fault {
		return sandbox.Fault{Kind: kind, Method: http.MethodGet, PathPrefix: tokensPath}
	}
	janitor := func(a sandbox.LaunchDarklyAccess) string { return a.CustomCredential }
	admin := func(a sandbox.LaunchDarklyAccess) string { return a.Credential }
	tests := map[string]struct {
		who     func(sandbox.LaunchDarklyAccess) string
		service bool
		faults  []sandbox.Fault
		found   bool
	}{
		"no list":                            {admin, true, []sandbox.Fault{creating(sandbox.FaultLostAnswer), reading(sandbox.FaultCut)}, false},
		"a list that is no list":             {admin, true, []sandbox.Fault{creating(sandbox.FaultLostAnswer), reading(sandbox.FaultNotJSON)}, false},
		"no list after a 500":                {admin, true, []sandbox.Fault{creating(sandbox.Fault500), reading(sandbox.FaultNotJSON)}, false},
		"seen without being an admin":        {janitor, true, []sandbox.Fault{creating(sandbox.FaultLostAnswer)}, true},
		"not seen without being an admin":    {janitor, false, []sandbox.Fault{creating(sandbox.FaultLostAnswer)}, false},
		"a 500 to somebody who does not see": {janitor, false, []sandbox.Fault{creating(sandbox.Fault500)}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url := simulation(t, sandbox.Options{})
			access := s.Access(url).LaunchDarkly
			order(t, s, tt.faults...)
			_, err := caller(t, access.BaseURL, tt.who(access)).Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader", ServiceToken: tt.service})
			if after := idsOf(s); tt.found {
				wantLost(t, s, err, providers.HappenedYes, after[len(after)-1:])
			} else {
				wantLost(t, s, err, providers.HappenedUnknown, nil, "list_tokens", "create_launchdarkly_token again")
			}
		})
	}
}

// The list ends with the change's own time.
func TestLostCreationOutOfTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, base := newAccount(t, 0)
	a.post = func(http.ResponseWriter) {
		cancel()
		panic(http.ErrAbortHandler)
	}
	_, err := provider(t, base).Create(ctx, launchdarkly.TokenSpec{Name: "n", Role: "reader"})
	if lost := providers.LostOf(err); lost == nil || lost.Happened != providers.HappenedUnknown || !strings.Contains(lost.Next, "list_tokens") {
		t.Errorf("lost is %+v of %v", lost, err)
	}
}

// Nothing shows a reset: it must be done again on purpose, and is not by itself.
func TestLostReset(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]sandbox.FaultKind{
		"lost": sandbox.FaultLostAnswer, "truncated": sandbox.FaultTruncate, "cut": sandbox.FaultCut, "500": sandbox.Fault500, "HTML": sandbox.FaultHTML,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			id := add(t, s, sandbox.LaunchDarklyToken{Name: "n", Role: "reader"})
			order(t, s, creating(kind))
			_, err := p.Rotate(t.Context(), providers.Token{ID: id}, providers.RotationPlan{Method: providers.MethodReset})
			wantLost(t, s, err, providers.HappenedUnknown, nil, id, "rotate_token", "again", "overlap")
			if requests := s.Requests(); len(requests) != 1 {
				t.Errorf("requests are %+v", requests)
			}
		})
	}
}

// A refusal is not a lost answer.
func TestRefusalsAreNotLost(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	id := add(t, s, sandbox.LaunchDarklyToken{Name: "n", Role: "reader"})
	order(t, s, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403, Method: http.MethodPost})
	_, err := p.Create(t.Context(), launchdarkly.TokenSpec{Name: "n", Role: "reader"})
	if wantCode(t, err, providers.CodeForbidden); providers.LostOf(err) != nil {
		t.Error("the refused creation tells of a lost answer")
	}
	_, err = p.Rotate(t.Context(), providers.Token{ID: id}, providers.RotationPlan{Method: providers.MethodReset})
	if wantCode(t, err, providers.CodeForbidden); providers.LostOf(err) != nil {
		t.Error("the refused reset tells of a lost answer")
	}
	if len(s.Requests()) != 2 {
		t.Errorf("requests are %+v", s.Requests())
	}
}
