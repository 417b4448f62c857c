package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/spf13/cobra"

	"github.com/tokenreeve/tokenreeve/internal/server"
)

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Walk through the whole job with simulated vendors",
		Long: "Starts the simulated vendors and a server, connects an MCP client to it over pipes, and walks\n" +
			"through inventory, preview, confirmation, rotation and bulk revocation. Nothing is left behind.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.flags.demo = true
			if a.flags.logLevel == "" {
				a.flags.logLevel = "error"
			}
			s, err := a.setUp(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			return a.overPipes(cmd.Context(), s, func(ctx context.Context, c *client.Client) error {
				return (&walk{out: plain(a.streams.Out), client: c}).all(ctx)
			})
		},
	}
}

// overPipes serves stdio on pipes and hands their other ends to a client.
func (a *app) overPipes(ctx context.Context, s instance, use func(context.Context, *client.Client) error) error {
	mcp, err := server.New(a.version, s.env)
	if err != nil {
		return err
	}
	toServer, fromClient := io.Pipe()
	toClient, fromServer := io.Pipe()
	var wg sync.WaitGroup
	var served error
	wg.Go(func() {
		served = server.Stdio(ctx, mcp, s.env.Work, toServer, fromServer, s.config.Timeout, s.log)
		_ = fromServer.Close()
	})
	c := client.NewClient(transport.NewIO(toClient, fromClient, io.NopCloser(strings.NewReader(""))))
	err = initialize(ctx, c, a.version)
	if err == nil {
		err = use(ctx, c)
	}
	_ = fromClient.Close()
	wg.Wait()
	return errors.Join(err, served)
}

// walk is the demo's transcript.
type walk struct {
	out    io.Writer
	client *client.Client
}

func (w *walk) all(ctx context.Context) error {
	for _, step := range []func(context.Context) error{w.inventory, w.staleToken, w.newToken, w.update, w.rotation, w.bulk} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	w.say("Done. Every call above was real MCP over pipes and real HTTP to the simulated vendors.")
	return nil
}

func (w *walk) say(format string, args ...any) { fmt.Fprintf(w.out, format+"\n", args...) }

func (w *walk) title(text string) { w.say("\n== %s", text) }

// call calls a tool, shows both sides, and fails where the tool does.
func (w *walk) call(ctx context.Context, tool string, arguments map[string]any) (map[string]any, error) {
	result, err := w.try(ctx, tool, arguments)
	if err == nil && result["code"] != nil {
		err = fmt.Errorf("%s failed: %v", tool, result["message"])
	}
	return result, err
}

func (w *walk) try(ctx context.Context, tool string, arguments map[string]any) (map[string]any, error) {
	asked, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	w.say("\n> %s %s", tool, asked)
	answer, err := callTool(ctx, w.client, tool, arguments)
	if err != nil {
		return nil, err
	}
	var result map[string]any
	if err := json.Unmarshal(answer.data, &result); err != nil {
		return nil, fmt.Errorf("%s answered no JSON object: %w", tool, err)
	}
	var shown bytes.Buffer
	if err := printTable(&shown, answer.data); err != nil {
		return nil, err
	}
	for line := range strings.Lines(shown.String()) {
		w.say("    %s", strings.TrimRight(line, " \n"))
	}
	return result, nil
}

// confirmed calls a changing tool twice: for the preview, and with its code.
func (w *walk) confirmed(ctx context.Context, tool string, arguments map[string]any) error {
	preview, err := w.call(ctx, tool, arguments)
	if err != nil {
		return err
	}
	arguments["confirm"] = preview["confirm"]
	_, err = w.call(ctx, tool, arguments)
	return err
}

func (w *walk) inventory(ctx context.Context) error {
	w.title("What is there? Three vendors, one question")
	if _, err := w.call(ctx, "list_connections", map[string]any{}); err != nil {
		return err
	}
	_, err := w.call(ctx, "count_tokens", map[string]any{"group_by": "connection"})
	return err
}

