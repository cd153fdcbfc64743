package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/api"
)

// takeOverEvery is how often a daemon looks whether another one has let go of what it waits for.
const takeOverEvery = 500 * time.Millisecond

// takeOver gets, behind the calls, what another daemon had when this one started: one that is drained and replaced has its
// state directory and its admin socket until its last call has ended.
type takeOver struct {
	tries []func() (done bool) // not changed from outside once it has begun
	stop  context.CancelFunc   // nil where there is nothing to wait for
	wg    sync.WaitGroup
}

func (o *takeOver) add(try func() (done bool)) { o.tries = append(o.tries, try) }

// begin starts to try, each until it is done.
func (o *takeOver) begin() {
	if len(o.tries) == 0 {
		return
	}
	var ctx context.Context
	ctx, o.stop = context.WithCancel(context.Background())
	o.wg.Go(func() {
		tick := time.NewTicker(takeOverEvery)
		defer tick.Stop()
		for len(o.tries) > 0 {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				o.tries = slices.DeleteFunc(o.tries, func(try func() bool) bool { return try() })
			}
		}
	})
}

// end stops it, and returns when nothing is tried any more.
func (o *takeOver) end() {
	if o.stop != nil {
		o.stop()
		o.wg.Wait()
	}
}

// joinState takes the state directory, and then opens what is in it.
func (d *daemon) joinState() bool {
	done, err := d.store.Join()
	if !done {
		return false
	}
	d.sayState()
	if err != nil {
		d.log.Warn("doing without the state directory: the embedded database is not used", "directory", d.state.Dir(), "error", err)
		return true
	}
	d.joined.Store(true)
	if d.processes != nil {
		d.processes.sessions.Join()
		d.processes.memory.Join()
	}
	if d.late != nil {
		_, _ = d.late.get() // begins to open it
	}
	d.log.Info("the state directory is this daemon's now", "directory", d.state.Dir())
	return true
}

// serveAdmin answers on the admin socket, if there is one.
func (d *daemon) serveAdmin() {
	if d.admin == nil {
		return
	}
	go func(s *api.Server) {
		if err := s.Serve(); err != nil {
			d.log.Error("the admin socket failed", "error", err)
		}
	}(d.admin)
}
