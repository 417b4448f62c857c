package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/tokenreeve/tokenreeve/internal/refusal"
)

// message is what the transports must know of a JSON-RPC message, read as the library reads it.
type message struct {
	JSONRPC string `json:"jsonrpc"`
	ID      any    `json:"id"`
	Method  string `json:"method"`
	Result  any    `json:"result"`
}

// parseMessage returns the zero message for what is none.
func parseMessage(data []byte) message {
	var m message
	if json.Unmarshal(data, &m) != nil {
		return message{}
	}
	return m
}

// isRequest reports whether the library answers it, under its id.
func (m message) isRequest() bool { return m.ID != nil && m.Method != "" && m.Result == nil }

// isNotification reports whether the library takes it without an answer.
func (m message) isNotification() bool { return m.ID == nil && m.Method != "" }

// noBatches says what to do instead. Only the revision 2025-03-26 had batches, and hardly any client.
const noBatches = "send each message by itself, as the protocol has it since 2025-06-18"

func isBatch(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) }

// parsePosted returns a message, and whether it is of a protocol without sessions, as the library
// decides it. It reads all messages but odd ones once.
func parsePosted(h http.Header, data []byte) (message, bool) {
	if mcp.IsModernProtocol(h.Get(mcp.HeaderProtocolVersion)) {
		return parseMessage(data), true
	}
	var m struct {
		message
		versioned
	}
	if json.Unmarshal(data, &m) != nil { // what is wrong with one half may be nothing to the other
		var v versioned
		return parseMessage(data), json.Unmarshal(data, &v) == nil && v.isModern()
	}
	return m.message, m.isModern()
}

// versioned is the part of a message that tells its protocol.
type versioned struct {
	Params struct {
		Meta *mcp.Meta `json:"_meta"`
	} `json:"params"`
}

func (v versioned) isModern() bool { return mcp.IsModernProtocol(v.Params.Meta.ProtocolVersion()) }

// readMessage reads a request's body, bounded in type, size and time, or answers the request. A
// browser cannot send JSON to another origin without asking first.
func readMessage(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		refusal.Write(w, http.StatusUnsupportedMediaType, "not_json", "Content-Type must be application/json")
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		w.Header().Set("Connection", "close")
		refusal.Write(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("a message has at most %d bytes", maxRequest))
		return nil, false
	case err != nil:
		w.Header().Set("Connection", "close")
		refusal.Write(w, http.StatusBadRequest, "broken_off", "the message broke off")
		return nil, false
	}
	return body, true
}
