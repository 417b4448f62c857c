package e2e_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/secret"
)

const passphrase = "correct horse battery"

// setPassphrase sets the passphrase of the state directory.
func (v *vendors) setPassphrase(t *testing.T) {
	t.Helper()
	if err := confirm.PassphraseIn(v.stateDir()).Set(t.Context(), secret.New(passphrase)); err != nil {
		t.Fatal(err)
	}
}

// isPassphrase reports whether this is the passphrase of the state directory.
func (v *vendors) isPassphrase(t *testing.T, text string) bool {
	t.Helper()
	right, err := confirm.PassphraseIn(v.stateDir()).Check(t.Context(), secret.New(text))
	if err != nil && !errors.Is(err, confirm.ErrNoPassphrase) {
		t.Fatal(err)
	}
	return right
}

// noEcho fails where the terminal showed the passphrase, or anything but letters.
func (s *seat) noEcho(t *testing.T, typed ...string) {
	t.Helper()
	shown := s.screen.String()
	for _, text := range typed {
		if contains(shown+s.out.String()+s.err.String(), text) {
			t.Errorf("a passphrase was shown:\n%s", shown)
		}
	}
	plain(t, "the terminal", strings.ReplaceAll(shown, "\r\n", "\n"))
}

func TestApproveSetup(t *testing.T) {
	t.Parallel()
	const other = "another long passphrase"
	type reply struct{ question, line string }
	again := func(n int) string {
		return strings.Repeat("Present passphrase: \r\nThat is not the passphrase.\r\n", n) + "Present passphrase: "
	}
	for name, test := range map[string]struct {
		isSet   bool
		replies []reply
		code    int
		says    string
		want    string // the passphrase in the end
	}{
		"first":         {false, []reply{{"New passphrase", other}, {"again: ", other}}, 0, "The passphrase is set", other},
		"a change":      {true, []reply{{"Present passphrase", passphrase}, {"New passphrase", other}, {"again: ", other}}, 0, "The passphrase is set", other},
		"second try":    {true, []reply{{"Present passphrase", "wrong words here"}, {again(1), passphrase}, {"New passphrase", other}, {"again: ", other}}, 0, "The passphrase is set", other},
		"present wrong": {true, []reply{{"Present passphrase", other}, {again(1), other}, {again(2), other}}, 1, "3 wrong passphrases", passphrase},
		"not the same":  {true, []reply{{"Present passphrase", passphrase}, {"New passphrase", other}, {"again: ", other + " "}}, 1, "not the same", passphrase},
		"too short":     {true, []reply{{"Present passphrase", passphrase}, {"New passphrase", "elevenchars"}, {"again: ", "elevenchars"}}, 1, "at least 12", passphrase},
		"interrupt key": {false, []reply{{"New passphrase", "\x03"}}, 1, "interrupted", ""},
		"end of file":   {false, []reply{{"New passphrase", other}, {"again: ", "\x04"}}, 1, "interrupted", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			if test.isSet {
				v.setPassphrase(t)
			}
			s := sitDown(t, v.bareEnv(), "approve", "--setup")
			for _, r := range test.replies {
				s.reply(t, r.question, r.line)
			}
			s.exit(t, test.code)
			if test.code == 0 {
				s.screen.awaitText(t, test.says)
			} else if !contains(s.err.String(), test.says) {
				t.Errorf("no %q in %s", test.says, s.err)
			}
			if got := v.isPassphrase(t, test.want); got != (test.want != "") {
				t.Errorf("the passphrase is not %q", test.want)
			}
			if after := s.modes(t); after != s.before {
				t.Errorf("the terminal's modes are %x, and were %x", after, s.before)
			}
			s.noEcho(t, passphrase, other)
		})
	}
}

// opened makes a preview in the ledger of the binary and returns it with its code.
func (v *vendors) opened(t *testing.T, now func() time.Time) (*ledger.Ledger, ledger.Preview, string) {
	t.Helper()
	return v.openedWith(t, now, "REVOKE 2")
}

