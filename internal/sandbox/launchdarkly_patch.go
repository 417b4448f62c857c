package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// patchOp is one operation of a JSON Patch (RFC 6902).
type patchOp struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// patchFailure is an answer to a patch that is well formed but cannot be applied.
type patchFailure struct {
	status        int
	code, message string
}

// parsePatch reads an array of operations, or an object with a comment and one.
func parsePatch(body []byte) ([]patchOp, error) {
	var ops []patchOp
	if decode(body, &ops) != nil {
		var commented struct {
			Comment *string   `json:"comment"`
			Patch   []patchOp `json:"patch"`
		}
		if decode(body, &commented) != nil || commented.Patch == nil {
			return nil, errors.New("invalid request body: want a JSON Patch")
		}
		ops = commented.Patch
	}
	for _, op := range ops {
		switch {
		case !slices.Contains([]string{"add", "replace", "remove", "test"}, op.Op):
			return nil, fmt.Errorf("invalid request body: operation %q is not supported", op.Op)
		case !strings.HasPrefix(op.Path, "/"):
			return nil, errors.New("invalid request body: a path must begin with a slash")
		case op.Op != "remove" && op.Value == nil:
			return nil, fmt.Errorf("invalid request body: operation %q needs a value", op.Op)
		}
	}
	return ops, nil
}

// patchable are the members of a token that a patch may touch.
type patchable struct {
	Name        string      `json:"name,omitempty"`
	Description string      `json:"description,omitempty"`
	Role        string      `json:"role,omitempty"`
	CustomRoles []string    `json:"customRoleIds,omitempty"`
	InlineRole  []Statement `json:"inlineRole,omitempty"`
}

// patched applies the operations to a copy of the token.
func (l *launchDarkly) patched(t *ldToken, ops []patchOp) (*ldToken, *patchFailure) {
	failed := &patchFailure{http.StatusUnprocessableEntity, "patch_failed", "Unprocessable entity. Could not apply patch."}
	raw, err := json.Marshal(patchable{t.name, t.description, t.role, t.customRoles, t.inlineRole})
	if err != nil {
		return nil, failed
	}
	var document any
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, failed
	}
	for _, op := range ops {
		path := strings.Split(op.Path[1:], "/")
		for i := range path {
			path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[i])
		}
		if !slices.Contains([]string{"name", "description", "role", "customRoleIds", "inlineRole"}, path[0]) {
			if l.opts.ImmutableStatus == http.StatusBadRequest {
				return nil, &patchFailure{http.StatusBadRequest, "invalid_request", "Cannot patch " + op.Path}
			}
			return nil, failed
		}
		if document, err = applyAt(document, path, op); errors.Is(err, errTestFailed) {
			return nil, l.testFailure()
		} else if err != nil {
			return nil, failed
		}
	}
	var result patchable
	if raw, err = json.Marshal(document); err != nil || json.Unmarshal(raw, &result) != nil {
		return nil, &patchFailure{http.StatusBadRequest, "invalid_request", "Invalid request body"}
	}
	changed := *t
	changed.name, changed.description, changed.role = result.Name, result.Description, result.Role
	changed.customRoles, changed.inlineRole = result.CustomRoles, result.InlineRole
	return &changed, nil
}

func (l *launchDarkly) testFailure() *patchFailure {
	if l.opts.TestFailStatus == http.StatusUnprocessableEntity {
		return &patchFailure{http.StatusUnprocessableEntity, "patch_failed", "Unprocessable entity. Could not apply patch."}
	}
	return &patchFailure{http.StatusConflict, "optimistic_locking_error", "Conflict. Optimistic lock error. Try again later."}
}

const errTestFailed = patchError("test failed")

type patchError string

func (e patchError) Error() string { return string(e) }

// applyAt applies one operation at a path below node and returns the changed node.
// A replace of a member that is not set adds it, as the vendor's own clients expect.
func applyAt(node any, path []string, op patchOp) (any, error) {
	switch node := node.(type) {
	case map[string]any:
		return applyToObject(node, path, op)
	case []any:
		return applyToArray(node, path, op)
	default:
		return nil, patchError("path leads nowhere")
	}
}

func applyToObject(node map[string]any, path []string, op patchOp) (any, error) {
	name := path[0]
	old, exists := node[name]
	if len(path) > 1 {
		if !exists {
			return nil, patchError("path leads nowhere")
		}
		changed, err := applyAt(old, path[1:], op)
		node[name] = changed
		return node, err
	}
	if op.Op == "remove" {
		if !exists {
			return nil, patchError("nothing to remove")
		}
		delete(node, name)
		return node, nil
	}
	var value any
	if err := json.Unmarshal(op.Value, &value); err != nil {
		return nil, err
	}
	if op.Op == "test" {
		if !sameValue(old, value) {
			return nil, errTestFailed
		}
		return node, nil
	}
	node[name] = value
	return node, nil
}

func applyToArray(node []any, path []string, op patchOp) (any, error) {
	index, err := strconv.Atoi(path[0])
	if path[0] == "-" && op.Op == "add" {
		index, err = len(node), nil
	}
	last := len(node) - 1
	if op.Op == "add" && len(path) == 1 {
		last = len(node)
	}
	if err != nil || index < 0 || index > last {
		return nil, patchError("no such index")
	}
	if len(path) > 1 {
		node[index], err = applyAt(node[index], path[1:], op)
		return node, err
	}
	var value any
	if op.Op != "remove" {
		if err := json.Unmarshal(op.Value, &value); err != nil {
			return nil, err
		}
	}
	switch op.Op {
	case "remove":
		return slices.Delete(node, index, index+1), nil
	case "add":
		return slices.Insert(node, index, value), nil
	case "replace":
		node[index] = value
	default:
		if !sameValue(node[index], value) {
			return nil, errTestFailed
		}
	}
	return node, nil
}

// sameValue compares decoded JSON; a member that is not set equals an empty one,
// because records show empty arrays for those.
func sameValue(x, y any) bool {
	empty := func(v any) bool {
		array, isArray := v.([]any)
		return v == nil || v == "" || (isArray && len(array) == 0)
	}
	return (empty(x) && empty(y)) || reflect.DeepEqual(x, y)
}
