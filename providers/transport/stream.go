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
		a, response, err := c.exchange(ctx, req, false)
		if err != nil {
			yield(zero, err)
			return
		}
		defer a.abort()
		a.timer.Stop() // a stream may last; from here on only its silence is limited
		guarded := &guardedReader{r: a.response.Body, silence: c.options.Timeout, stop: a.timeOut}
		if err := decodeArray(guarded, func(element T) bool { return yield(element, nil) }); err != nil {
			a.fail(err)
			yield(zero, c.brokenStream(ctx, a, req, response, err))
		}
	}
}

// brokenStream tells the caller's own end of a stream, and one that fell silent,
// from an answer that broke off.
func (c *Client) brokenStream(ctx context.Context, a *attempt, req Request, response Response, err error) error {
	switch {
	case ctx.Err() != nil:
		return c.cancelled(ctx.Err())
	case a.ctx.Err() != nil:
		return c.timedOut(context.Cause(a.ctx))
	default:
		return c.brokenAnswer(req, response, "the list cannot be read to its end: "+err.Error(), err)
	}
}

// decodeArray calls each for every element until it returns false. Its errors
// hold no text of the body.
func decodeArray[T any](r *guardedReader, each func(T) bool) error {
	decoder := json.NewDecoder(r)
	r.left = maxStreamElement
	if token, err := decoder.Token(); err != nil || token != json.Delim('[') {
		return errors.New("not a JSON array")
	}
	for decoder.More() {
		r.left = maxStreamElement
		begin := decoder.InputOffset()
		var element T
		if err := decoder.Decode(&element); err != nil {
			return fault(err)
		}
		if decoder.InputOffset()-begin > maxStreamElement {
			return errLongElement // a part of it had been read before
		}
		if !each(element) {
			return nil
		}
	}
	if _, err := decoder.Token(); err != nil {
		return errors.New("the array has no end")
	}
	// Read up to the end of the body: only then is the answer whole, and its
	// connection can be used again.
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the array is not all of the answer")
	}
	return nil
}

// guardedReader ends a stream that stays silent for too long, and refuses to read
// more than left bytes for one element.
type guardedReader struct {
	r       io.Reader
	silence time.Duration
	stop    func()
	left    int
}

func (g *guardedReader) Read(p []byte) (int, error) {
	if g.left <= 0 {
		return 0, errLongElement
	}
	timer := time.AfterFunc(g.silence, g.stop)
	defer timer.Stop()
	n, err := g.r.Read(p[:min(len(p), g.left)])
	g.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		err = errBrokenOff
	}
	return n, err
}

var (
	errLongElement = errors.New("an element is longer than 1 MiB")
	errBrokenOff   = errors.New("it broke off")
)

// fault returns the reason why an element cannot be decoded.
func fault(err error) error {
	if errors.Is(err, errLongElement) || errors.Is(err, errBrokenOff) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errBrokenOff
	}
	return jsonFault(err)
}
