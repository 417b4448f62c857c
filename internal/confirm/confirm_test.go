package confirm_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

const (
	alice = "alice"
	tool  = "revoke_token"
)

func arguments(token string) json.RawMessage {
	return json.RawMessage(`{"connection":"acme","token_id":"` + token + `"}`)
}

func newStore() (*confirm.Store, *clock) {
	c := &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	return confirm.NewStore(c.Now), c
}

func open(s *confirm.Store, token string) (confirm.Preview, string) {
	return s.Open(confirm.Preview{Principal: alice, Tool: tool, Arguments: arguments(token), Plan: "plan of " + token})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	s, c := newStore()
	ids, codes := map[string]bool{}, map[string]bool{}
	for range 1000 {
		p, code := open(s, "a")
		if p.Principal != alice || p.Tool != tool || p.Plan != "plan of a" || !p.Expires.Equal(c.Now().Add(10*time.Minute)) {
			t.Fatalf("preview %+v", p)
		}
		if len(code) < 26 { // 128 bits in base32
			t.Fatalf("the code %q is short", code)
		}
		if strings.Contains(code, p.ID) || strings.Contains(p.ID, code) || !strings.HasPrefix(p.ID, "pv_") {
			t.Fatalf("id %q tells of the code %q", p.ID, code)
		}
		ids[p.ID], codes[code] = true, true
	}
	if len(ids) != 1000 || len(codes) != 1000 {
		t.Errorf("%d ids and %d codes of 1000 are distinct", len(ids), len(codes))
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	whole := `{"connection":"acme","exclude":["x"],"token_id":"a"}`
	tests := map[string]struct {
		principal, tool string
		arguments       string
		alter           func(code string) string
		later           time.Duration
		want            confirm.Verdict
		changed         []string
	}{
		"right":                {want: confirm.Accepted},
		"in the last moment":   {later: confirm.Life - 1, want: confirm.Accepted},
		"too late":             {later: confirm.Life, want: confirm.NotACode},
		"another caller":       {principal: "mallory", want: confirm.NotACode},
		"no caller":            {principal: "-", want: confirm.NotACode},
		"empty":                {alter: func(string) string { return "" }, want: confirm.NotACode},
		"yes":                  {alter: func(string) string { return "yes" }, want: confirm.NotACode},
		"lower case":           {alter: strings.ToLower, want: confirm.NotACode},
		"part":                 {alter: func(code string) string { return code[:len(code)-1] }, want: confirm.NotACode},
		"longer":               {alter: func(code string) string { return code + "A" }, want: confirm.NotACode},
		"with a space":         {alter: func(code string) string { return code + " " }, want: confirm.NotACode},
		"another tool":         {tool: "rotate_token", want: confirm.Mismatch, changed: []string{"tool"}},
		"another tool, caller": {tool: "rotate_token", principal: "mallory", want: confirm.NotACode},
		"another id":           {arguments: `{"connection":"acme","exclude":["x"],"token_id":"b"}`, want: confirm.Mismatch, changed: []string{"token_id"}},
		"another type":         {arguments: `{"connection":"acme","exclude":"x","token_id":"a"}`, want: confirm.Mismatch, changed: []string{"exclude"}},
		"one less":             {arguments: `{"connection":"acme","token_id":"a"}`, want: confirm.Mismatch, changed: []string{"exclude"}},
		"one more":             {arguments: `{"connection":"acme","exclude":["x"],"owner":"o","token_id":"a"}`, want: confirm.Mismatch, changed: []string{"owner"}},
		"several":              {arguments: `{"connection":"beta","owner":"o","token_id":"b"}`, want: confirm.Mismatch, changed: []string{"connection", "exclude", "owner", "token_id"}},
		"null for nothing":     {arguments: `{"connection":"acme","exclude":["x"],"owner":null,"token_id":"a"}`, want: confirm.Mismatch, changed: []string{"owner"}},
		"no object":            {arguments: `[]`, want: confirm.Mismatch, changed: []string{"arguments"}},
		"no JSON":              {arguments: ``, want: confirm.Mismatch, changed: []string{"arguments"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newStore()
			_, code := s.Open(confirm.Preview{Principal: alice, Tool: tool, Arguments: json.RawMessage(whole), Plan: 1})
			presented, principal, called, with := code, alice, tool, whole
			if tt.alter != nil {
				presented = tt.alter(code)
			}
			if tt.principal != "" {
				principal = strings.Trim(tt.principal, "-")
			}
			if tt.tool != "" {
				called = tt.tool
			}
			if tt.arguments != "" || name == "no JSON" {
				with = tt.arguments
			}
			c.advance(tt.later)
			for _, judge := range []func(string, string, string, json.RawMessage) confirm.Check{s.Peek, s.Take} {
				got := judge(presented, principal, called, json.RawMessage(with))
				if got.Verdict != tt.want || !cmp.Equal(got.Changed, tt.changed) {
					t.Errorf("verdict %v, changed %v; want %v, %v", got.Verdict, got.Changed, tt.want, tt.changed)
				}
				if got.Verdict == confirm.NotACode && got.Preview.ID != "" {
					t.Error("a preview for what is no code")
				}
			}
			if tt.want != confirm.Accepted && tt.later == 0 {
				if got := s.Take(code, alice, tool, json.RawMessage(whole)); got.Verdict != confirm.Accepted || got.Preview.Plan != 1 {
					t.Errorf("the wrong try spent the code: %+v", got)
				}
			}
		})
	}
}

func TestCodeWorksOnce(t *testing.T) {
	t.Parallel()
	s, c := newStore()
	p, code := open(s, "a")
	if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.Accepted {
		t.Fatalf("first: %v", got.Verdict)
	}
	c.advance(50 * time.Minute) // running, longer than a code lives
	if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.Running {
		t.Fatalf("while it runs: %v", got.Verdict)
	}
	if got := s.Take(code, alice, tool, arguments("b")); got.Verdict != confirm.Mismatch {
		t.Fatalf("other arguments while it runs: %v", got.Verdict)
	}
	s.Record(p.ID, "result")
	for range 3 {
		if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.Done || got.Result != "result" || got.Preview.Plan != nil {
			t.Fatalf("when it is done: %+v", got)
		}
	}
	if got := s.Take(code, "mallory", tool, arguments("a")); got.Verdict != confirm.NotACode || got.Result != nil {
		t.Fatalf("another caller's: %+v", got)
	}
	c.advance(10 * time.Minute)
	if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.NotACode {
		t.Fatalf("an hour after it was spent: %v", got.Verdict)
	}
}

func TestOneOfManyIsAccepted(t *testing.T) {
	t.Parallel()
	s, _ := newStore()
	_, code := open(s, "a")
	var mu sync.Mutex
	verdicts := map[confirm.Verdict]int{}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			got := s.Take(code, alice, tool, arguments("a"))
			mu.Lock()
			defer mu.Unlock()
			verdicts[got.Verdict]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[confirm.Verdict]int{confirm.Accepted: 1, confirm.Running: 99}, verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestGuesses(t *testing.T) {
	t.Parallel()
	s, _ := newStore()
	var previews, codes []string
	for range 100 {
		p, code := open(s, "a")
		previews, codes = append(previews, p.ID), append(codes, code)
	}
	for i := range 10_000 {
		guess := rand.Text()
		switch i % 4 {
		case 1: // right but for one letter
			code := []byte(codes[i%100])
			at := i % len(code)
			code[at] = 'A' + (code[at]-'A'+1)%26
			guess = string(code)
		case 2:
			guess = previews[i%100]
		case 3:
			guess = fmt.Sprint(i)
		}
		if got := s.Take(guess, alice, tool, arguments("a")); got.Verdict != confirm.NotACode {
			t.Fatalf("the guess %q is %v", guess, got.Verdict)
		}
	}
	for _, code := range codes {
		if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.Accepted {
			t.Fatalf("after all the guesses a code is %v", got.Verdict)
		}
	}
}

// TestBounds: the store forgets the oldest, but never a change that is under way.
func TestBounds(t *testing.T) {
	t.Parallel()
	s, c := newStore()
	_, oldest := open(s, "a")
	c.advance(time.Second)
	running, under := open(s, "a")
	if got := s.Take(under, alice, tool, arguments("a")); got.Verdict != confirm.Accepted {
		t.Fatal(got.Verdict)
	}
	latest := ""
	for range 600 {
		c.advance(time.Millisecond)
		_, latest = open(s, "a")
	}
	if got := s.Peek(oldest, alice, tool, arguments("a")); got.Verdict != confirm.NotACode {
		t.Errorf("the oldest of 600 previews is %v", got.Verdict)
	}
	if got := s.Peek(latest, alice, tool, arguments("a")); got.Verdict != confirm.Accepted {
		t.Errorf("the latest is %v", got.Verdict)
	}
	if got := s.Peek(under, alice, tool, arguments("a")); got.Verdict != confirm.Running {
		t.Errorf("the change under way is %v", got.Verdict)
	}
	s.Record(running.ID, "result")
	if got := s.Peek(under, alice, tool, arguments("a")); got.Verdict != confirm.Done {
		t.Errorf("the change is %v when it is done", got.Verdict)
	}
	for range 300 { // as many results
		c.advance(time.Millisecond)
		p, code := open(s, "b")
		s.Take(code, alice, tool, arguments("b"))
		s.Record(p.ID, "other")
	}
	if got := s.Peek(under, alice, tool, arguments("a")); got.Verdict != confirm.NotACode {
		t.Errorf("the oldest of 300 results is %v", got.Verdict)
	}
}

func TestRecordOfUnknown(t *testing.T) {
	t.Parallel()
	s, _ := newStore()
	_, code := open(s, "a")
	s.Record("pv_UNKNOWN", "result")
	if got := s.Take(code, alice, tool, arguments("a")); got.Verdict != confirm.Accepted {
		t.Errorf("a record of another preview made the code %v", got.Verdict)
	}
}

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
