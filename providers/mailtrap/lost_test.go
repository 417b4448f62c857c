package mailtrap_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
	"github.com/tokenreeve/tokenreeve/internal/vendortest"
	"github.com/tokenreeve/tokenreeve/providers"
	"github.com/tokenreeve/tokenreeve/providers/mailtrap"
)

// order orders faults at the vendor.
func order(t *testing.T, s *sandbox.Sandbox, faults ...sandbox.Fault) {
	t.Helper()
	for _, f := range faults {
		f.Vendor = sandbox.Mailtrap
		if _, err := s.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
}

func posting(kind sandbox.FaultKind) sandbox.Fault {
	return sandbox.Fault{Kind: kind, Method: http.MethodPost}
}

// add adds a token behind the provider's back.
func add(t *testing.T, s *sandbox.Sandbox, token sandbox.MailtrapToken) providers.Token {
	t.Helper()
	if token.Resources == nil {
		token.Resources = []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: 3229, AccessLevel: 100}}
	}
	added, err := s.AddMailtrapToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Token{ID: strconv.FormatInt(added.ID, 10)}
}

// newest is the id of the token that was made last.
func newest(s *sandbox.Sandbox) string {
	tokens := s.MailtrapTokens()
	return strconv.FormatInt(tokens[len(tokens)-1].ID, 10)
}

// wantLost checks that the error tells of a lost answer, that one change was sent,
// and that no secret shows. It returns what was lost.
func wantLost(t *testing.T, s *sandbox.Sandbox, err error, happened providers.Happened, orphans []string, next ...string) providers.Lost {
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
	wantText(t, lost.Next, append(next, orphans...)...)
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
	return *lost
}

// losses are what loses the answer to a change: whether it was carried out all the
// same, and what can be told of a creation that the list does not show.
var losses = map[string]struct {
	fault   sandbox.Fault
	applied bool
}{
	"lost":                 {posting(sandbox.FaultLostAnswer), true},
	"truncated":            {posting(sandbox.FaultTruncate), true},
	"empty":                {posting(sandbox.FaultEmpty), true},
	"with a wrong status":  {posting(sandbox.FaultWrongStatus), true},
	"an answer of HTML":    {sandbox.Fault{Kind: sandbox.FaultHTML, Method: http.MethodPost, Applied: true}, true},
	"cut before":           {posting(sandbox.FaultCut), false},
	"a proxy's HTML":       {posting(sandbox.FaultHTML), false},
	"a gateway's 502":      {posting(sandbox.Fault502), false},
	"the vendor's own 500": {posting(sandbox.Fault500), false},
	"no secret, no id":     {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 200, Body: `{}`, Method: http.MethodPost, Applied: true}, true},
}

// Whatever loses the answer, the list before and the list after show the orphan.
func TestLostCreation(t *testing.T) {
	t.Parallel()
	for name, tt := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			add(t, s, sandbox.MailtrapToken{Name: "CI sender"}) // was there before
			count := len(s.MailtrapTokens())
			order(t, s, tt.fault)
			_, err := p.Create(t.Context(), spec())
			if made := len(s.MailtrapTokens()) > count; made != tt.applied {
				t.Fatalf("made is %v", made)
			}
			if tt.applied {
				wantLost(t, s, err, providers.HappenedYes, []string{newest(s)}, "revoke_token", "create_mailtrap_token again")
			} else {
				// What the credential may see is not told: nothing new is no proof.
				wantLost(t, s, err, providers.HappenedUnknown, nil, "list_tokens in a minute", "revoke_token", "create_mailtrap_token again")
			}
		})
	}
}

// The answer named the token and had no secret.
func TestLostSecret(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	order(t, s, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 200, Body: `{"id":77,"name":"CI sender"}`, Method: http.MethodPost})
	_, err := p.Create(t.Context(), spec())
	wantLost(t, s, err, providers.HappenedYes, []string{"77"}, "create_mailtrap_token again")

	s, p = simulated(t)
	token := add(t, s, sandbox.MailtrapToken{Name: "CI sender"})
	order(t, s, sandbox.Fault{Kind: sandbox.FaultStatus, Status: 200, Body: `{"id":78,"name":"CI sender 78"}`, Method: http.MethodPost, Applied: true})
	lost := wantLost(t, s, rotate(t, p, token), providers.HappenedYes, []string{"78"}, token.ID, "rotate_token on 78")
	if lost.OldEnds.IsUnknown() {
		t.Error("the old token's end is not told")
	}
}

