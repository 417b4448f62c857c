// Package confirm holds what makes a yes a yes: the arguments that a confirm code is bound to, and
// the operator's passphrase.
package confirm

import (
	"encoding/json"
	"fmt"
)

// Canonical returns the arguments as compact JSON without confirm.
func Canonical(arguments any) (json.RawMessage, error) {
	data, err := json.Marshal(arguments)
	if err != nil {
		return nil, fmt.Errorf("arguments as JSON: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("arguments as JSON: %w", err)
	}
	delete(members, "confirm")
	return json.Marshal(members)
}
