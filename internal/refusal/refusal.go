// Package refusal is how every HTTP request is refused: with a code for programs and a message for people.
package refusal

import (
	"encoding/json"
	"net/http"
)

// Write answers with the status and {"code", "message"} as JSON. Neither may hold anything of the request
// or of a token. Headers such as Retry-After are set before.
func Write(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code, "message": message}) // fails where the client is gone
}
