package tools_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
)

const deliver = "deliver_secret"

// recorded returns what get_operation tells.
func (h *harness) recorded(id string) result {
	h.t.Helper()
	return h.call("get_operation", args{"operation_id": id}).ok()
}

// newest returns what get_operation tells of the newest operation.
func (h *harness) newest() result {
	h.t.Helper()
	listed, _ := h.call("list_operations", args{"limit": 1}).ok().get("operations").([]any)
	if len(listed) == 0 {
		h.t.Fatal("nothing is on record")
	}
	id, _ := listed[0].(map[string]any)["operation_id"].(string)
	return h.recorded(id)
}

// inEscrow returns the operations whose secrets are in escrow.
func (h *harness) inEscrow() []string {
	h.t.Helper()
	entries, err := h.env.Escrow.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.OperationID)
	}
	return ids
}

// breakEscrow puts a file in the place of the escrow's directory, and mendEscrow puts
// that back.
func (h *harness) breakEscrow() {
	dir := h.escrowDir()
	if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		h.t.Error(err)
	}
}

func (h *harness) mendEscrow() {
	h.t.Helper()
	dir := h.escrowDir()
	if _, err := os.Lstat(dir + ".away"); errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) escrowDir() string { return filepath.Join(h.setup.stateDir, "escrow") }

// spoiling is a hook that does something before each request with the method.
func spoiling(method string, do func()) func(*http.Request) {
	return func(r *http.Request) {
		if r.Method == method {
			do()
		}
	}
}
