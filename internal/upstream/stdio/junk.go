package stdio

import (
	"log/slog"
	"sync"
	"time"
)

const (
	junkEvery = time.Minute // between two lines in the log
	junkShown = 200         // bytes of a line that are logged
	junkSeen  = 8 << 10     // bytes of a line in which secrets are looked for: one that begins where the shown part ends is whole in it
)

// junk is what servers write to stdout that is no message: banners, and what a library prints. It is counted and logged once
// a minute.
type junk struct {
	name string
	log  *slog.Logger
	mask func(string) string

	mu     sync.Mutex // guards the following
	lines  uint64     // since the start
	logged time.Time  // zero: never
	since  uint64     // what lines was then
}

// add counts a line.
func (j *junk) add(line []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines++
	now := time.Now()
	if !j.logged.IsZero() && now.Sub(j.logged) < junkEvery {
		return
	}
	j.log.Warn("a stdio server wrote what is no message to its stdout: skipped", "upstream", j.name,
		"lines", j.lines-j.since, "first_bytes", j.shown(line))
	j.logged, j.since = now, j.lines
}

// shown returns what may be shown of a line.
func (j *junk) shown(line []byte) string {
	masked := j.mask(string(line[:min(len(line), junkSeen)]))
	return masked[:min(len(masked), junkShown)]
}

// count returns the lines since the start.
func (j *junk) count() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines
}
