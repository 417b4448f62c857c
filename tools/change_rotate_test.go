package tools_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

const rotate = "rotate_token"

// TestRotateLaunchDarkly resets, and follows the old and the new secret over the
// vendor's clock.
func TestRotateLaunchDarkly(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		over    args
		overlap time.Duration // 0: the old secret dies at once
	}{
		"default":      {nil, 24 * time.Hour},
		"asked for":    {args{"overlap": "2h"}, 2 * time.Hour},
		"the shortest": {args{"overlap": "15min"}, 15 * time.Minute},
		"the longest":  {args{"overlap": "90d"}, 90 * 24 * time.Hour},
		"compromised":  {args{"compromised": true}, 0},
	}, func(t *testing.T, c struct {
		over    args
		overlap time.Duration
	},
	) {
		h := start(t, setup{})
		token := h.addLaunchDarkly("old", func(t *sandbox.LaunchDarklyToken) { t.LastUsed = h.clock.Now().Add(-time.Hour) })
		a := with(args{"connection": launchDarklyName, "token_id": token.ID}, c.over)
		shown := h.call(rotate, a)
		ends := h.clock.Now().Add(c.overlap)
		query := url.Values{}
		if c.overlap > 0 {
			query.Set("expiry", fmt.Sprint(ends.UnixMilli()))
			shown.says("The old secret works until " + ends.Format(time.RFC3339))
		} else {
			shown.says("The old secret stops at once", "was used within the last 7 days")
		}
		h.clock.advance(9 * time.Minute) // the end stays where the preview set it
		if c.overlap == 0 {
			ends = h.clock.Now()
		}
		h.forget()
		r := h.call(rotate, with(a, args{"confirm": shown.code()})).is("rotated")
		h.wantSent("POST " + ldPath(token.ID) + "/reset")
		if got := h.changes()[0].Query; got != query.Encode() {
			t.Errorf("query %q, want %q", got, query.Encode())
		}
		secret := h.wantDelivered(launchDarklyName + "/" + token.ID)[0]
		if r.str("old_secret_ends") != ends.Format(time.RFC3339) || r.str("token", "id") != token.ID || r.get("old_token_id") != nil {
			t.Errorf("the result tells otherwise: %s", r.text)
		}
		if h.works(token.Secret) != (c.overlap > 0) {
			t.Errorf("the old secret works: %v", c.overlap == 0)
		}
		h.clock.advance(c.overlap)
		if h.works(token.Secret) || !h.works(secret) {
			t.Error("after the overlap the old secret works or the new one does not")
		}
	})
}

