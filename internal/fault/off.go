//go:build !faultpoints

// Package fault kills the process at a named point, so that tests can show what survives. Only a
// build with the tag faultpoints can: in every other one, Point does nothing.
package fault

import "time"

// Point is where a test may kill the process. The name is the step that was just completed.
func Point(string) {}

// Lease is how long a process that is gone keeps its operations; 0: as in service.
func Lease() time.Duration { return 0 }