func (w *walk) staleToken(ctx context.Context) error {
	w.title("A stale token: found, previewed, a wrong code refused, the right one accepted")
	found, err := w.call(ctx, "list_tokens", map[string]any{
		"connection": "acme-atlassian", "kind": "user", "unused_for": "180d", "sort": "last_used", "limit": 3,
	})
	if err != nil {
		return err
	}
	id, err := firstID(found)
	if err != nil {
		return err
	}
	arguments := map[string]any{"connection": "acme-atlassian", "token_id": id, "reason": "not used for half a year"}
	preview, err := w.call(ctx, "revoke_token", arguments)
	if err != nil {
		return err
	}
	arguments["confirm"] = "yes, do it"
	w.say("\nA guess is no code: the answer is a preview again.")
	refused, err := w.call(ctx, "revoke_token", arguments)
	if err != nil {
		return err
	}
	if refused["status"] != "confirmation_required" {
		return errors.New("a guess was accepted as confirm code")
	}
	arguments["confirm"] = preview["confirm"]
	_, err = w.call(ctx, "revoke_token", arguments)
	return err
}

func firstID(listed map[string]any) (string, error) {
	rows, _ := listed["tokens"].([]any)
	if len(rows) == 0 {
		return "", errors.New("the listing is empty")
	}
	row, _ := rows[0].(map[string]any)
	id, ok := row["id"].(string)
	if !ok {
		return "", errors.New("a row without id")
	}
	return id, nil
}

func (w *walk) newToken(ctx context.Context) error {
	w.title("A new token: its secret goes to a file, not into the answer")
	_, err := w.call(ctx, "create_launchdarkly_token", map[string]any{
		"connection": "acme-launchdarkly", "name": "nightly report", "role": "reader", "service_token": true, "deliver_to": "files/ci/launchdarkly",
	})
	return err
}

func (w *walk) update(ctx context.Context) error {
	w.title("An update: the differences first")
	found, err := w.call(ctx, "list_tokens", map[string]any{"connection": "acme-launchdarkly", "query": "nightly report"})
	if err != nil {
		return err
	}
	id, err := firstID(found)
	if err != nil {
		return err
	}
	return w.confirmed(ctx, "update_launchdarkly_token", map[string]any{
		"connection": "acme-launchdarkly", "token_id": id, "description": "reads flags for the nightly report", "role": "writer",
	})
}

func (w *walk) rotation(ctx context.Context) error {
	w.title("A rotation: new secret to a file, the old one works for a while")
	found, err := w.call(ctx, "list_tokens", map[string]any{"connection": "acme-mailtrap", "expires_within": "never", "status": "active", "limit": 5})
	if err != nil {
		return err
	}
	id, err := foreignID(found)
	if err != nil {
		return err
	}
	if err = w.confirmed(ctx, "rotate_token", map[string]any{"connection": "acme-mailtrap", "token_id": id}); err != nil {
		return err
	}
	_, err = w.call(ctx, "rotate_token", map[string]any{"connection": "acme-atlassian", "token_id": "asp_any"})
	return err
}

// foreignID returns the first token that is not the server's own credential.
func foreignID(listed map[string]any) (string, error) {
	rows, _ := listed["tokens"].([]any)
	for _, r := range rows {
		if row, ok := r.(map[string]any); ok && row["own_credential"] != true {
			return firstID(map[string]any{"tokens": []any{row}})
		}
	}
	return "", errors.New("the listing is empty")
}

func (w *walk) bulk(ctx context.Context) error {
	w.title("A bulk revocation: exact targets, one code, a result for each")
	err := w.confirmed(ctx, "bulk_revoke_tokens", map[string]any{
		"connection": "acme-launchdarkly", "unused_for": "400d", "reason": "yearly clean-up",
	})
	if err != nil {
		return err
	}
	_, err = w.call(ctx, "count_tokens", map[string]any{"connection": "acme-launchdarkly", "unused_for": "400d"})
	return err
}
