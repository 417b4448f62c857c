package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/config"
	"github.com/tokenreeve/tokenreeve/internal/confirm"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sanitize"
	"github.com/tokenreeve/tokenreeve/internal/secret"
	"github.com/tokenreeve/tokenreeve/tools"
)

// passphraseTries is how many passphrases one run takes.
const passphraseTries = 3

func (a *app) approvalCommand() *cobra.Command {
	var setup, decline bool
	var server, tokenFile string
	cmd := &cobra.Command{
		Use:   "approve PREVIEW_ID | --setup",
		Short: "Give a human's yes to a change that an agent has previewed",
		Long: "Shows a preview, and approves it once you typed the phrase that it asks for and your\n" +
			"passphrase, at the terminal itself. The agent's next call with the confirm code then acts.\n" +
			"--decline says no, which needs no passphrase: the preview's code is dead then.\n\n" +
			"--setup sets the passphrase, or changes it. Only a hash of it is kept, in approval.json in\n" +
			"the state directory, or in the database that state.postgres names. Use the configuration and\n" +
			"the state directory of the server.\n\n" +
			"--server asks a server over HTTP instead, where you are a caller with the role approver. Your token\n" +
			"is in TOKENREEVE_APPROVE_TOKEN or in --token-file, else you are asked for it at the terminal. It takes\n" +
			"no passphrase, and no configuration but ca_file.",
		Example: "  tokenreeve approve --setup\n" +
			"  tokenreeve approve pv_ABCDEFGHIJ\n" +
			"  tokenreeve approve --server https://tokenreeve.acme.example pv_ABCDEFGHIJ",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case setup && (decline || server != "" || len(args) > 0):
				return errors.New("--setup stands alone")
			case server == "" && tokenFile != "":
				return errors.New("--token-file goes with --server")
			case !setup && len(args) == 0:
				return errors.New("name the preview, as in tokenreeve approve pv_ABCDEFGHIJ, or give --setup")
			case setup:
				return a.setUpApproval(cmd)
			case server != "":
				return a.approveAt(cmd, server, tokenFile, args[0], decline)
			}
			return a.approve(cmd, args[0], decline)
		},
	}
	cmd.Flags().BoolVar(&setup, "setup", false, "set or change the passphrase")
	cmd.Flags().BoolVar(&decline, "decline", false, "say no")
	cmd.Flags().StringVar(&server, "server", "", "URL of a server that has the preview, for example https://tokenreeve.acme.example")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file that holds your token for that server")
	return cmd
}

func (a *app) setUpApproval(cmd *cobra.Command) error {
	return a.withStore(cmd, setUpPassphrase)
}

func setUpPassphrase(ctx context.Context, _ config.Config, s *store) error {
	isSet, err := s.passphrase.IsSet(ctx)
	if err != nil {
		return err
	}
	t, err := openTerminal("approve")
	if err != nil {
		return err
	}
	defer t.close()
	if isSet {
		if err := t.proveOperator(ctx, s, "Present passphrase: "); err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
	}
	chosen, err := t.passphraseTwice(ctx)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if err := s.passphrase.Set(ctx, chosen); err != nil {
		return err
	}
	t.say("The passphrase is set. Approve a preview with: tokenreeve approve PREVIEW_ID")
	return nil
}

func (t *terminal) passphraseTwice(ctx context.Context) (secret.Secret, error) {
	first, err := t.passphrase(ctx, fmt.Sprintf("New passphrase, at least %d characters: ", confirm.MinPassphrase))
	if err != nil {
		return secret.Secret{}, err
	}
	second, err := t.passphrase(ctx, "The same again: ")
	if err == nil && !first.Equal(second) {
		err = errors.New("the two are not the same")
	}
	return first, err
}

// proveOperator asks for the passphrase until it is right, a few times at most.
func (t *terminal) proveOperator(ctx context.Context, s *store, prompt string) error {
	for range passphraseTries {
		typed, err := t.passphrase(ctx, prompt)
		if err != nil {
			return err
		}
		right, err := s.passphrase.Check(ctx, typed)
		if right || err != nil {
			return err
		}
		t.say("That is not the passphrase.")
	}
	return fmt.Errorf("%d wrong passphrases", passphraseTries)
}

func (a *app) approve(cmd *cobra.Command, id string, decline bool) error {
	return a.withStore(cmd, func(ctx context.Context, c config.Config, s *store) error {
		return a.decide(ctx, c, s, id, decline)
	})
}

func (a *app) decide(ctx context.Context, c config.Config, s *store, id string, decline bool) error {
	if !decline { // before a person reads through all of it
		if err := needPassphrase(ctx, s); err != nil {
			return err
		}
	}
	exists, err := s.exists(ctx)
	if err != nil {
		return err
	}
	if !exists {
		return noPreview(id, s.place)
	}
	p, err := s.ledger.FindPreview(ctx, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return noPreview(id, s.place)
	}
	if err != nil {
		return err
	}
	if over := judgePreview(&p); over != "" {
		return errors.New(over)
	}
	if p.ApprovedBy != "" && !decline {
		a.sayAlreadyApproved(&p)
		return nil
	}
	shown, err := tools.ShownOf(p)
	if err == nil {
		err = hasPhrase(p.ID, &shown)
	}
	if err == nil && !decline && p.Principal == auth.Local().Name && c.HumanApproval.Policy().For(shown.Risk) == policy.ApprovalSecond {
		err = fmt.Errorf("preview %s was asked for by the local user, and human_approval.second_person wants another's yes: have an approver run tokenreeve approve --server URL %s", p.ID, p.ID)
	}
	if err != nil {
		return err
	}
	t, err := openTerminal("approve")
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.showPreview(&p, &shown); err != nil {
		return err
	}
	if decline {
		return t.decline(ctx, s.ledger, id)
	}
	return t.approve(ctx, s, id, shown.Phrase)
}

