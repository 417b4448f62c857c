package confirm_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	type in struct {
		B       string   `json:"b,omitempty"`
		A       []string `json:"a,omitempty"`
		Confirm string   `json:"confirm,omitempty"`
	}
	got, err := confirm.Canonical(in{B: "x <y>", A: []string{"2", "1"}, Confirm: "code"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := confirm.Canonical(in{B: "x <y>", A: []string{"2", "1"}})
	if err != nil || !cmp.Equal(got, again) {
		t.Errorf("with a code %s, without %s, %v", got, again, err)
	}
	var members map[string]any
	if err := json.Unmarshal(got, &members); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"a": []any{"2", "1"}, "b": "x <y>"}, members); diff != "" {
		t.Errorf("canonical (-want +got):\n%s", diff)
	}
	for _, bad := range []any{make(chan int), "text", 1} {
		if got, err := confirm.Canonical(bad); err == nil {
			t.Errorf("Canonical(%T) = %s", bad, got)
		}
	}
}
