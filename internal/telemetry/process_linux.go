package telemetry

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

func usageNow() usage {
	u := usage{cpu: -1, resident: -1, files: -1}
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.cpu = seconds(r.Utime) + seconds(r.Stime)
	}
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(data)); len(fields) > 1 {
			if pages, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				u.resident = float64(pages) * float64(os.Getpagesize())
			}
		}
	}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = float64(len(entries) - 1) // one is the directory's own
	}
	return u
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