// rotator is what rotate needs.
type rotator interface {
	providers.Getter
	providers.Rotator
}

// rotate rotates as planned and returns the error.
func rotate(t *testing.T, p rotator, token providers.Token) error {
	t.Helper()
	return rotateIn(t.Context(), t, p, token)
}

func rotateIn(ctx context.Context, t *testing.T, p rotator, token providers.Token) error {
	t.Helper()
	token, err := p.Get(ctx, providers.Ref{ID: token.ID})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.PlanRotation(ctx, token, providers.RotationAsk{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Rotate(ctx, token, plan)
	return err
}

// Two that are new cannot be told apart; one whose secret came is no orphan; names
// that look alike are others.
func TestLostCreationAmongNamesakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name    string // of a token that somebody else makes meanwhile
		another bool
	}{
		"the very name":           {"CI sender", true},
		"a name that looks alike": {"CI  sender", false},
		"another name":            {"CI sender 2", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := simulated(t)
			meanwhile := ""
			p := between(t, s, func() { meanwhile = add(t, s, sandbox.MailtrapToken{Name: tt.name}).ID })
			order(t, s, posting(sandbox.FaultLostAnswer))
			_, err := p.Create(t.Context(), spec())
			if tt.another {
				wantLost(t, s, err, providers.HappenedUnknown, []string{meanwhile, newest(s)}, "cannot be told", "revoke_token")
			} else {
				wantLost(t, s, err, providers.HappenedYes, []string{newest(s)})
			}
		})
	}
}

// A token that another call of this process makes meanwhile is no orphan.
func TestLostCreationBesideAGoodOne(t *testing.T) {
	t.Parallel()
	s, _ := simulated(t)
	var p *mailtrap.Provider
	var good providers.Minted
	var begun atomic.Bool
	p = between(t, s, func() {
		if begun.Swap(true) {
			return // of the other call itself
		}
		var err error
		if good, err = p.Create(t.Context(), spec()); err != nil {
			t.Error(err)
		}
		s.ClearRequests()
		order(t, s, posting(sandbox.FaultLostAnswer))
	})
	_, err := p.Create(t.Context(), spec())
	wantLost(t, s, err, providers.HappenedYes, []string{newest(s)})
	if good.Token.ID == newest(s) {
		t.Error("the good token counts as the orphan")
	}
}

// Nor is one that another server is known to have made.
func TestLostCreationBesideAGoodOneElsewhere(t *testing.T) {
	t.Parallel()
	s, _ := simulated(t)
	elsewhere := ""
	p := between(t, s, func() { elsewhere = add(t, s, sandbox.MailtrapToken{Name: "CI sender"}).ID })
	order(t, s, posting(sandbox.FaultLostAnswer))
	ctx := providers.WithMade(t.Context(), func(_ context.Context, id string) (bool, error) { return id == elsewhere, nil })
	_, err := p.Create(ctx, spec())
	wantLost(t, s, err, providers.HappenedYes, []string{newest(s)})
	if elsewhere == newest(s) {
		t.Error("the other server's token counts as the orphan")
	}
}

// A token that was there before is no orphan either, though the vendor answers with it.
func TestLostCreationAnsweredWithAnOldToken(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	token := add(t, s, sandbox.MailtrapToken{Name: spec().Name})
	order(t, s, sandbox.Fault{Method: http.MethodPost, Kind: sandbox.FaultStatus, Status: 200, Body: `{"id":` + token.ID + `,"name":"CI sender"}`})
	_, err := p.Create(t.Context(), spec())
	wantLost(t, s, err, providers.HappenedUnknown, nil, "no new token shows yet")
}

// Where it cannot be told who has the secret of a token, nobody is told to end it as one that nobody has.
func TestLostWhereNobodyKnowsWhoHasTheSecret(t *testing.T) {
	t.Parallel()
	unknown := providers.WithMade(t.Context(), func(context.Context, string) (bool, error) { return false, errors.New("the record cannot be read") })
	t.Run("creation", func(t *testing.T) {
		t.Parallel()
		s, p := simulated(t)
		order(t, s, posting(sandbox.FaultLostAnswer))
		_, err := p.Create(unknown, spec())
		wantLost(t, s, err, providers.HappenedUnknown, []string{newest(s)}, "may have made one of the tokens", "cannot be told")
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		s, p := simulated(t)
		token := add(t, s, sandbox.MailtrapToken{Name: "CI sender"})
		order(t, s, posting(sandbox.FaultLostAnswer))
		lost := wantLost(t, s, rotateIn(unknown, t, p, token), providers.HappenedYes, []string{newest(s)}, "cannot be told")
		if orphan, isKnown := lost.Orphan(); isKnown || strings.Contains(lost.Next, "nobody has the secret of its successor") {
			t.Errorf("the orphan is %q, next is %q", orphan.ID, lost.Next)
		}
	})
}

