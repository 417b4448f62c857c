package providers_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tokenreeve/tokenreeve/providers"
)

func TestError(t *testing.T) {
	t.Parallel()
	for text, err := range map[string]*providers.Error{
		"vendor: it failed":                    {Provider: "vendor", Message: "it failed", Next: "n", RequestID: "r", VendorCode: "no status"},
		"vendor: it failed (HTTP 403)":         {Provider: "vendor", Message: "it failed", Status: 403},
		"vendor: it failed (HTTP 403, denied)": {Provider: "vendor", Message: "it failed", Status: 403, VendorCode: "denied"},
	} {
		if err.Error() != text {
			t.Errorf("text %q, want %q", err.Error(), text)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	inner := &providers.Error{Code: providers.CodeTimeout, Err: context.DeadlineExceeded}
	for name, test := range map[string]struct {
		err  error
		want providers.Code
	}{
		"none":      {nil, ""},
		"another":   {errors.New("x"), ""},
		"plain":     {inner, providers.CodeTimeout},
		"wrapped":   {fmt.Errorf("x: %w", inner), providers.CodeTimeout},
		"joined":    {errors.Join(errors.New("x"), inner), providers.CodeTimeout},
		"the first": {&providers.Error{Code: providers.CodeRefused, Err: inner}, providers.CodeRefused},
	} {
		if got := providers.CodeOf(test.err); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if !errors.Is(inner, context.DeadlineExceeded) {
		t.Error("the cause is not unwrapped")
	}
}
