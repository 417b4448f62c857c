package transport

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

// Stream sends a request whose answer is a JSON array of any length and yields
// its elements as they arrive, so that a long listing never sits in memory. It
// repeats only up to the first byte; a stream that breaks later yields an error
// last.
func Stream[T any](ctx context.Context, c *Client, req Request) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		reading, cancel := context.WithCancel(ctx)
		defer cancel()
		response, body, err := c.exchange(reading, req, false)
		if err != nil {
			yield(zero, err)
			return
		}
		defer body.Close()
		guarded := &guardedReader{r: body, silence: c.options.Timeout, stop: cancel}
		if err := decodeArray(guarded, func(element T) bool { return yield(element, nil) }); err != nil {
			yield(zero, c.brokenStream(ctx, reading, req, response, err))
		}
	}
}

// brokenStream tells the caller's own end of a stream, and one that fell silent,
// from an answer that broke off.
func (c *Client) brokenStream(ctx, reading context.Context, req Request, response Response, err error) error {
	switch {
	case ctx.Err() != nil:
		return c.cancelled(ctx, ctx.Err())
	case reading.Err() != nil:
		return c.cancelled(ctx, context.DeadlineExceeded)
	default:
		return c.brokenAnswer(req, response, "the list broke off or is not a JSON array", err)
	}
}

// decodeArray calls each for every element until it returns false.
func decodeArray[T any](r *guardedReader, each func(T) bool) error {
	decoder := json.NewDecoder(r)
	r.left = maxStreamElement
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return errors.New("not a JSON array")
	}
	for decoder.More() {
		r.left = maxStreamElement
		var element T
		if err := decoder.Decode(&element); err != nil {
			return jsonFault(err)
		}
		if !each(element) {
			return nil
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errors.New("the array has no end")
	}
	return nil
}

// guardedReader ends a stream that stays silent for too long, or whose elements
// are longer than left bytes each.
type guardedReader struct {
	r       io.Reader
	silence time.Duration
	stop    func()
	left    int
}

func (g *guardedReader) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errors.New("an element is longer than 1 MiB")
	}
	timer := time.AfterFunc(g.silence, g.stop)
	defer timer.Stop()
	n, err := g.r.Read(p[:min(len(p), g.left)])
	g.left -= n
	return n, err
}