func TestRotationRefusals(t *testing.T) {
	t.Parallel()
	ld := func(h *harness) args {
		return args{"connection": launchDarklyName, "token_id": h.addLaunchDarkly("old").ID}
	}
	mt := func(change ...func(*harness, *sandbox.MailtrapToken)) func(*harness) args {
		return func(h *harness) args {
			token := h.addMailtrap("old", func(t *sandbox.MailtrapToken) {
				for _, c := range change {
					c(h, t)
				}
			})
			return args{"connection": mailtrapName, "token_id": number(token.ID)}
		}
	}
	level := func(level int) func(*harness) args {
		return mt(func(h *harness, t *sandbox.MailtrapToken) {
			t.Resources = []sandbox.MailtrapResource{{ResourceType: "account", ResourceID: 3229, AccessLevel: level}}
			t.ExpiresAt = h.clock.Now().AddDate(0, 1, 0) // only a twin can be made
		})
	}
	each(t, map[string]struct {
		args func(*harness) args
		over args
		code string
		says string
	}{
		"too short":               {ld, args{"overlap": "14min"}, "invalid_argument", "15 minutes to 90 days"},
		"too long":                {ld, args{"overlap": "91d"}, "invalid_argument", "15 minutes to 90 days"},
		"none":                    {ld, args{"overlap": "0d"}, "invalid_argument", "compromised"},
		"no age":                  {ld, args{"overlap": "never"}, "invalid_date", "overlap"},
		"a date":                  {ld, args{"overlap": "2027-01-01"}, "invalid_date", "overlap"},
		"overlap of a leaked one": {ld, args{"overlap": "1h", "compromised": true}, "invalid_argument", "compromised"},
		"overlap at Mailtrap":     {mt(), args{"overlap": "1h"}, "invalid_argument", "leave overlap out"},
		"overlap of a twin":       {mt(), args{"overlap": "1h", "compromised": true}, "invalid_argument", "leave overlap out"},
		"indeterminate access":    {level(1), nil, "refused", "access_level"},
		"viewer plus":             {level(50), nil, "refused", "access_level"},
		"owner":                   {level(1000), nil, "refused", "access_level"},
		"leaked owner":            {level(1000), args{"compromised": true}, "refused", "access_level"},
		"unknown resource": {mt(func(_ *harness, t *sandbox.MailtrapToken) {
			t.Resources = []sandbox.MailtrapResource{{ResourceType: "galaxy", ResourceID: 1, AccessLevel: 10}}
		}), args{"compromised": true}, "refused", "galaxy"},
		"expired":                  {mt(func(h *harness, t *sandbox.MailtrapToken) { t.ExpiresAt = h.clock.Now().Add(-time.Hour) }), nil, "refused", "expired"},
		"expired and leaked":       {mt(func(h *harness, t *sandbox.MailtrapToken) { t.ExpiresAt = h.clock.Now().Add(-time.Hour) }), args{"compromised": true}, "refused", "expired"},
		"unknown at LaunchDarkly":  {ld, args{"token_id": "0123456789abcdef01234567"}, "not_found", ""},
		"unknown at Mailtrap":      {mt(), args{"token_id": "77"}, "not_found", ""},
		"no id at LaunchDarkly":    {ld, args{"token_id": "0123456789abcdef01234567/../x"}, "invalid_argument", "token_id"},
		"no id at Mailtrap":        {mt(), args{"token_id": "-1"}, "invalid_argument", "token_id"},
		"no id at Atlassian":       {ld, args{"connection": atlassianName, "token_id": "../x"}, "invalid_argument", "token_id"},
		"something else than true": {ld, args{"compromised": "yes"}, "invalid_argument", "compromised"},
	}, func(t *testing.T, c struct {
		args func(*harness) args
		over args
		code string
		says string
	},
	) {
		h := start(t, setup{})
		a := with(c.args(h), c.over)
		h.untouched(func() { h.call(rotate, a).fails(c.code).says(c.says) })
	})
}

// TestRotateMailtrapByReset: the vendor gives a new id, and the old token its grace.
func TestRotateMailtrapByReset(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addMailtrap("mails")
	old := number(token.ID)
	a := args{"connection": mailtrapName, "token_id": old}
	h.call(rotate, a).says("new id", "about 12 hours")
	r := h.confirm(rotate, a).is("rotated")
	h.wantSent("POST " + mtPath(old) + "/reset")
	secret := h.wantDelivered(mailtrapName + "/" + old)[0]
	fresh := r.str("token", "id")
	if fresh == old || r.str("old_token_id") != old || r.str("old_secret_ends") != h.clock.Now().Add(12*time.Hour).Format(time.RFC3339) {
		t.Errorf("the result does not name both ids and the old end: %s", r.text)
	}
	if made, _ := h.mailtrap(fresh); made.Secret != secret || !h.works(token.Secret) {
		t.Error("the delivered secret is not the new token's, or the old one is dead already")
	}
	if status := h.call("get_token", args{"connection": mailtrapName, "token_id": old}).str("token", "status"); status != "in_grace" {
		t.Errorf("the old token has the status %q, want in_grace", status)
	}
	h.untouched(func() { h.call(rotate, a).fails("refused").says("already reset") })
	other := h.restart(setup{}) // which knows of the reset from the record only
	h.untouched(func() { other.call(rotate, a).fails("refused").says("already rotated", "rotate its successor") })
	other.call(rotate, with(a, args{"token_id": fresh})).is("confirmation_required")
	h.clock.advance(12 * time.Hour)
	if h.works(token.Secret) {
		t.Error("the old secret outlived its grace")
	}
}

