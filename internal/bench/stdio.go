package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// process is an MCP server over stdio with a client that does no more than it
// must: it should not take the time that it measures.
type process struct {
	command *exec.Cmd
	stdin   io.WriteCloser

	mu      sync.Mutex // guards what follows and writing
	lastID  int
	waiting map[int]chan reply
	ended   error
}

type reply struct {
	ID     *int            `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

var errEnded = errors.New("the server ended")

// spawn starts a server. Its environment is env and a home of its own, so that
// nothing of the machine's configuration is read.
func (b *bench) spawn(ctx context.Context, binary string, env ...string) (*process, error) {
	command := exec.CommandContext(ctx, binary)
	command.Env = append([]string{"HOME=" + b.dir, "PATH=" + os.Getenv("PATH")}, env...)
	command.Dir = b.dir
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &process{command: command, stdin: stdin, waiting: map[int]chan reply{}}
	go p.read(stdout)
	return p, nil
}

// begun spawns a server and lists its tools.
func (b *bench) begun(ctx context.Context, binary string, env ...string) (*process, json.RawMessage, error) {
	p, err := b.spawn(ctx, binary, env...)
	if err != nil {
		return nil, nil, err
	}
	_, err = p.request("initialize", map[string]any{
		"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "bench", "version": "1"},
	})
	if err == nil {
		err = p.send(map[string]any{"jsonrpc": "2.0", "method": "notifications/initialized"})
	}
	var tools json.RawMessage
	if err == nil {
		tools, err = p.request("tools/list", map[string]any{})
	}
	if err != nil {
		p.kill()
		return nil, nil, err
	}
	return p, tools, nil
}

func (p *process) read(stdout io.Reader) {
	reader := bufio.NewReaderSize(stdout, 64<<10)
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			p.end()
			return
		}
		var r reply
		if json.Unmarshal(line, &r) != nil || r.ID == nil {
			continue
		}
		p.mu.Lock()
		waiting := p.waiting[*r.ID]
		delete(p.waiting, *r.ID)
		p.mu.Unlock()
		if waiting != nil {
			waiting <- r
		}
	}
}

func (p *process) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = errEnded
	for id, waiting := range p.waiting {
		delete(p.waiting, id)
		close(waiting)
	}
}

func (p *process) send(message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err = p.stdin.Write(append(line, '\n'))
	return err
}

func (p *process) request(method string, params any) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	p.mu.Lock()
	if p.ended != nil {
		p.mu.Unlock()
		return nil, p.ended
	}
	p.lastID++
	id := p.lastID
	p.waiting[id] = answer
	p.mu.Unlock()
	if err := p.send(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params}); err != nil {
		return nil, err
	}
	r, ok := <-answer
	switch {
	case !ok:
		return nil, errEnded
	case r.Error != nil:
		return nil, fmt.Errorf("%s: %s", method, r.Error)
	default:
		return r.Result, nil
	}
}

// call calls a tool and returns its result, which must not be an error.
func (p *process) call(tool string, arguments any) (json.RawMessage, error) {
	raw, err := p.request("tools/call", map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return nil, err
	}
	var result struct {
		IsError    bool            `json:"isError"`
		Structured json.RawMessage `json:"structuredContent"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return nil, err
	}
	if result.IsError {
		return nil, fmt.Errorf("%s: %s", tool, raw)
	}
	return result.Structured, nil
}

// calls repeats a call.
func (p *process) calls(n int, tool string, arguments any) error {
	for range n {
		if _, err := p.call(tool, arguments); err != nil {
			return err
		}
	}
	return nil
}

// stop closes the server's input, waits for its end and returns its CPU time.
func (p *process) stop() (time.Duration, error) {
	_ = p.stdin.Close()
	if err := p.command.Wait(); err != nil {
		return 0, err
	}
	state := p.command.ProcessState
	return state.UserTime() + state.SystemTime(), nil
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}
