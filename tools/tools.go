// Package tools holds the MCP tools, one file each: arguments, handler,
// definition. What a tool may do follows from its class alone.
package tools

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/tokenreeve/tokenreeve/auth"
	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/sink"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/providers"
)

// All lists the tools in the order in which documents show them.
func All() []Tool {
	return []Tool{
		listConnections(),
		listTokens(),
		countTokens(),
		getToken(),
		createLaunchDarklyToken(),
		createMailtrapToken(),
		updateLaunchDarklyToken(),
		rotateToken(),
		revokeToken(),
		bulkRevokeTokens(),
		deliverSecret(),
		listOperations(),
		getOperation(),
	}
}

// Tool is one MCP tool.
type Tool struct {
	Name        string
	Title       string
	Description string
	Class       policy.Class
	// Needs says, for people, what the vendor's credential must be allowed to do.
	Needs string
	// Capability is what list_connections calls it, empty where it is none of a
	// connection's.
	Capability string
	// OrClass is another class that is enough for the tool, empty where there is none.
	OrClass policy.Class
	// ClosedWorld says that the tool calls no vendor.
	ClosedWorld bool
	// Serves tells whether the tool can work on a connection; nil: it needs none.
	Serves func(*Connection) bool
	// Offers tells whether the connection has the capability; nil: where the tool
	// serves it. They differ where a tool answers with a hand-off.
	Offers func(*Connection) bool
	// In and Out are the types behind the schemas.
	In, Out reflect.Type

	handle func(ctx context.Context, c *Call, raw json.RawMessage) (any, error)
}

// define binds a typed handler to a tool.
func define[In, Out any](t Tool, handle func(context.Context, *Call, In) (Out, error)) Tool {
	return defineAny[In, Out](t, func(ctx context.Context, c *Call, in In) (any, error) { return handle(ctx, c, in) })
}

// defineAny is define for a tool that may answer with a question to the client
// instead of an Out.
func defineAny[In, Out any](t Tool, handle func(context.Context, *Call, In) (any, error)) Tool {
	t.In, t.Out = reflect.TypeFor[In](), reflect.TypeFor[Out]()
	if t.Offers == nil {
		t.Offers = t.Serves
	}
	arguments := sync.OnceValue(func() []argument { return argumentsOf(t.In) })
	t.handle = func(ctx context.Context, c *Call, raw json.RawMessage) (any, error) {
		in, err := decode[In](raw, arguments())
		if err != nil {
			return nil, err
		}
		return handle(ctx, c, in)
	}
	return t
}

// Annotations returns the four hints, all computed from the class.
func (t Tool) Annotations() mcp.ToolAnnotation {
	return mcp.ToolAnnotation{
		ReadOnlyHint:    new(t.Class == policy.Read),
		DestructiveHint: new(t.Class != policy.Read && t.Class != policy.Mint),
		IdempotentHint:  new(t.Class != policy.Mint && t.Class != policy.Rotate),
		OpenWorldHint:   new(!t.ClosedWorld),
	}
}

// Env is what all calls share.
type Env struct {
	Registry    *providers.Registry
	Connections []*Connection // sorted by name
	Cursors     *Cursors
	Sinks       map[string]sink.Sink
	// Ledger is the record of operations and previews. HasLedger reports whether one
	// exists: a call that only looks at the record does not make it.
	Ledger    *ledger.Ledger
	HasLedger func() bool
	// Escrow keeps new secrets until a sink holds them, and EscrowRetention is how long
	// it keeps them where a sink cannot be read back.
	Escrow          *sink.Escrow
	EscrowRetention time.Duration
	// Approval is when a person must agree. Stdio says that the caller is on standard
	// input and output, ApproveCommand how the operator approves a preview,
	// ApprovedOverHTTP that some caller over HTTP may, and AnswerTime how long a person
	// may think; 0: two minutes.
	Approval         policy.HumanApproval
	Stdio            bool
	ApproveCommand   string
	ApprovedOverHTTP bool
	AnswerTime       time.Duration
	// FingerprintKey reads the key of the fingerprints of secrets that results show.
	FingerprintKey func(size int) ([]byte, error)
	ReadOnly       bool
	// Setup says what to set where no connection is configured.
	Setup []string
	Log   *slog.Logger
	// Telemetry measures the calls.
	Telemetry *telemetry.Telemetry
	Now       func() time.Time
	// VendorTime bounds one vendor call. What was sent when the server stops has as
	// long to be answered.
	VendorTime time.Duration
	// Work counts what is under way. Once it stops, a change stops before its next
	// target.
	Work *Tracker
	// OnFirstClient is called once, in the background, after a client was answered; nil:
	// nothing is.
	OnFirstClient func(ctx context.Context)
	// SessionDone returns a channel that is closed when the call's session ends.
	SessionDone func(ctx context.Context) <-chan struct{}
}