// TestRotateMailtrapByTwin: a token with an end of life, and a leaked one, get a twin.
func TestRotateMailtrapByTwin(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	each(t, map[string]struct {
		ends        time.Duration // from now; 0: never
		compromised bool
		twinEnds    time.Duration // from the preview; 0: never
	}{
		"ends in a year":            {365 * day, false, 365 * day},
		"ends in 30 days":           {30 * day, false, 30 * day},
		"ends soon":                 {3 * day, false, 30 * day},
		"never, leaked":             {0, true, 0},
		"ends in a year and leaked": {365 * day, true, 365 * day},
		"ends soon and leaked":      {time.Hour, true, 30 * day},
	}, func(t *testing.T, c struct {
		ends        time.Duration
		compromised bool
		twinEnds    time.Duration
	},
	) {
		h := start(t, setup{})
		project, _ := lookup(h.box.MailtrapResources(), func(n sandbox.MailtrapNode) bool { return n.ResourceType == "project" })
		token := h.addMailtrap("deploy <bot>", func(t *sandbox.MailtrapToken) {
			t.Resources = []sandbox.MailtrapResource{{ResourceType: "project", ResourceID: project.ResourceID, AccessLevel: 100}, {ResourceType: "account", ResourceID: 3229, AccessLevel: 10}}
			if c.ends != 0 {
				t.ExpiresAt = h.clock.Now().Add(c.ends)
			}
		})
		old := number(token.ID)
		a := args{"connection": mailtrapName, "token_id": old, "deliver_to": "files/twin"}
		if c.compromised {
			a["compromised"] = true
		}
		var wantEnd any
		if c.twinEnds != 0 {
			wantEnd = h.clock.Now().Add(c.twinEnds).Format(time.RFC3339)
		}
		shown := h.call(rotate, a).says("A new token with the same name and permissions")
		h.clock.advance(9 * time.Minute)
		h.forget()
		r := h.call(rotate, with(a, args{"confirm": shown.code()})).is("rotated")
		fresh, secret := r.str("token", "id"), h.wantDelivered("twin")[0]
		made, _ := h.mailtrap(fresh)
		want := []any{
			map[string]any{"resource_type": "project", "resource_id": float64(project.ResourceID), "access_level": 100.0},
			map[string]any{"resource_type": "account", "resource_id": 3229.0, "access_level": 10.0},
		}
		body := decoded(t, h.changes()[0].Body)
		if diff := cmp.Diff(map[string]any{"name": "deploy <bot>", "resources": want, "expires_at": wantEnd}, body); diff != "" {
			t.Errorf("body (-want +got):\n%s", diff)
		}
		if made.Secret != secret || r.str("old_token_id") != old {
			t.Errorf("the delivered secret is not that of the token in the result: %s", r.text)
		}
		if !c.compromised {
			h.wantSent("POST " + mtPath("")[:len(mtPath(""))-1])
			if r.str("old_secret_ends") != token.ExpiresAt.Format(time.RFC3339) || !h.works(token.Secret) {
				t.Errorf("the old token does not live on until its end: %s", r.text)
			}
			return
		}
		shown.says("is deleted once the new secret was delivered")
		h.wantSent("POST "+mtPath("")[:len(mtPath(""))-1], "DELETE "+mtPath(old))
		if r.str("old_secret_ends") != h.clock.Now().Format(time.RFC3339) || h.works(token.Secret) || h.lives(old) {
			t.Errorf("the leaked token still lives: %s", r.text)
		}
	})
}

