package ledger_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenreeve/tokenreeve/internal/ledger"
	"github.com/tokenreeve/tokenreeve/internal/postgres/postgrestest"
)

// FuzzAltered changes one byte of a chain of entries, made of any text, and wants the change found.
func FuzzAltered(f *testing.F) {
	f.Add("unused", "n\u00f6te <&> \u2028", uint(0), byte(1))
	f.Add("\xff\x00", `"}`, uint(700), byte(0x20))
	f.Add("a\nb", "", uint(1<<20), byte(0x80))
	l, err := ledger.Open(f.Context(), f.TempDir()+"/state/ledger.db", ledger.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	f.Fuzz(func(t *testing.T, reason, note string, at uint, flip byte) {
		_, _, err := l.Record(t.Context(), "", intent("t", func(i *ledger.Intent) { i.Reason, i.Targets[0].Name = reason, note }),
			ledger.Result{Outcome: ledger.Done, Details: ledger.Details{Note: note}})
		must(t, err)
		page, err := l.List(t.Context(), ledger.Query{Limit: 1})
		must(t, err)
		entries, err := l.History(t.Context(), page.Operations[0].ID)
		must(t, err)
		// A chain of its own, of these two entries.
		var out bytes.Buffer
		last := strings.Repeat("0", 64)
		for n, e := range entries {
			e.Seq, e.Prev = int64(n+1), last
			e.Hash = e.Digest()
			last = e.Hash
			text, err := e.MarshalJSON()
			must(t, err)
			out.Write(append(text, '\n'))
		}
		intact, err := ledger.VerifyExport(bytes.NewReader(out.Bytes()), last)
		must(t, err)
		if !intact.OK() {
			t.Fatalf("%s\n%s", problems(&intact), out.Bytes())
		}
		if flip == 0 {
			return
		}
		data := out.Bytes()
		data[at%uint(len(data))] ^= flip
		report, err := ledger.VerifyExport(bytes.NewReader(data), "")
		must(t, err)
		if report.OK() {
			t.Fatalf("byte %d of\n%s\nwas altered, and it is not found", at%uint(len(data)), data)
		}
	})
}

// FuzzDigest moves text between the fields of an entry: the digest must tell them apart.
func FuzzDigest(f *testing.F) {
	f.Add("o", "k", `{}`, "o", "k", `{ }`)
	f.Fuzz(func(t *testing.T, o1, k1, b1, o2, k2, b2 string) {
		if strings.Contains(o1+k1+b1+o2+k2+b2, "\n") || o1 == o2 && k1 == k2 && b1 == b2 {
			t.Skip("a line feed in a field is refused by itself")
		}
		at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
		first := ledger.Entry{Seq: 1, Operation: o1, Kind: k1, Time: at, Body: []byte(b1)}
		second := ledger.Entry{Seq: 1, Operation: o2, Kind: k2, Time: at, Body: []byte(b2)}
		if first.Digest() == second.Digest() {
			t.Errorf("%+v and %+v have one digest", first, second)
		}
	})
}

// BenchmarkBeginFinish is a change as the ledger sees it, by one caller and by many at once.
func BenchmarkBeginFinish(b *testing.B) {
	operation := func(b *testing.B, l *ledger.Ledger, token string) {
		s, err := l.Begin(b.Context(), "", intent(token))
		if err == nil {
			err = s.Finish(b.Context(), ledger.Result{Outcome: ledger.Done})
		}
		if err != nil {
			b.Error(err)
		}
	}
	for name, path := range map[string]func() string{
		"sqlite":   func() string { return b.TempDir() + "/state/ledger.db" },
		"postgres": func() string { return postgrestest.New(b) },
	} {
		b.Run(name, func(b *testing.B) {
			l, end := connect(path(), ledger.Options{Patience: time.Minute})
			b.Cleanup(func() { _ = end() })
			if err := l.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.Run("alone", func(b *testing.B) {
				for b.Loop() {
					operation(b, l, "t")
				}
			})
			b.Run("at once", func(b *testing.B) {
				var callers atomic.Int64
				b.SetParallelism(16)
				b.RunParallel(func(pb *testing.PB) {
					token := fmt.Sprint("t", callers.Add(1))
					for pb.Next() {
						operation(b, l, token)
					}
				})
			})
		})
	}
}

func BenchmarkPeek(b *testing.B) {
	l := benchLedger(b)
	_, code, err := l.OpenPreview(b.Context(), ledger.Preview{Principal: "local", Tool: "x", Arguments: []byte(previewed), Plan: []byte(`{}`)})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.PeekPreview(b.Context(), code, "local", "x", []byte(previewed)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	l := benchLedger(b)
	for n := range 1000 {
		if _, _, err := l.Record(b.Context(), "", intent(fmt.Sprint("t", n)), ledger.Result{Outcome: ledger.Done}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if report, err := l.Verify(b.Context(), ""); err != nil || !report.OK() {
			b.Fatal(report, err)
		}
	}
}

// BenchmarkOpen is the first call of a process on a ledger that exists.
func BenchmarkOpen(b *testing.B) {
	path := b.TempDir() + "/state/ledger.db"
	for b.Loop() {
		l, err := ledger.Open(b.Context(), path, ledger.Options{})
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func benchLedger(b *testing.B) *ledger.Ledger {
	b.Helper()
	l, err := ledger.Open(b.Context(), b.TempDir()+"/state/ledger.db", ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// BenchmarkOpenPreview opens one more where as many large ones as may be are open already.
func BenchmarkOpenPreview(b *testing.B) {
	l := benchLedger(b)
	plan := []byte(`"` + strings.Repeat("x", 50_000) + `"`)
	open := func() {
		if _, _, err := l.OpenPreview(b.Context(), ledger.Preview{Principal: "local", Tool: "x", Arguments: []byte(previewed), Plan: plan}); err != nil {
			b.Fatal(err)
		}
	}
	for range 512 {
		open()
	}
	for b.Loop() {
		open()
	}
}

// BenchmarkFull is what a caller does on a ledger that holds much of the same principal.
func BenchmarkFull(b *testing.B) {
	l := benchLedger(b)
	for n := range 10_000 {
		if _, _, err := l.Record(b.Context(), "", intent(fmt.Sprint("t", n)), ledger.Result{Outcome: ledger.Refused}); err != nil {
			b.Fatal(err)
		}
	}
	limit := ledger.Limit{Count: ledger.Count{Principal: "local", Classes: []ledger.Class{"revoke"}}, Most: 1 << 30}
	b.Run("begin under a limit", func(b *testing.B) {
		for b.Loop() {
			s, err := l.Begin(b.Context(), "", intent("t"), limit)
			if err == nil {
				err = s.Finish(b.Context(), ledger.Result{Outcome: ledger.Failed})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			if page, err := l.List(b.Context(), ledger.Query{Principal: "local"}); err != nil || page.Next == 0 {
				b.Fatal(page, err)
			}
		}
	})
}
