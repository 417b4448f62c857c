package postgres

import (
	"sync"
	"time"
)

// clock tells how far the server's clock is ahead of this machine's, from what passes between them
// anyway. The clocks of replicas may differ; what one writes for all is by the server's.
type clock struct {
	now func() time.Time // this machine's

	mu    sync.Mutex
	ahead time.Duration
}

// note takes what the server's clock showed at some moment since sent, and until now. What is known
// already stays as far as it agrees, so that answers which took long take nothing away.
func (c *clock) note(sent, server time.Time) {
	received := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	least, most := server.Sub(received.Round(0)), server.Sub(sent.Round(0)) // without this process's monotonic clock
	c.ahead = min(max(c.ahead, least), most)
}

// Ahead returns how far the server's clock is ahead of this machine's, as far as is known; 0 where they
// agree, or before the first connection.
func (db *DB) Ahead() time.Duration {
	db.clock.mu.Lock()
	defer db.clock.mu.Unlock()
	return db.clock.ahead
}