// TestTwinThatIsTheTokenItself: a vendor that answers with the token that was to get a twin has given it the new
// secret, which is not ended with it.
func TestTwinThatIsTheTokenItself(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addMailtrap("leaked")
	old := number(token.ID)
	a := args{"connection": mailtrapName, "token_id": old, "compromised": true, "deliver_to": "files/twin"}
	a["confirm"] = h.preview(rotate, a)
	h.fault(sandbox.Fault{Method: "POST", Kind: sandbox.FaultStatus, Status: 200, Body: `{"id":` + old + `,"name":"leaked","token":"` + token.Secret + `"}`})
	r := h.call(rotate, a).is("rotated").says("gave token "+old+" itself the new secret", "find out whether the compromised secret still works")
	h.wantAlive(old)
	if secret := h.wantDelivered("twin")[0]; secret != token.Secret || r.get("old_token_id") != nil {
		t.Errorf("the result is %s", r.text)
	}
	if op := h.newest(); op.str("error_code") != "old_token_not_ended" || !strings.Contains(op.str("note"), "was not ended") {
		t.Errorf("on record is %s", op.text)
	}
}

// TestLeakedTokenThatCannotBeEnded: the new secret is delivered all the same, and
// the answer says that the old one works.
func TestLeakedTokenThatCannotBeEnded(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addMailtrap("leaked")
	a := args{"connection": mailtrapName, "token_id": number(token.ID), "compromised": true, "deliver_to": "files/twin"}
	code := h.preview(rotate, a)
	h.fault(sandbox.Fault{Method: "DELETE", Kind: sandbox.FaultStatus, Status: 403})
	r := h.call(rotate, with(a, args{"confirm": code})).is("rotated").says("could not be ended and still works", "revoke_token")
	if r.str("old_secret_ends") == h.clock.Now().Format(time.RFC3339) {
		t.Errorf("the result says that the old secret ended: %s", r.text)
	}
	h.wantDelivered("twin")
	h.wantAlive(number(token.ID))
}

// TestLeakedTokenWithoutAnAnswer: where the answer to the deletion was lost, the vendor
// is asked, and what it cannot tell is not claimed.
func TestLeakedTokenWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		fault sandbox.Fault
		code  string // on record
		says  []string
	}{
		"ended":    {sandbox.Fault{Kind: sandbox.FaultLostAnswer}, "", nil},
		"not told": {sandbox.Fault{Kind: sandbox.Fault504}, "old_token_not_ended", []string{"it is not known whether", "revoke_token"}},
	}, func(t *testing.T, c struct {
		fault sandbox.Fault
		code  string
		says  []string
	},
	) {
		h := start(t, setup{})
		token := h.addMailtrap("leaked")
		a := args{"connection": mailtrapName, "token_id": number(token.ID), "compromised": true, "deliver_to": "files/twin"}
		code := h.preview(rotate, a)
		c.fault.Method = "DELETE"
		h.fault(c.fault)
		r := h.call(rotate, with(a, args{"confirm": code})).is("rotated").says(c.says...)
		if ended := r.str("old_secret_ends") == h.clock.Now().Format(time.RFC3339); ended == h.lives(number(token.ID)) {
			t.Errorf("the token lives: %v, and the result says %s", !ended, r.text)
		}
		op, err := h.env.Ledger.Get(t.Context(), r.str("operation_id"))
		if err != nil || op.Outcome != ledger.Done || op.ErrorCode != c.code {
			t.Errorf("on record as %s %q, %v; want %q", op.Outcome, op.ErrorCode, err, c.code)
		}
	})
}

