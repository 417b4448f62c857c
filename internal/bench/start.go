package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// startsPerRound is how often each server starts in a round: one start is short.
	startsPerRound = 10
	slowAnswer     = 2 * time.Second
)

// startTimes are what one server's starts took, in milliseconds.
type startTimes struct{ wall, cpu []float64 }

// start measures from spawn to the answer of tools/list, the CPU time of the
// server's whole life, and that nothing is sent to a vendor meanwhile.
func (b *bench) start(ctx context.Context) ([]result, error) {
	v, err := startVendors(ctx, world{})
	if err != nil {
		return nil, err
	}
	defer v.stop()
	slow, err := newSlowVendor()
	if err != nil {
		return nil, err
	}
	defer slow.listener.Close()
	used, err := b.recorded(ctx)
	if err != nil {
		return nil, err
	}
	var bare, fast, again, waiting startTimes
	for range b.rounds * startsPerRound {
		for _, turn := range []struct {
			times  *startTimes
			binary string
			env    []string
		}{{&bare, b.bare, nil}, {&fast, b.server, v.env()}, {&again, b.server, append(v.env(), used)}, {&waiting, b.server, slow.env(v)}} {
			if err := b.startOnce(ctx, turn.times, turn.binary, turn.env); err != nil {
				return nil, err
			}
		}
	}
	millis := func(ours, bare []float64) string {
		return fmt.Sprintf("%.1f ms; bare %.1f ms", median(ours), median(bare))
	}
	return []result{
		{Bar: "start: spawn to tools/list", Measured: ratio(fast.wall, bare.wall), Limit: 1.4, Note: millis(fast.wall, bare.wall)},
		{Bar: "start: CPU time", Measured: ratio(fast.cpu, bare.cpu), Limit: 1.4, Note: millis(fast.cpu, bare.cpu)},
		{
			Bar: fmt.Sprintf("start: with %d operations on record", recordedOperations), Measured: ratio(again.wall, bare.wall), Limit: 1.4,
			Note: millis(again.wall, bare.wall),
		},
		{
			Bar: "start: with a vendor that answers after 2 s", Measured: ratio(waiting.wall, bare.wall), Limit: 1.4,
			Note: millis(waiting.wall, bare.wall),
		},
		{Bar: "start: connections to vendors", Measured: float64(slow.connections.Load()), Limit: 0},
	}, nil
}

func (b *bench) startOnce(ctx context.Context, times *startTimes, binary string, env []string) error {
	began := time.Now()
	p, _, err := b.begun(ctx, binary, env...)
	if err != nil {
		return err
	}
	took := time.Since(began)
	cpu, err := p.stop()
	times.wall = append(times.wall, took.Seconds()*1000)
	times.cpu = append(times.cpu, cpu.Seconds()*1000)
	return err
}

// slowVendor answers nothing within two seconds, and counts who asks.
type slowVendor struct {
	listener    net.Listener
	connections atomic.Int64
}

func newSlowVendor() (*slowVendor, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the listener
	if err != nil {
		return nil, err
	}
	s := &slowVendor{listener: listener}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			time.AfterFunc(slowAnswer, func() { _ = connection.Close() })
		}
	}()
	return s, nil
}

// env is the environment of a server whose vendors are all this one.
func (s *slowVendor) env(v *vendors) []string {
	env := v.env()
	for i, variable := range env {
		if name, _, _ := strings.Cut(variable, "="); strings.HasSuffix(name, "_BASE_URL") {
			env[i] = name + "=http://" + s.listener.Addr().String()
		}
	}
	return env
}