func (v *vendors) openedWith(t *testing.T, now func() time.Time, phrase string) (*ledger.Ledger, ledger.Preview, string) {
	t.Helper()
	l := v.ledger(t, now)
	plan, err := json.Marshal(map[string]any{"plan": nil, "shown": map[string]any{
		"tool": "bulk_revoke_tokens", "connection": "launchdarkly", "reason": "clean-up", "risk": "bulk", "phrase": phrase,
		"effects": []string{"2 tokens end for good"}, "warnings": []string{"hidden \x1b[31m\u202e text"}, "count": 2,
		"columns": []string{"id", "name"}, "rows": [][]string{{"t-1", "deploy"}, {"t-2", "fake\nt-3\tno"}},
		"shared_columns": map[string]string{"owner": "zoe@example.com"}, "owners": []string{"zoe@example.com"}, "last_use": "2026-10-30",
	}})
	if err != nil {
		t.Fatal(err)
	}
	p, code, err := l.OpenPreview(t.Context(), ledger.Preview{
		Principal: "ci-agent", Tool: "bulk_revoke_tokens", Arguments: json.RawMessage(`{"reason":"clean-up"}`), Plan: plan,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, p, code
}

func TestApprove(t *testing.T) {
	t.Parallel()
	type reply struct{ question, line string }
	phrase, right, wrong := reply{"Type REVOKE 2 to approve", "REVOKE 2"}, reply{"Passphrase: ", passphrase}, reply{"Passphrase: ", "something else"}
	again := func(n int) string {
		return strings.Repeat("Passphrase: \r\nThat is not the passphrase.\r\n", n) + "Passphrase: "
	}
	for name, test := range map[string]struct {
		replies []reply
		code    int
		says    string
		yes     bool
	}{
		"yes":                     {[]reply{phrase, right}, 0, "Approved. The agent's next call with the code acts.", true},
		"yes at the third":        {[]reply{phrase, wrong, {again(1), "no"}, {again(2), passphrase}}, 0, "Approved.", true},
		"three wrong passphrases": {[]reply{phrase, wrong, {again(1), "no"}, {again(2), "no"}}, 1, "nothing was approved: 3 wrong", false},
		"another phrase":          {[]reply{{phrase.question, "REVOKE 3"}}, 1, "nothing was approved: that is not the phrase", false},
		"no phrase":               {[]reply{{phrase.question, ""}}, 1, "nothing was approved: that is not the phrase", false},
		"yes is no phrase":        {[]reply{{phrase.question, "yes"}}, 1, "nothing was approved: that is not the phrase", false},
		"end of file":             {[]reply{{phrase.question, "\x04"}}, 1, "nothing was approved", false},
		"interrupt key":           {[]reply{{phrase.question, "\x03"}}, 1, "nothing was approved: interrupted", false},
		"interrupt at the end":    {[]reply{phrase, {"Passphrase: ", "\x03"}}, 1, "nothing was approved: interrupted", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			v.setPassphrase(t)
			l, p, _ := v.opened(t, nil)
			s := sitDown(t, v.bareEnv(), "approve", p.ID)
			for _, r := range test.replies {
				s.reply(t, r.question, r.line)
			}
			s.exit(t, test.code)
			if test.code == 0 {
				s.screen.awaitText(t, test.says)
			} else if !contains(s.err.String(), test.says) {
				t.Errorf("no %q in %s", test.says, s.err)
			}
			for _, part := range []string{
				"Preview " + p.ID, "asked by: ci-agent", "tool: bulk_revoke_tokens", "connection: launchdarkly", "reason: clean-up", "risk: bulk",
				"effect: 2 tokens end for good", "warning: hidden [31m text", "owners: zoe@example.com", "most recent use: 2026-10-30", "expires: " + p.Expires.Format("2006-01-02T15:04:05Z") + ", in ",
				"targets (2):\r\n  all: owner zoe@example.com\r\n  ID   NAME\r\n  t-1  deploy\r\n  t-2  fake t-3 no\r\n",
			} {
				if !contains(s.screen.String(), part) {
					t.Errorf("the terminal does not show %q:\n%s", part, s.screen)
				}
			}
			if s.out.String() != "" {
				t.Errorf("stdout: %s", s.out)
			}
			found, err := l.FindPreview(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			if yes := strings.HasPrefix(found.ApprovedBy, "local:") && len(found.ApprovedBy) > len("local:"); yes != test.yes || found.State != ledger.PreviewOpen {
				t.Errorf("approved by %q, state %s", found.ApprovedBy, found.State)
			}
			if after := s.modes(t); after != s.before {
				t.Errorf("the terminal's modes are %x, and were %x", after, s.before)
			}
			s.noEcho(t, passphrase, "something else")
		})
	}
}

// A signal leaves the terminal as it was and approves nothing.
func TestApproveSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, terminate, syscall.SIGHUP} {
		v := newVendors(t)
		v.setPassphrase(t)
		l, p, _ := v.opened(t, nil)
		s := sitDown(t, v.bareEnv(), "approve", p.ID)
		s.reply(t, "Type REVOKE 2", "REVOKE 2")
		s.screen.awaitText(t, "Passphrase: ")
		if s.modes(t)&syscall.ECHO != 0 {
			t.Error("the terminal echoes while the passphrase is typed")
		}
		s.signal(t, signal)
		s.exit(t, 1)
		if after := s.modes(t); after != s.before {
			t.Errorf("%s: the terminal's modes are %x, and were %x", signal, after, s.before)
		}
		if found, err := l.FindPreview(t.Context(), p.ID); err != nil || found.ApprovedBy != "" {
			t.Errorf("%s: approved by %q (%v)", signal, found.ApprovedBy, err)
		}
	}
}