// Connection is a configured connection with what the operator said of it.
type Connection struct {
	*providers.Connection
	Policy        policy.Policy
	Sink          string // name of the default sink, empty where there is none
	OrgWideRevoke bool
}

// Call is one call of a tool.
type Call struct {
	*Env
	Tool      Tool
	Principal auth.Principal
	request   mcp.CallToolRequest
	server    *server.MCPServer
	yes       approval
	shown     time.Time    // when what is carried out was previewed
	open      []*operation // begun and not ended
}

// Offered returns the tools that at least one connection can serve and policy
// allows, read tools only where the server is read-only.
func Offered(env *Env) []Tool {
	return slices.DeleteFunc(All(), func(t Tool) bool {
		if env.ReadOnly && t.Class != policy.Read {
			return true
		}
		return t.Serves != nil && len(env.serving(t)) == 0
	})
}

// serving returns the connections on which the tool works and policy allows it.
func (e *Env) serving(t Tool) []*Connection {
	return slices.DeleteFunc(slices.Clone(e.Connections), func(c *Connection) bool {
		return !t.Serves(c) || !t.allowedBy(c.Policy)
	})
}

// serving returns the connections on which the tool works for this caller.
func (c *Call) serving(t Tool) []*Connection { return c.servingTo(c.Principal, t) }

func (e *Env) servingTo(p auth.Principal, t Tool) []*Connection {
	return slices.DeleteFunc(e.serving(t), func(c *Connection) bool { return !t.allowedTo(p, c.Name) })
}

// visible returns the connections that the caller may know of.
func (c *Call) visible() []*Connection {
	return slices.DeleteFunc(slices.Clone(c.Connections), func(x *Connection) bool { return !c.Principal.Allows(policy.Read, x.Name) })
}

// MayUse reports whether the principal's role allows the tool on some connection.
func (e *Env) MayUse(p auth.Principal, t Tool) bool {
	if t.Serves == nil {
		return p.Allows(t.Class, "")
	}
	return len(e.servingTo(p, t)) > 0
}

func (t Tool) allowedTo(p auth.Principal, connection string) bool {
	return p.Allows(t.Class, connection) || t.OrClass != "" && p.Allows(t.OrClass, connection)
}

func (t Tool) allowedBy(p policy.Policy) bool {
	return p.Allows(t.Class) || t.OrClass != "" && p.Allows(t.OrClass)
}

// Register adds the offered tools to the MCP server.
func Register(s *server.MCPServer, env *Env) error {
	schemas, err := loadSchemas()
	if err != nil {
		return err
	}
	var offered []server.ServerTool
	for _, t := range Offered(env) {
		if !slices.Contains(policy.Classes(), t.Class) {
			return fmt.Errorf("tool %s has no class", t.Name)
		}
		definition, err := t.definition(schemas, env)
		if err != nil {
			return err
		}
		offered = append(offered, server.ServerTool{Tool: definition, Handler: t.handler(s, env)})
	}
	s.SetTools(offered...)
	return nil
}

// callTime bounds a call. What was sent to a vendor by then has its own bound.
const callTime = 10 * time.Minute

// handler adapts a tool to the MCP library: every error becomes a tool result,
// and so does a panic.
func (t Tool) handler(s *server.MCPServer, env *Env) server.ToolHandlerFunc {
	return func(ctx context.Context, request mcp.CallToolRequest) (result *mcp.CallToolResult, _ error) {
		defer func() {
			if r := recover(); r != nil {
				// The panic's value may hold anything; only its place is logged.
				env.Log.Error("tool panicked", "tool", t.Name, "stack", string(debug.Stack()))
				result = ErrorResult(ctx, env.Log, t.Name, errors.New("panic"))
			}
		}()
		defer env.Work.Begin()()
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		defer env.Work.OnAbort(cancel)()
		principal, ok := auth.PrincipalFrom(ctx)
		if !ok {
			principal = auth.Local()
		}
		call := &Call{Env: env, Tool: t, Principal: principal, request: request, server: s}
		defer call.abandon(ctx)
		out, err := call.handle(ctx, rawArguments(request))
		if err != nil {
			return ErrorResult(ctx, env.Log, t.Name, err), nil
		}
		telemetry.CallFrom(ctx).Ended(outcomeOf(out))
		if asking, ok := out.(*mcp.CallToolResult); ok {
			return asking, nil
		}
		return structuredResult(ctx, env.Log, t.Name, out), nil
	}
}

// changed is a result with a status, which is one of the constants of its tool.
type changed interface{ status() string }

// outcomeOf is what a call came to, where it did not fail.
func outcomeOf(out any) string {
	switch out := out.(type) {
	case *mcp.CallToolResult:
		return telemetry.OutcomeAsked
	case changed:
		return cmp.Or(out.status(), telemetry.OutcomeOK)
	default:
		return telemetry.OutcomeOK
	}
}

