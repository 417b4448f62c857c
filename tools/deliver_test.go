package tools_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyThatLooksLikeACredential: what would be shown back and kept on record is refused
// before anything is sent, and not repeated.
func TestKeyThatLooksLikeACredential(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	for _, secret := range []string{"0f1e2d3c4b5a69788796a5b4c3d2856f", "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"} {
		for _, key := range []string{secret, "ci/" + secret} {
			h.untouched(func() {
				r := h.call(createLD, args{"connection": launchDarklyName, "name": "n", "role": "reader", "deliver_to": sinkName + "/" + key}).fails("invalid_argument")
				if strings.Contains(r.text, secret) || strings.Contains(h.log.String(), secret) {
					t.Errorf("%s shows the key", r.text)
				}
			})
		}
	}
}

// TestKeyThatAnotherCallDeliversTo: an exec sink cannot see what it holds. Of calls that come at once, here and at
// other servers, one gets the key, and the others are refused before anything is minted.
func TestKeyThatAnotherCallDeliversTo(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	arrived, release, open := gates()
	defer open()
	h = h.behind(setup{}, holdFirst("POST", arrived, release))
	h.env.Sinks[spare] = h.keeping()
	call := func(name string) result {
		return h.call(createLD, with(reader(), args{"name": name, "deliver_to": spare + "/ci/deploy"}))
	}
	first := make(chan result, 1)
	go func() { first <- call("first") }()
	<-arrived
	h.forget()
	call("second").fails("sink_key_exists").says("nothing was minted", "delivers to "+spare+"/ci/deploy")
	if op := h.newest(); op.str("outcome") != "refused" || op.str("error_code") != "sink_key_exists" {
		t.Errorf("on record is %s", op.text)
	}
	h.wantSent()
	open()
	r := (<-first).is("created")
	data, err := os.ReadFile(filepath.Join(h.spareDir(), "kept"))
	if kept := string(must(t, data, err)); !h.works(kept) || !strings.HasSuffix(kept, r.str("secret", "last_four")) {
		t.Error("the sink does not hold the secret of the call that was first")
	}
	call("third").fails("sink_key_exists")
}

// TestKeyOfAServerThatIsGone: a delivery that was cut off is ended on record, and gives the key free.
func TestKeyOfAServerThatIsGone(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	other := h.process()
	i := h.intent(createLD, "mint", launchDarklyName)
	i.NewTokenName, i.Sink, i.Key = "other", sinkName, "ci/deploy"
	id := other.begin(i)
	other.die()
	a := with(reader(), args{"deliver_to": sinkName + "/ci/deploy"})
	h.call(createLD, a).fails("sink_key_exists").says("operation " + id)
	h.clock.advance(lease)
	h.call(createLD, a).fails("sink_key_exists").says("call again")
	h.call(createLD, a).is("created")
	h.isNamed(id, "unknown")
}

// TestKeyThatWasJustDeliveredTo: what another call delivered between the look at the key and the intent counts.
func TestKeyThatWasJustDeliveredTo(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	slow := hesitant{newWaiting(h.keeping())}
	h.env.Sinks[spare] = slow
	call := func(name string) result {
		return h.call(createLD, with(reader(), args{"name": name, "deliver_to": spare + "/ci/deploy"}))
	}
	late := make(chan result, 1)
	go func() { late <- call("late") }()
	<-slow.began
	h.env.Sinks[spare] = slow.Sink
	call("first").is("created")
	h.forget()
	close(slow.release)
	(<-late).fails("sink_key_exists").says("came into use just now")
	h.wantSent()
}