// Without the list beforehand nothing is sent.
func TestCreationNeedsTheList(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fault sandbox.Fault
		code  providers.Code
	}{
		"forbidden": {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 403}, providers.CodeForbidden},
		"failing":   {sandbox.Fault{Kind: sandbox.Fault500}, providers.CodeUnavailable},
		"cut":       {sandbox.Fault{Kind: sandbox.FaultCut}, providers.CodeUnavailable},
		"truncated": {sandbox.Fault{Kind: sandbox.FaultTruncate}, providers.CodeBadAnswer},
		"HTML":      {sandbox.Fault{Kind: sandbox.FaultHTML}, providers.CodeBadAnswer},
		"odd":       {sandbox.Fault{Kind: sandbox.FaultStatus, Status: 200, Body: `[{"name":"CI sender"}]`}, providers.CodeBadAnswer},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			tt.fault.Method = http.MethodGet
			order(t, s, tt.fault)
			_, err := p.Create(t.Context(), spec())
			wantText(t, wantCode(t, err, tt.code).Message, "nothing was made")
			if providers.LostOf(err) != nil {
				t.Error("the error tells of a lost answer")
			}
			for _, r := range s.Requests() {
				if r.Method != http.MethodGet {
					t.Errorf("%s was sent", r.Method)
				}
			}
		})
	}
}

// The order of what is sent, and what is left when the second list fails.
func TestLostCreationWithoutTheSecondList(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	order(t, s, posting(sandbox.FaultLostAnswer), sandbox.Fault{Kind: sandbox.FaultNotJSON, Method: http.MethodGet, After: 1})
	_, err := p.Create(t.Context(), spec())
	wantLost(t, s, err, providers.HappenedUnknown, nil, "list_tokens", "revoke_token", "create_mailtrap_token again")
	var sent []string
	for _, r := range s.Requests() {
		sent = append(sent, r.Method)
	}
	if diff := cmp.Diff([]string{"GET", "POST", "GET"}, sent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A twin is a creation; what is tried again is the rotation.
func TestLostTwin(t *testing.T) {
	t.Parallel()
	s, p := simulated(t)
	token := add(t, s, sandbox.MailtrapToken{Name: "CI sender", ExpiresAt: time.Now().AddDate(0, 2, 0)})
	order(t, s, posting(sandbox.FaultLostAnswer))
	wantLost(t, s, rotate(t, p, token), providers.HappenedYes, []string{newest(s)},
		"revoke_token", "rotate_token on token "+token.ID+" again")
}

// After a lost answer the list shows whether the token was reset, until when its
// old secret works, and which token came of it.
func TestLostReset(t *testing.T) {
	t.Parallel()
	for name, tt := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			token := add(t, s, sandbox.MailtrapToken{Name: "CI sender"})
			order(t, s, tt.fault)
			err := rotate(t, p, token)
			if !tt.applied {
				happened := providers.HappenedUnknown
				if tt.fault.Kind == sandbox.Fault500 {
					happened = providers.HappenedNo
				}
				wantLost(t, s, err, happened, nil, token.ID, "rotate_token")
				return
			}
			lost := wantLost(t, s, err, providers.HappenedYes, []string{newest(s)}, token.ID, "rotate_token on "+newest(s), "revoke_token")
			end, ok := lost.OldEnds.Time()
			if ahead := time.Until(end); !ok || ahead < 11*time.Hour || ahead > 12*time.Hour {
				t.Errorf("the old one ends %v", lost.OldEnds)
			}
			// The old token counts as reset from here on.
			if got, err := p.Get(t.Context(), providers.Ref{ID: token.ID}); err != nil || got.Status != providers.StatusInGrace {
				t.Errorf("status is %s, %v", got.Status, err)
			}
		})
	}
}

