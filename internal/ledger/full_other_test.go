//go:build !unix

package ledger_test

import (
	"context"
	"errors"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
)

func fillUp(context.Context, *ledger.Ledger) error { return errors.ErrUnsupported }
