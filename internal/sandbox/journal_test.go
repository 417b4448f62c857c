package sandbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/sandbox"
)

// story writes the changes as "vendor kind token by request"; at replaces ids.
func (b *box) story(names map[string]string) (story []string) {
	for _, c := range b.Changes() {
		by := "a request"
		if c.Request == 0 {
			by = "nobody"
		}
		story = append(story, fmt.Sprintf("%s %s %s by %s", c.Vendor, c.Kind, names[c.Token], by))
	}
	return story
}

func TestChangesAtLaunchDarkly(t *testing.T) {
	b := open(t, sandbox.Options{})
	if len(b.Changes()) != 0 {
		t.Fatalf("what New makes is no change: %+v", b.Changes())
	}
	made := parse[struct {
		ID    string `json:"_id"`
		Token string
	}](t, b.ld("POST", "/tokens", `{"role":"reader","name":"x"}`).want(t, 201))
	again := parse[struct{ Token string }](t, b.ld("POST", "/tokens/"+made.ID+"/reset", ``).want(t, 200))
	b.ld("PATCH", "/tokens/"+made.ID, `[{"op":"replace","path":"/role","value":"writer"},{"op":"add","path":"/description","value":"d"}]`).want(t, 200)
	b.ld("PATCH", "/tokens/"+made.ID, `[{"op":"replace","path":"/role","value":"x"}]`).want(t, 400)
	b.ld("DELETE", "/tokens/"+made.ID, "").want(t, 204)
	b.ld("DELETE", "/tokens/"+made.ID, "").want(t, 404)
	want := []string{
		"launchdarkly made A by a request", "launchdarkly reset A by a request", "launchdarkly updated A by a request", "launchdarkly deleted A by a request",
	}
	if diff := cmp.Diff(want, b.story(map[string]string{made.ID: "A"})); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	changes := b.Changes()
	if changes[0].Secret != made.Token || changes[1].Secret != again.Token || changes[0].Name != "x" || changes[2].Secret != "" {
		t.Error("the minted secrets are not those of the answers")
	}
	if changes[2].Role != "writer" || changes[2].Description != "d" {
		t.Errorf("updated: %+v", changes[2])
	}
}

func TestChangesAtMailtrap(t *testing.T) {
	now := newClock()
	b := open(t, sandbox.Options{Now: now.now})
	type answer struct {
		ID    int64
		Token string
	}
	first := parse[answer](t, b.mt("POST", "/api_tokens", `{"name":"x","resources":[`+accountAdmin+`]}`).want(t, 200))
	second := parse[answer](t, b.mt("POST", fmt.Sprintf("/api_tokens/%d/reset", first.ID), "").want(t, 200))
	b.mt("DELETE", fmt.Sprintf("/api_tokens/%d", second.ID), "").want(t, 204)
	now.at = now.at.Add(40 * time.Hour) // grace and cleanup
	b.MailtrapTokens()
	added, err := b.AddMailtrapToken(sandbox.MailtrapToken{Name: "y"})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{fmt.Sprint(first.ID): "first", fmt.Sprint(second.ID): "second", fmt.Sprint(added.ID): "added"}
	story := b.story(names)
	story = append(story[:3:3], story[len(story)-2:]...) // without the one that the seed reset
	want := []string{
		"mailtrap made first by a request", "mailtrap made second by a request", "mailtrap deleted second by a request",
		"mailtrap expired first by nobody", "mailtrap made added by nobody",
	}
	if diff := cmp.Diff(want, story); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if c := b.Changes()[1]; c.Replaces != fmt.Sprint(first.ID) || c.Secret != second.Token {
		t.Errorf("the reset: %+v", c)
	}
}

func TestChangesAtAtlassian(t *testing.T) {
	b := open(t, sandbox.Options{})
	names := map[string]string{}
	add := func(name string, service bool, account string) sandbox.AtlassianToken {
		token, err := b.AddAtlassianToken(sandbox.AtlassianToken{Label: name, ServiceAccount: service, AccountID: account})
		if err != nil {
			t.Fatal(err)
		}
		names[token.ID] = name
		return token
	}
	one := add("one", false, "")
	robot := add("robot", true, "")
	add("second", true, robot.AccountID)
	before := len(b.Changes())
	b.users("DELETE", one.AccountID+"/manage/api-tokens/"+one.ID).want(t, 204)
	b.org("DELETE", "/service-accounts/"+robot.AccountID+"/api-tokens", "").want(t, 204)
	want := []string{"atlassian deleted one by a request", "atlassian deleted robot by a request", "atlassian deleted second by a request"}
	if diff := cmp.Diff(want, b.story(names)[before:]); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if c := b.Changes()[before+1]; c.Owner != robot.AccountID || c.Request != b.Changes()[before+2].Request {
		t.Errorf("one request ended both, of account %s: %+v", robot.AccountID, c)
	}
	tokens := b.Changes()
	b.org("DELETE", "/api-tokens", "").want(t, 204)
	ended := b.Changes()[len(tokens):]
	for _, c := range ended {
		if c.Kind != sandbox.TokenDeleted || c.Request == 0 {
			t.Errorf("%+v", c)
		}
	}
	if len(ended) == 0 {
		t.Error("the end of all tokens is no change")
	}
}
