package tools

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/policy"
	"github.com/tokenreeve/tokenreeve/internal/telemetry"
	"github.com/tokenreeve/tokenreeve/providers"
)

// Problem is an error that the caller can act on. Its JSON is what the model
// reads.
type Problem struct {
	Code    string   `json:"code"`            // stable
	Message string   `json:"message"`         // what was wrong
	Valid   []string `json:"valid,omitempty"` // what would be right
	Next    string   `json:"next,omitempty"`  // what to do
	// Replayed says that an earlier call ended so and that nothing was done now.
	Replayed bool `json:"replayed,omitempty"`
}

// Error returns the message and the next step.
func (p *Problem) Error() string {
	if p.Next == "" {
		return p.Message
	}
	return p.Message + "; " + p.Next
}

// problemOf turns any error of a call into one that the caller can act on.
func problemOf(err error) *Problem {
	var problem *Problem
	if errors.As(err, &problem) {
		// Keep what a wrapper put in front, such as the argument's name.
		if prefix, ok := strings.CutSuffix(err.Error(), problem.Error()); ok && prefix != "" {
			return &Problem{Code: problem.Code, Message: prefix + problem.Message, Valid: problem.Valid, Next: problem.Next}
		}
		return problem
	}
	var vendor *providers.Error
	if errors.As(err, &vendor) {
		message := vendor.Error()
		if prefix, ok := strings.CutSuffix(err.Error(), vendor.Error()); ok {
			message = prefix + message
		}
		return &Problem{Code: string(vendor.Code), Message: message, Next: vendor.Next}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Problem{Code: string(providers.CodeTimeout), Message: "the call took too long", Next: "narrow it down, or try again later"}
	case errors.Is(err, context.Canceled):
		return &Problem{Code: string(providers.CodeCancelled), Message: "the call was cancelled"}
	}
	return nil
}

// sentence is what a caller may read of an error.
func sentence(err error) string {
	if p := problemOf(err); p != nil {
		return p.Message
	}
	return "the server failed"
}

// ErrorResult renders an error as a tool result without structured content: the
// official SDK validates that against the output schema even then. The call that ctx
// carries has failed with its code.
func ErrorResult(ctx context.Context, log *slog.Logger, tool string, err error) *mcp.CallToolResult {
	problem := problemOf(err)
	if problem == nil {
		log.Error("tool failed", "tool", tool, "error", err)
		problem = &Problem{Code: "internal_error", Message: "the server failed", Next: "ask the operator to look into the server's log"}
	}
	telemetry.CallFrom(ctx).Failed(problem.Code)
	text, err := compact(problem)
	if err != nil {
		text = `{"code":"internal_error","message":"the error cannot be written as JSON"}`
	}
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{mcp.TextContent{Type: "text", Text: text}}}
}

// whyNotOffered names the rule that keeps a tool from being offered, and where it is set.
func (e *Env) whyNotOffered(t Tool) string {
	if e.ReadOnly && t.Class != policy.Read {
		return "the server is read-only (--read-only, TOKENREEVE_READ_ONLY or read_only in the configuration)"
	}
	var rules []string
	for _, c := range e.Connections {
		if t.Serves(c) {
			rules = append(rules, fmt.Sprintf("connections.%s.allow lacks %q", c.Name, t.Class))
		}
	}
	if len(rules) == 0 {
		return "no connection can serve it"
	}
	return joinWords(rules)
}

// UnknownTool is the problem of a call of a tool that is not offered: it does not
// exist, no connection can serve it, or policy forbids it.
func UnknownTool(name string, env *Env, offered []Tool) *Problem {
	p := &Problem{Code: "unknown_tool", Message: "there is no tool " + quoted(name)}
	for _, t := range offered {
		p.Valid = append(p.Valid, t.Name)
	}
	for _, t := range All() {
		if t.Name == name {
			p.Message = "tool " + t.Name + " is not offered: " + env.whyNotOffered(t)
			p.Next = "call list_connections to see what can be done"
			return p
		}
	}
	if close := nearest(name, p.Valid); close != "" {
		p.Next = "did you mean " + close + "?"
	}
	return p
}
