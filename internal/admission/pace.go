package admission

import (
	"math"
	"time"
)

// What a refused call is told to wait.
const (
	minRetryAfter = 100 * time.Millisecond
	maxRetryAfter = 30 * time.Second
)

// paceMemory is how far back a pace looks: what was so long ago weighs 1/e.
const paceMemory = 10 * time.Second

// pace is how fast slots have come free lately, in the time in which none was free. It is guarded by its owner's lock.
type pace struct {
	freed float64 // slots, the older the less
	busy  float64 // seconds, the same
	ever  float64 // slots, since the beginning
	last  time.Time
}

// resume begins to count again after a time that does not count.
func (p *pace) resume(now time.Time) { p.last = now }

// note says that n slots came free since the last note or resume.
func (p *pace) note(n float64, now time.Time) {
	passed := max(now.Sub(p.last), 0)
	fades := math.Exp(-passed.Seconds() / paceMemory.Seconds())
	p.freed = p.freed*fades + n
	p.ever += n
	p.busy = p.busy*fades + passed.Seconds()
	p.last = now
}

// wait estimates how long it takes until n slots have come free: between minRetryAfter and maxRetryAfter. As long as not
// all have come free once, little is known, and it is no more than unknown.
func (p *pace) wait(n, all int, unknown time.Duration) time.Duration {
	seconds := unknown.Seconds()
	if p.freed > 0 {
		seconds = float64(n) * p.busy / p.freed
	}
	if p.ever < float64(all) {
		seconds = min(seconds, unknown.Seconds())
	}
	seconds = min(max(seconds, minRetryAfter.Seconds()), maxRetryAfter.Seconds())
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)
}
