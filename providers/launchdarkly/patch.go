package launchdarkly

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/tokenreeve/tokenreeve/providers"
)

// Operation is one step of a JSON Patch (RFC 6902).
type Operation struct {
	Op    string          `json:"op"`   // add, replace, remove or test
	Path  string          `json:"path"` // one of the five members that can be changed, or an entry of a list
	Value json.RawMessage `json:"value,omitempty"`
}

// maxOperations bounds a patch; the vendor publishes no bound.
const maxOperations = 50

const (
	namePath        = "/name"
	descriptionPath = "/description"
	rolePath        = "/role"
	customRolesPath = "/customRoleIds"
	inlineRolePath  = "/inlineRole"

	validPaths = "/name, /description, /role, /customRoleIds, /inlineRole, and entries of the two lists such as /customRoleIds/0 or, to add at the end, /customRoleIds/-"
)

// ParsePatch reads a JSON Patch from the JSON text of a list of operations,
// strictly, and checks each operation. Its errors have CodeInvalidArgument.
func ParsePatch(text string) ([]Operation, error) {
	var raw []json.RawMessage
	if err := strict([]byte(text), &raw); err != nil || raw == nil {
		return nil, invalid(`patch is not a JSON list of operations; valid is for example [{"op":"replace","path":"/role","value":"reader"}]`)
	}
	operations := make([]Operation, len(raw))
	for i, r := range raw {
		if !isObject(r) {
			return nil, invalid("patch: operation %d is not an object", i+1)
		}
		if err := strict(r, &operations[i]); err != nil {
			return nil, invalid("patch: operation %d: %s; the members are op, path and value", i+1, jsonFault(err))
		}
	}
	return checkPatch(operations)
}

// checkPatch returns the operations with their values written anew, so that what
// was checked is what is sent.
func checkPatch(operations []Operation) ([]Operation, error) {
	if len(operations) == 0 || len(operations) > maxOperations {
		return nil, invalid("patch holds %d operations; valid is 1 to %d", len(operations), maxOperations)
	}
	checked := make([]Operation, len(operations))
	for i, o := range operations {
		var err error
		if checked[i], err = o.check(); err != nil {
			var e *providers.Error
			if errors.As(err, &e) {
				err = invalid("patch: operation %d: %s", i+1, e.Message)
			}
			return nil, err
		}
	}
	return checked, nil
}

func (o Operation) check() (Operation, error) {
	switch o.Op {
	case "add", "replace", "remove", "test":
	default:
		return o, invalid("op is %q; valid are add, replace, remove and test", quotable(o.Op))
	}
	member, entry := splitPath(o.Path)
	if member == "" || entry == "-" && o.Op != "add" {
		return o, invalid("path of %s is %q; valid are %s", o.Op, quotable(o.Path), validPaths)
	}
	if (o.Op == "remove") != (len(o.Value) == 0) {
		return o, invalid("%s %s: a value is needed by add, replace and test, and not taken by remove", o.Op, o.Path)
	}
	var err error
	switch o.Op {
	case "remove":
	case "test":
		o.Value, err = compact(o.Value)
	default:
		o.Value, err = checkValue(member, entry != "", o.Value)
	}
	return o, err
}

// splitPath returns the member and, for a list, the entry that path names; or ""
// where no such path can be patched.
func splitPath(path string) (member, entry string) {
	switch path {
	case namePath, descriptionPath, rolePath, customRolesPath, inlineRolePath:
		return path, ""
	}
	for _, list := range [...]string{customRolesPath, inlineRolePath} {
		if entry, found := strings.CutPrefix(path, list+"/"); found && isEntry(entry) {
			return list, entry
		}
	}
	return "", ""
}

// isEntry reports whether s is "-" or an index without leading zeros.
func isEntry(s string) bool {
	if s == "-" || s == "0" {
		return true
	}
	return s != "" && len(s) <= 3 && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

// checkValue checks what is written into a member, or into an entry of a list.
func checkValue(member string, isEntry bool, value json.RawMessage) (json.RawMessage, error) {
	if isEntry {
		value = bytes.Join([][]byte{[]byte("["), value, []byte("]")}, nil)
	}
	typed, err := typedValue(member, value)
	if err != nil {
		return nil, err
	}
	written, err := json.Marshal(typed)
	if err != nil {
		return nil, invalid("the value of %s cannot be written as JSON", member)
	}
	if isEntry {
		if entries, ok := entriesOf(written); !ok || len(entries) != 1 {
			return nil, invalid("the value of an entry of %s is not one entry", member)
		}
		written = written[1 : len(written)-1]
	}
	return written, nil
}

func entriesOf(list []byte) (entries []json.RawMessage, ok bool) {
	err := json.Unmarshal(list, &entries)
	return entries, err == nil
}

func typedValue(member string, value json.RawMessage) (any, error) {
	switch member {
	case customRolesPath:
		var ids []string
		if strict(value, &ids) != nil {
			return nil, invalid("the value of %s is not a list of ids of custom roles", member)
		}
		return ids, checkRoleIDs(ids)
	case inlineRolePath:
		return parseStatements("the value of "+member, value)
	}
	var text *string
	if strict(value, &text) != nil || text == nil {
		return nil, invalid("the value of %s is not a string", member)
	}
	switch member {
	case namePath:
		return *text, checkName(*text)
	case rolePath:
		return *text, checkRole(*text)
	default:
		return *text, checkDescription(*text)
	}
}

// checkRoleIDs allows ids only: in a patch the vendor does not take keys, though
// it does on create (from the vendor's own client code).
func checkRoleIDs(ids []string) error {
	return checkCustomRoles(ids, isID, "an id, 24 hex digits; in a change the vendor does not take keys")
}

func compact(value json.RawMessage) (json.RawMessage, error) {
	var out bytes.Buffer
	if json.Compact(&out, value) != nil {
		return nil, invalid("the value is not JSON")
	}
	return out.Bytes(), nil
}

// apply carries the operations out on m, as the vendor would.
func (m members) apply(operations []Operation) (members, error) {
	doc, err := json.Marshal(m)
	if err != nil {
		return members{}, failure(providers.CodeBadAnswer, "the token's record cannot be patched")
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false
	for i, o := range operations {
		text, err := json.Marshal([]Operation{o})
		if err != nil {
			return members{}, invalid("patch: operation %d cannot be written as JSON", i+1)
		}
		step, err := jsonpatch.DecodePatch(text)
		if err == nil {
			doc, err = step.ApplyWithOptions(doc, options)
		}
		if err != nil {
			return members{}, doesNotApply(i, o, err)
		}
	}
	var result members
	if json.Unmarshal(doc, &result) != nil {
		return members{}, invalid("the patch leaves no valid record")
	}
	return result, nil
}

func doesNotApply(i int, o Operation, cause error) error {
	if errors.Is(cause, jsonpatch.ErrTestFailed) {
		e := failure(providers.CodeConflict, "operation %d: the test of %s fails: the token is not as the patch expects", i+1, o.Path)
		e.Next = "read the token and adapt the patch"
		return e
	}
	e := invalid("operation %d, %s %s, does not apply to the token as it is now: it has no such member or entry", i+1, o.Op, o.Path)
	e.Next = "read the token; to set a member that it does not have, use add"
	return e
}