func (a *app) sayAlreadyApproved(p *ledger.Preview) {
	fmt.Fprintf(plain(a.streams.Out), "preview %s was approved by %s already; the agent's next call with the code acts\n", p.ID, oneLine(p.Approval()))
}

func hasPhrase(id string, s *tools.Shown) error {
	if s.Phrase == "" {
		return fmt.Errorf("preview %s does not say what it would do; ask the agent for a new one", id)
	}
	return nil
}

func needPassphrase(ctx context.Context, s *store) error {
	isSet, err := s.passphrase.IsSet(ctx)
	if err == nil && !isSet {
		return fmt.Errorf("%w; set one first: tokenreeve approve --setup, with the configuration and the state directory of the server", confirm.ErrNoPassphrase)
	}
	return err
}

func noPreview(id, place string) error {
	return fmt.Errorf("there is no preview %s in %s: it has expired, or the server keeps its state elsewhere; previews live for %d minutes, so ask the agent for a new one",
		oneLine(id), place, int(ledger.PreviewLife.Minutes()))
}

// judgePreview says why nobody can decide on a preview any more, or nothing.
func judgePreview(p *ledger.Preview) string {
	switch p.State {
	case ledger.PreviewOpen:
		return ""
	case ledger.PreviewDeclined:
		return fmt.Sprintf("preview %s was declined by %s", p.ID, oneLine(p.DeclinedBy))
	case ledger.PreviewRunning:
		return fmt.Sprintf("preview %s is being carried out already", p.ID)
	default:
		return fmt.Sprintf("preview %s was carried out already", p.ID)
	}
}

// showPreview shows what would be done, on the terminal: standard output may go elsewhere.
func (t *terminal) showPreview(p *ledger.Preview, s *tools.Shown) error {
	t.say("Preview %s", oneLine(p.ID))
	for _, line := range [][2]string{
		{"asked by", p.Principal},
		{"tool", s.Tool},
		{"connection", s.Connection},
		{"reason", s.Reason},
		{"risk", fmt.Sprint(s.Risk)},
		{"owners", strings.Join(s.Owners, ", ")},
		{"most recent use", s.LastUse},
		{"expires", p.Expires.UTC().Format(time.RFC3339) + ", in " + time.Until(p.Expires).Round(time.Second).String()},
		{"approved by", p.Approval()},
	} {
		if line[1] != "" {
			t.say("%s: %s", line[0], oneLine(line[1]))
		}
	}
	for _, effect := range s.Effects {
		t.say("effect: %s", oneLine(effect))
	}
	for _, warning := range s.Warnings {
		t.say("warning: %s", oneLine(warning))
	}
	if len(s.Rows) == 0 {
		if s.Count > 0 {
			t.say("targets: %d, too many to show", s.Count)
		}
		return nil
	}
	return printGrid(t.screen, fmt.Sprintf("targets (%d)", s.Count), s.Columns, s.Rows, s.SharedColumns)
}

func (t *terminal) decline(ctx context.Context, l *ledger.Ledger, id string) error {
	if err := t.askDecline(ctx); err != nil {
		return err
	}
	if _, err := l.DeclinePreview(ctx, id, localUser()); err != nil {
		return undecided(id, err)
	}
	t.sayDeclined(id)
	return nil
}

func (t *terminal) askDecline(ctx context.Context) error {
	answer, err := t.line(ctx, "Decline this? Its code is dead then [y/n]: ")
	if err == nil && !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		err = errors.New("the answer was not y")
	}
	if err != nil {
		return fmt.Errorf("nothing was declined: %w", err)
	}
	return nil
}

func (t *terminal) sayDeclined(id string) {
	t.say("Declined. The code of preview %s does nothing any more.", id)
}

func (t *terminal) approve(ctx context.Context, s *store, id, phrase string) error {
	err := t.askPhrase(ctx, phrase)
	if err == nil {
		err = t.proveOperator(ctx, s, "Passphrase: ")
	}
	if err != nil {
		return notApproved(err)
	}
	if _, err := s.ledger.ApprovePreview(ctx, id, localUser()); err != nil {
		return undecided(id, err)
	}
	t.sayApproved()
	return nil
}

func (t *terminal) askPhrase(ctx context.Context, phrase string) error {
	typed, err := t.line(ctx, fmt.Sprintf("Type %s to approve this: ", oneLine(phrase)))
	if err == nil && typed != phrase {
		err = errors.New("that is not the phrase")
	}
	return err
}

func notApproved(err error) error { return fmt.Errorf("nothing was approved: %w", err) }

func (t *terminal) sayApproved() { t.say("Approved. The agent's next call with the code acts.") }

// undecided explains why a decision came too late.
func undecided(id string, err error) error {
	if errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("preview %s has expired meanwhile; ask the agent for a new one", id)
	}
	return err
}

// localUser names who decides, for the record.
func localUser() string {
	u, err := user.Current()
	return localName(u, err, os.Getuid())
}

// localName takes the number of a user whom no one has given a name, as in a container.
func localName(u *user.User, err error, uid int) string {
	name := ""
	if err == nil {
		name, _ = sanitize.Name(u.Username)
	}
	if name == "" && uid >= 0 {
		name = "uid-" + strconv.Itoa(uid)
	}
	return "local:" + cmp.Or(name, "unknown")
}
