package npx

import (
	"context"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// urgency is who waits for a job.
type urgency uint8

const (
	behind   urgency = iota // nobody
	ahead                   // nobody yet: nothing is installed
	wait                    // a start
	repaired                // a start that runs what is there where the job fails, or takes long
)

// pauses are how soon another job begins after one that failed: at first, and after many.
func (u urgency) pauses() (least, most time.Duration) {
	switch u {
	case wait:
		return time.Second, 30 * time.Second
	case repaired:
		return 5 * time.Second, time.Hour
	}
	return time.Minute, time.Hour
}

// job is something that several callers may wait for, and that belongs to none of them.
type job struct {
	what  string // for people
	begun time.Time
	done  chan struct{}
	err   error // read after done
}

func (j *job) ended() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// attempt is what jobs are known by that fail: a start is not to wait because one behind it failed.
type attempt struct {
	name string
	urgency
}

// failure is how the last attempt ended, and until when no other begins.
type failure struct {
	err   error
	pause time.Duration
	until time.Time
}

// do begins a job, or returns the one of that name that is under way. Soon after one that failed it returns one with the same error.
func (r *Resolver) do(a attempt, what string, run func(context.Context) error) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.jobs[a.name]; j != nil {
		return j
	}
	j := &job{what: what, begun: time.Now(), done: make(chan struct{})}
	f := r.failures[a]
	switch {
	case r.closed:
		j.err = process.ErrClosed
	case f != nil && time.Now().Before(f.until):
		j.err = f.err
	default:
		r.jobs[a.name] = j
		r.running.Go(func() {
			ctx, cancel := context.WithTimeout(r.base, installTimeout)
			defer cancel()
			r.ended(a, j, run(ctx))
		})
		return j
	}
	close(j.done)
	return j
}

// ended ends a job.
func (r *Resolver) ended(a attempt, j *job, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.jobs, a.name)
	j.err = err
	close(j.done)
	if err == nil {
		delete(r.failures, a)
		return
	}
	least, most := a.pauses()
	f := r.failures[a]
	if f == nil {
		f = &failure{pause: least / 2}
		r.failures[a] = f
	}
	f.err, f.pause = err, min(2*f.pause, most)
	f.until = time.Now().Add(f.pause)
}
