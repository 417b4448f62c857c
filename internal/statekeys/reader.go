package statekeys

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/tokenreeve/tokenreeve/internal/privatefile"
)

// Reader reads the keys of a purpose, size bytes each, when they are needed: the present one first,
// then those with which something may have been made before.
type Reader func(p Purpose, size int) ([][]byte, error)

// All is for who takes back what was made with an earlier key.
func (read Reader) All(p Purpose) func(size int) ([][]byte, error) {
	return func(size int) ([][]byte, error) { return read(p, size) }
}

// Present is for who only makes.
func (read Reader) Present(p Purpose) func(size int) ([]byte, error) {
	return func(size int) ([]byte, error) {
		keys, err := read(p, size)
		if err != nil {
			return nil, err
		}
		return keys[0], nil
	}
}

// Reader derives keys from those of the source, which bounds its own time.
func (s *Source) Reader() Reader {
	return func(p Purpose, size int) ([][]byte, error) {
		keys, err := s.Keys(context.Background())
		if err != nil {
			return nil, err
		}
		return keys.Derive(p, size)
	}
}

// Files keeps one random key for each purpose in dir, which is made with mode 0700 at the first need.
func Files(dir string) Reader {
	var mu sync.Mutex
	return func(p Purpose, size int) ([][]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if err := privatefile.EnsureDir(dir); err != nil {
			return nil, err
		}
		key, err := privatefile.ReadOrCreateKey(filepath.Join(dir, string(p)+".key"), size)
		if err != nil {
			return nil, err
		}
		return [][]byte{key}, nil
	}
}