func TestDecline(t *testing.T) {
	t.Parallel()
	for answer, no := range map[string]bool{"y": true, "Yes": true, "n": false, "": false, "\x04": false, "REVOKE 2": false} {
		v := newVendors(t) // without a passphrase
		l, p, _ := v.opened(t, nil)
		s := sitDown(t, v.bareEnv(), "approve", "--decline", p.ID)
		s.reply(t, "[y/n]: ", answer)
		code := 1
		if no {
			code = 0
		}
		s.exit(t, code)
		found, err := l.FindPreview(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if declined := found.State == ledger.PreviewDeclined && strings.HasPrefix(found.DeclinedBy, "local:"); declined != no {
			t.Errorf("%q: state %s, declined by %q", answer, found.State, found.DeclinedBy)
		}
		if !contains(s.screen.String(), "t-1  deploy") {
			t.Errorf("%q: the targets were not shown:\n%s", answer, s.screen)
		}
		if no == contains(s.err.String(), "nothing was declined") {
			t.Errorf("%q: stderr: %s", answer, s.err)
		}
	}
}

// What is not open cannot be approved, and a person is not asked in vain.
func TestApproveTooLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before func(t *testing.T, l *ledger.Ledger, p ledger.Preview, code string)
		now    time.Duration // when it was made, from now
		args   []string      // nil: the preview
		code   int
		says   string
	}{
		"unknown":        {nil, 0, []string{"pv_\x1b[31mNOTHERE"}, 1, "there is no preview pv_[31mNOTHERE in "},
		"expired":        {nil, -11 * time.Minute, nil, 1, "there is no preview"},
		"no preview":     {nil, 0, []string{}, 1, "name the preview"},
		"setup and more": {nil, 0, []string{"--setup", "pv_X"}, 1, "--setup stands alone"},
		"the demo's":     {nil, 0, []string{"--demo", "pv_X"}, 1, "--demo keeps"},
		"another place":  {nil, 0, []string{"--state-dir", "elsewhere", "pv_X"}, 1, "no passphrase is set"},
		"declined":       {declined, 0, nil, 1, "was declined by ops"},
		"taken":          {taken, 0, nil, 1, "is being carried out"},
		"done":           {done, 0, nil, 1, "was carried out already"},
		"approved":       {approved, 0, nil, 0, "was approved by ops already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVendors(t)
			v.setPassphrase(t)
			l, p, code := v.opened(t, func() time.Time { return time.Now().Add(test.now) })
			if test.before != nil {
				test.before(t, l, p, code)
			}
			args := test.args
			if args == nil {
				args = []string{p.ID}
			}
			s := sitDown(t, v.bareEnv(), append([]string{"approve"}, args...)...)
			s.exit(t, test.code)
			if !contains(s.out.String()+s.err.String(), test.says) || s.screen.String() != "" {
				t.Errorf("no %q in %s%s; the terminal shows %q", test.says, s.out, s.err, s.screen)
			}
			plain(t, "stderr", s.err.String())
		})
	}
}

