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
	attempt
	what  string // for people
	begun time.Time
	stop  context.CancelFunc
	done  chan struct{}
	err   error // read after done
}

// givesWay reports whether a job is ended for another of its name: a damaged install is not to run for half an hour because the registry
// holds up a look for another version.
func (j *job) givesWay(to urgency) bool { return j.urgency == behind && to == repaired }

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
	before := r.jobs[a.name]
	if before != nil && !before.givesWay(a.urgency) {
		return before
	}
	j := &job{attempt: a, what: what, begun: time.Now(), done: make(chan struct{})}
	f := r.failures[a]
	switch {
	case r.closed:
		j.err = process.ErrClosed
	case f != nil && time.Now().Before(f.until):
		j.err = f.err
	default:
		r.begin(j, before, run)
		return j
	}
	close(j.done)
	return j
}

// begin begins a job, after the end of the one that gives way to it. The caller has the mutex.
func (r *Resolver) begin(j, before *job, run func(context.Context) error) {
	ctx, stop := context.WithTimeout(r.base, installTimeout)
	j.stop = stop
	r.jobs[j.name] = j
	r.running.Go(func() {
		defer stop()
		if before != nil {
			before.stop()
			<-before.done
		}
		r.ended(j, run(ctx), ctx.Err() == context.Canceled)
	})
}

// ended ends a job. One that was stopped has not failed.
func (r *Resolver) ended(j *job, err error, stopped bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs[j.name] == j { // none has taken its place
		delete(r.jobs, j.name)
	}
	j.err = err
	close(j.done)
	if err == nil {
		delete(r.failures, j.attempt)
	}
	if err == nil || stopped {
		return
	}
	least, most := j.pauses()
	f := r.failures[j.attempt]
	if f == nil {
		f = &failure{pause: least / 2}
		r.failures[j.attempt] = f
	}
	f.err, f.pause = err, min(2*f.pause, most)
	f.until = time.Now().Add(f.pause)
}
