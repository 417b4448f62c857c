package tools_test

import "testing"

func TestSmoke(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	r := h.call("list_connections", args{}).ok()
	t.Log(r.text)
	r = h.call("list_tokens", args{"limit": 20}).ok()
	t.Log(r.text)
	r = h.call("count_tokens", nil).ok()
	t.Log(r.text)
}