// TestUndeliveredRotation: the sink fails, and the state directory just then as well.
func TestUndeliveredRotation(t *testing.T) {
	t.Parallel()
	type mint struct {
		args  func(*harness) (a args, secret string)
		alive bool // the old secret
		says  string
	}
	ld := func(over args) func(*harness) (args, string) {
		return func(h *harness) (args, string) {
			token := h.addLaunchDarkly("old")
			return with(args{"connection": launchDarklyName, "token_id": token.ID}, over), token.Secret
		}
	}
	mt := func(over args) func(*harness) (args, string) {
		return func(h *harness) (args, string) {
			token := h.addMailtrap("old")
			return with(args{"connection": mailtrapName, "token_id": number(token.ID)}, over), token.Secret
		}
	}
	each(t, map[string]mint{
		"LaunchDarkly":             {ld(nil), true, "before the old secret ends"},
		"LaunchDarkly compromised": {ld(args{"compromised": true}), false, "rotate token"},
		"Mailtrap reset":           {mt(nil), true, "the old token still works"},
		"Mailtrap compromised":     {mt(args{"compromised": true}), true, "the old token still works"},
	}, func(t *testing.T, c mint) {
		var h *harness
		h = start(t, setup{}).behind(setup{}, spoiling(http.MethodPost, func() { h.breakEscrow() }))
		a, secret := c.args(h)
		code := h.preview(rotate, a)
		h.env.Sinks[sinkName] = failing{h.env.Sinks[sinkName]}
		r := h.call(rotate, with(a, args{"confirm": code})).is("undelivered").says("lost", "no space left", "could not be put in escrow", c.says)
		if !c.alive && strings.Contains(r.text, "before the old secret ends") {
			t.Errorf("the old secret ended already: %s", r.text)
		}
		if slices.ContainsFunc(h.sent(), func(s string) bool { return strings.HasPrefix(s, "DELETE") }) || len(h.sent()) != 1 {
			t.Errorf("sent %v, want one POST", h.sent())
		}
		if h.works(secret) != c.alive {
			t.Errorf("the old secret works: %v, want %v", !c.alive, c.alive)
		}
		h.wantAlive(a["token_id"].(string), r.str("token", "id"))
	})
}

func TestRotationHandOff(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: pairs()})
	account, ids := h.serviceAccount("robot")
	_ = account
	user := h.addAtlassian("laptop")
	h.untouched(func() {
		for _, id := range []string{user.ID, ids[0]} {
			r := h.call(rotate, args{"connection": atlassianName, "token_id": id}).is("hand_off").says("nothing was changed", "id.atlassian.com")
			if r.str("confirm") != "" || r.get("secret") != nil {
				t.Errorf("the hand-off holds more: %s", r.text)
			}
		}
		if len(h.requests()) > 0 {
			t.Errorf("%d requests for a hand-off", len(h.requests()))
		}
	})
}

// TestRotationOfOwnCredential answers with the steps, through each connection.
func TestRotationOfOwnCredential(t *testing.T) {
	t.Parallel()
	h := start(t, setup{connections: pairs()})
	h.untouched(func() {
		for _, over := range []args{{}, {"compromised": true}, {"deliver_to": "files/own"}, {"confirm": "yes"}} {
			for name, id := range map[string]string{
				launchDarklyName: h.access.LaunchDarkly.TokenID, "beta-launchdarkly": h.access.LaunchDarkly.TokenID,
				mailtrapName: number(h.access.Mailtrap.TokenID), "beta-mailtrap": number(h.access.Mailtrap.TokenID),
			} {
				r := h.call(rotate, with(over, args{"connection": name, "token_id": id})).is("hand_off").says("credential")
				if steps, _ := r.get("steps").([]any); len(steps) < 3 {
					t.Errorf("%d steps: %s", len(steps), r.text)
				}
			}
		}
	})
}

// TestRotationTwice: each rotation of one key adds a version.
func TestRotationTwice(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	token := h.addLaunchDarkly("old")
	a := args{"connection": launchDarklyName, "token_id": token.ID}
	first := h.confirm(rotate, a).is("rotated")
	second := h.confirm(rotate, a).is("rotated")
	if first.get("secret", "version") != 1.0 || second.get("secret", "version") != 2.0 {
		t.Errorf("versions %v and %v", first.get("secret", "version"), second.get("secret", "version"))
	}
	key := launchDarklyName + "/" + token.ID
	secrets := h.wantDelivered(key, key+".v2")
	if secrets[0] == secrets[1] || first.str("secret", "fingerprint") == second.str("secret", "fingerprint") {
		t.Error("two rotations gave the same secret, or fingerprint")
	}
}