// roleAllows reports whether the caller's role allows the tool anywhere, whatever policy
// says.
func (c *Call) roleAllows(t Tool) bool {
	if t.Serves == nil || len(c.Connections) == 0 {
		return c.Principal.Allows(policy.Read, "")
	}
	return slices.ContainsFunc(c.Connections, func(x *Connection) bool { return t.allowedTo(c.Principal, x.Name) })
}

// nextRole does not say "the operator", which is a role too.
const nextRole = "ask whoever runs this server for another role"

// handle carries the call out, if the caller's role allows the tool at all.
func (c *Call) handle(ctx context.Context, raw json.RawMessage) (any, error) {
	if !c.roleAllows(c.Tool) {
		return nil, c.roleRefused("", nil)
	}
	return c.Tool.handle(ctx, c, raw)
}

func rawArguments(request mcp.CallToolRequest) json.RawMessage {
	switch arguments := request.GetRawArguments().(type) {
	case nil:
		return nil
	case json.RawMessage:
		return arguments
	default:
		data, err := json.Marshal(arguments)
		if err != nil {
			return json.RawMessage("[]") // not an object: refused by decode
		}
		return data
	}
}

// structuredResult gives a result as structured content and as text. The library
// writes a struct faster than it copies JSON, which it checks letter by letter.
func structuredResult(ctx context.Context, log *slog.Logger, tool string, out any) *mcp.CallToolResult {
	text, err := compact(out)
	if err != nil {
		return ErrorResult(ctx, log, tool, fmt.Errorf("result as JSON: %w", err))
	}
	return &mcp.CallToolResult{
		Content:           []mcp.Content{mcp.TextContent{Type: "text", Text: text}},
		StructuredContent: out,
	}
}

// compact is JSON as a model reads it best: one line, and no \u003c for <.
func compact(v any) (string, error) {
	var b strings.Builder
	if err := writeCompact(&b, v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// writeCompact writes compact JSON and a newline.
func writeCompact(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// connection returns the named connection if the tool works on it.
func (c *Call) connection(ctx context.Context, name string) (*Connection, error) {
	serving := c.serving(c.Tool)
	var names []string
	for _, connection := range serving {
		if connection.Name == name {
			telemetry.CallFrom(ctx).On(name, connection.Provider.Name())
			return connection, nil
		}
		names = append(names, connection.Name)
	}
	for _, connection := range c.visible() {
		if connection.Name != name {
			continue
		}
		if !c.Tool.Serves(connection) {
			return nil, c.notOffered(connection, names)
		}
		if !c.Tool.allowedTo(c.Principal, name) {
			return nil, c.roleRefused(name, names)
		}
		return nil, &Problem{
			Code: "policy_refused", Valid: names,
			Message: fmt.Sprintf("policy does not allow %s on connection %s: connections.%s.allow lacks %q", c.Tool.Name, name, name, c.Tool.Class),
			Next:    "ask the operator",
		}
	}
	return nil, &Problem{Code: "unknown_connection", Message: fmt.Sprintf("there is no connection %q", clean(name)), Valid: names, Next: "choose one of valid"}
}

// roleRefused refuses what the caller's role does not allow on the connection, or on none: "".
func (c *Call) roleRefused(connection string, others []string) error {
	role := string(c.Principal.Role)
	message := fmt.Sprintf("the role %s may not use %s", role, c.Tool.Name)
	there := string(c.Principal.RoleOn(connection))
	switch {
	case connection != "" && there != role:
		message = fmt.Sprintf("the role %s is narrowed to %s on connection %s, and may not use %s there", role, there, connection, c.Tool.Name)
	case connection != "":
		message += " on connection " + connection
	case c.Tool.Serves != nil:
		message += " on any connection"
	}
	return &Problem{Code: "role_refused", Valid: others, Message: message, Next: nextRole}
}

// notOffered says what the vendor behind a connection can do instead.
func (c *Call) notOffered(connection *Connection, others []string) error {
	p := &Problem{
		Code: string(providers.CodeNotOffered), Valid: others,
		Message: fmt.Sprintf("%s cannot work on connection %s: %s offers no such operation", c.Tool.Name, connection.Name, connection.Provider.Name()),
		Next:    "what works there: " + joinWords(c.capabilities(connection)),
	}
	return p
}

// capabilities names what the tools can do on a connection.
func (c *Call) capabilities(connection *Connection) []string {
	var names []string
	for _, t := range All() {
		allowed := connection.Policy.Allows(t.Class) && c.Principal.Allows(t.Class, connection.Name) && (!c.ReadOnly || t.Class == policy.Read)
		if t.Capability != "" && t.Offers(connection) && allowed {
			names = append(names, t.Capability)
		}
	}
	return names
}
