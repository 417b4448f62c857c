package telemetry

import "runtime"

// usage is what the operating system tells of the process; negative: it does not.
type usage struct {
	cpu      float64 // seconds
	resident float64 // bytes
	files    float64 // that are open
}

// process tells of the process and the build, by the names that Prometheus's own libraries use.
func (t *Telemetry) process() []Reading {
	one := func(kind Kind, name, help string, value float64) Reading {
		r := Reading{Family: Family{Name: name, Kind: kind, Help: help}}
		if value >= 0 {
			r.Samples = []Sample{{Value: value}}
		}
		return r
	}
	used := usageNow()
	var memory runtime.MemStats // runtime/metrics would cost every start its initialisation
	runtime.ReadMemStats(&memory)
	return []Reading{
		{
			Family:  Family{"tokenreeve_build_info", Gauge, []string{"version", "goversion"}, "Always 1; the labels tell which build runs."},
			Samples: []Sample{{Labels: []string{t.version, runtime.Version()}, Value: 1}},
		},
		one(Gauge, "process_start_time_seconds", "When the process started, in seconds since 1970.", float64(t.metrics.began.UnixMilli())/1000),
		one(Counter, "process_cpu_seconds_total", "Processor time that the process used.", used.cpu),
		one(Gauge, "process_resident_memory_bytes", "Memory of the process that is resident (Linux).", used.resident),
		one(Gauge, "process_open_fds", "Files and connections that are open (Linux).", used.files),
		one(Gauge, "go_goroutines", "Goroutines.", float64(runtime.NumGoroutine())),
		one(Gauge, "go_memstats_heap_alloc_bytes", "Memory of objects on Go's heap.", float64(memory.HeapAlloc)),
		one(Gauge, "go_memstats_sys_bytes", "Memory that Go's runtime took from the system.", float64(memory.Sys)),
	}
}
