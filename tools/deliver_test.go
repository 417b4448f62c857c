package tools_test

import (
	"strings"
	"testing"
)

// TestKeyThatLooksLikeACredential: what would be shown back and kept on record is refused
// before anything is sent, and not repeated.
func TestKeyThatLooksLikeACredential(t *testing.T) {
	t.Parallel()
	h := start(t, setup{})
	for _, secret := range []string{"0f1e2d3c4b5a69788796a5b4c3d2856f", "api-5ec2e75a-ab12-4d3a-9e52-c0ffee5ec2e7"} {
		for _, key := range []string{secret, "ci/" + secret} {
			h.untouched(func() {
				r := h.call(createLD, args{"connection": launchDarklyName, "name": "n", "role": "reader", "deliver_to": sinkName + "/" + key}).fails("invalid_argument")
				if strings.Contains(r.text, secret) || strings.Contains(h.log.String(), secret) {
					t.Errorf("%s shows the key", r.text)
				}
			})
		}
	}
}