// Others' successors bear names of the same form.
func TestLostResetAmongNamesakes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		other   sandbox.MailtrapToken
		another bool
	}{
		"a namesake's successor":         {sandbox.MailtrapToken{ID: 77, Name: "CI sender 77"}, true},
		"one with other permissions":     {sandbox.MailtrapToken{ID: 77, Name: "CI sender 77", Resources: []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: 3229, AccessLevel: 10}}}, false},
		"a number that is not its id":    {sandbox.MailtrapToken{ID: 77, Name: "CI sender 78"}, false},
		"a name that does not begin so":  {sandbox.MailtrapToken{ID: 77, Name: "CI senders 77"}, false},
		"the same name without a number": {sandbox.MailtrapToken{ID: 77, Name: "CI sender"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := simulated(t)
			add(t, s, tt.other)
			token := add(t, s, sandbox.MailtrapToken{Name: "CI sender"})
			order(t, s, posting(sandbox.FaultLostAnswer))
			err := rotate(t, p, token)
			if tt.another {
				wantLost(t, s, err, providers.HappenedYes, []string{"77", newest(s)}, "cannot be told")
			} else {
				wantLost(t, s, err, providers.HappenedYes, []string{newest(s)})
			}
		})
	}
	t.Run("a successor whose secret came", func(t *testing.T) {
		t.Parallel()
		s, p := simulated(t)
		first, second := add(t, s, sandbox.MailtrapToken{Name: "CI sender"}), add(t, s, sandbox.MailtrapToken{Name: "CI sender"})
		if err := rotate(t, p, first); err != nil {
			t.Fatal(err)
		}
		s.ClearRequests()
		order(t, s, posting(sandbox.FaultLostAnswer))
		wantLost(t, s, rotate(t, p, second), providers.HappenedYes, []string{newest(s)})
	})
}

// What the list does not show, or shows not yet.
func TestLostResetUnclear(t *testing.T) {
	t.Parallel()
	const old = `"id":7,"name":"CI sender","resources":[]`
	tests := map[string]struct {
		list     string
		happened providers.Happened
		next     []string
	}{
		"no successor":  {`[{` + old + `,"expires_at":"2031-01-01T00:00:00Z"}]`, providers.HappenedYes, []string{"2031-01-01", "list_tokens in a minute"}},
		"no end":        {`[{` + old + `,"expires_at":null},{"id":8,"name":"CI sender 8","resources":[]}]`, providers.HappenedUnknown, []string{"get_token in a minute", "rotate_token on 7 again"}},
		"end not told":  {`[{` + old + `}]`, providers.HappenedUnknown, []string{"list_tokens", "token 7"}},
		"gone":          {`[]`, providers.HappenedUnknown, []string{"list_tokens", "token 7"}},
		"list is odd":   {`[{"id":"x"}]`, providers.HappenedUnknown, []string{"list_tokens", "token 7"}},
		"list is no":    {`{}`, providers.HappenedUnknown, []string{"list_tokens", "token 7"}},
		"seen in parts": {`[{` + old + `,"expires_at":"2031-01-01T00:00:00Z"},{"id":8,"name":"CI sender 8","resources":[]},`, providers.HappenedYes, []string{"rotate_token on 8"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reading := vendortest.Exchange{Method: "GET", Path: tokensPath + "/7", Answer: `{` + old + `,"expires_at":null}`}
			p := serve(t, reading, reading, reading,
				vendortest.Exchange{Method: "POST", Path: tokensPath + "/7/reset", Status: 504},
				vendortest.Exchange{Method: "GET", Path: tokensPath, Answer: tt.list})
			err := rotate(t, p, providers.Token{ID: "7"})
			wantCode(t, err, providers.CodeOutcomeUnknown)
			if lost := providers.LostOf(err); lost == nil || lost.Happened != tt.happened {
				t.Fatalf("lost is %+v", lost)
			} else {
				wantText(t, lost.Next, tt.next...)
			}
		})
	}
}

// Many candidates are named in part.
func TestLostCreationWithManyNamesakes(t *testing.T) {
	t.Parallel()
	s, _ := simulated(t)
	p := between(t, s, func() {
		for i := range 12 {
			add(t, s, sandbox.MailtrapToken{ID: int64(9_000_000 + i), Name: "CI sender"})
		}
	})
	order(t, s, posting(sandbox.FaultLostAnswer))
	_, err := p.Create(t.Context(), spec())
	lost := providers.LostOf(err)
	if lost == nil || len(lost.Orphans) != 13 {
		t.Fatalf("lost is %+v", lost)
	}
	wantText(t, lost.Next, fmt.Sprint(9_000_009), "and 3 more")
}
