//go:build faultpoints

// Package fault kills the process at a named point, so that tests can show what survives. Only a
// build with the tag faultpoints can: in every other one, Point does nothing.
package fault

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Variable names the point, or NAME#N for the Nth time that it is passed.
const Variable = "TOKENREEVE_FAULT_POINT"

// passed counts how often the named point was passed. It is per process by nature.
var passed atomic.Int64 //nolint:gochecknoglobals // a build for tests only

// Point kills the process, as nothing can be caught that SIGKILL does.
func Point(name string) {
	wanted, nth, _ := strings.Cut(os.Getenv(Variable), "#")
	if wanted != name {
		return
	}
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil {
		n = 1
	}
	if passed.Add(1) == n {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		select {} // until it is carried out
	}
}

// LeaseVariable shortens the lease of operations, so that a test need not wait for one
// whose process it killed.
const LeaseVariable = "TOKENREEVE_FAULT_LEASE"

// Lease is how long a process that is gone keeps its operations; 0: as in service.
func Lease() time.Duration {
	lease, _ := time.ParseDuration(os.Getenv(LeaseVariable)) // 0 where it is none
	return lease
}
