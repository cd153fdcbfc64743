package scenario

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"fluentd-perf/internal/loadgen"
)

// DriveConcurrency is how many calls Drive has under way at once, where nothing else was said.
const DriveConcurrency = 8

// lastCalls is how long the calls that are under way at the end may take.
const lastCalls = 10 * time.Second

// Drive calls tools, one call after the other with each of so many clients, while something else goes on: what a daemon is looked at
// for. It calls Daemon, the tool that Call says or the list of tools, or else a daemon and the scripted server that it starts; then
// socket is the control socket of that daemon, and "" otherwise. It returns what the calls came to, with an error of during's, of
// ctx's, or where no call succeeded.
func Drive(ctx context.Context, o Options, during func(ctx context.Context, socket string) error) (round loadgen.Round, err error) {
	if o.Daemon != nil {
		k := loadgen.List()
		if o.Call != nil {
			k = *o.Call
		}
		return drive(ctx, &o, o.Daemon.Target, loadgen.Only(k), func(ctx context.Context) error { return during(ctx, "") })
	}
	l := &lab{o: &o}
	if l.dir, err = directory(); err != nil {
		return round, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if l.server, err = startServer(ctx, l.dir, o.Own); err != nil {
		return round, err
	}
	if err := l.startDaemons(ctx, false, l.config(or(o.Concurrency, DriveConcurrency))); err != nil {
		return round, err
	}
	d := l.daemons[0]
	target, err := d.target("mcp", "mcp")
	if err != nil {
		return round, err
	}
	return drive(ctx, &o, target, mix(), func(ctx context.Context) error {
		return during(ctx, filepath.Join(l.dir, d.name, "admin.sock"))
	})
}

// drive has the calls begin, and then during.
func drive(ctx context.Context, o *Options, target *loadgen.Target, work *loadgen.Work, during func(context.Context) error) (loadgen.Round, error) {
	concurrency := or(o.Concurrency, DriveConcurrency)
	if o.Limited {
		concurrency = or(o.Concurrency, LimitedAtOnce)
	}
	if o.MaxProcesses > 0 {
		concurrency = min(concurrency, o.MaxProcesses)
	}
	clients := loadgen.NewClients(target)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		clients.Close(ctx)
	}()
	if err := clients.Open(ctx, concurrency); err != nil {
		return loadgen.Round{}, fmt.Errorf("connecting: %w", err)
	}
	calls, cancelCalls := context.WithCancel(ctx)
	defer cancelCalls()
	meanwhile, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	until, ended := make(chan struct{}), make(chan struct{})
	var tally *loadgen.Tally
	var failed error
	go func() {
		defer close(ended)
		tally, failed = clients.RunUntil(calls, until, concurrency, work)
		if failed != nil {
			cancel(failed) // of nothing there is nothing to see
		}
	}()
	err := during(meanwhile)
	close(until)
	late := time.AfterFunc(lastCalls, cancelCalls)
	defer late.Stop()
	<-ended
	if failed != nil && calls.Err() == nil {
		err = failed
	}
	return tally.Round(), err
}