func declined(t *testing.T, l *ledger.Ledger, p ledger.Preview, _ string) {
	t.Helper()
	if _, err := l.DeclinePreview(t.Context(), p.ID, "ops"); err != nil {
		t.Fatal(err)
	}
}

func approved(t *testing.T, l *ledger.Ledger, p ledger.Preview, _ string) {
	t.Helper()
	if _, err := l.ApprovePreview(t.Context(), p.ID, "ops"); err != nil {
		t.Fatal(err)
	}
}

func taken(t *testing.T, l *ledger.Ledger, _ ledger.Preview, code string) {
	t.Helper()
	check, err := l.TakePreview(t.Context(), code, "ci-agent", "bulk_revoke_tokens", json.RawMessage(`{"reason":"clean-up"}`))
	if err != nil || check.Verdict != ledger.Accepted {
		t.Fatalf("verdict %v (%v)", check.Verdict, err)
	}
}

func done(t *testing.T, l *ledger.Ledger, p ledger.Preview, code string) {
	t.Helper()
	taken(t, l, p, code)
	if err := l.RecordPreview(t.Context(), p.ID, json.RawMessage(`{}`)); err != nil {
		t.Fatal(err)
	}
}

// What is decided while a person thinks stays decided.
func TestApproveMeanwhileDeclined(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.setPassphrase(t)
	l, p, _ := v.opened(t, nil)
	s := sitDown(t, v.bareEnv(), "approve", p.ID)
	s.reply(t, "Type REVOKE 2", "REVOKE 2")
	s.screen.awaitText(t, "Passphrase: ")
	declined(t, l, p, "")
	s.reply(t, "Passphrase: ", passphrase)
	s.exit(t, 1)
	found, err := l.FindPreview(t.Context(), p.ID)
	if err != nil || found.State != ledger.PreviewDeclined || found.ApprovedBy != "" || !contains(s.err.String(), "is declined already") {
		t.Errorf("state %s, approved by %q (%v); stderr: %s", found.State, found.ApprovedBy, err, s.err)
	}
}

// Without a terminal of its own the command asks nobody, whatever is piped into it.
func TestApproveWithoutATerminal(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.setPassphrase(t)
	l, p, _ := v.opened(t, nil)
	typed := filepath.Join(v.home, "typed")
	if err := os.WriteFile(typed, []byte("REVOKE 2\n"+passphrase+"\ny\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{p.ID}, {"--decline", p.ID}, {"--setup"}} {
		stdin, err := os.Open(typed)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(binary(t), append([]string{"approve"}, args...)...)
		cmd.Env, cmd.Dir, cmd.Stdin = v.bareEnv(), t.TempDir(), stdin
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		run := launch(t, cmd)
		_ = stdin.Close()
		run.exit(t, 1)
		if !contains(run.err.String(), "approve needs a terminal: ") {
			t.Errorf("%v: stderr: %s", args, run.err)
		}
	}
	found, err := l.FindPreview(t.Context(), p.ID)
	if err != nil || found.State != ledger.PreviewOpen || found.ApprovedBy != "" || !v.isPassphrase(t, passphrase) {
		t.Errorf("state %s, approved by %q (%v)", found.State, found.ApprovedBy, err)
	}
}

func TestApproveWithoutAPassphrase(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	_, p, _ := v.opened(t, nil)
	s := sitDown(t, v.bareEnv(), "approve", p.ID)
	s.exit(t, 1)
	if !contains(s.err.String(), "tokenreeve approve --setup") || s.screen.String() != "" {
		t.Errorf("stderr: %s; the terminal shows %q", s.err, s.screen)
	}
}

// A preview that asks for no phrase cannot be approved by typing nothing.
func TestApproveWithoutAPhrase(t *testing.T) {
	t.Parallel()
	v := newVendors(t)
	v.setPassphrase(t)
	_, p, _ := v.openedWith(t, nil, "")
	s := sitDown(t, v.bareEnv(), "approve", p.ID)
	s.exit(t, 1)
	if !contains(s.err.String(), "does not say what it would do") || s.screen.String() != "" {
		t.Errorf("stderr: %s; the terminal shows %q", s.err, s.screen)
	}
}
