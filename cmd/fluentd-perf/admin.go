package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/admin"
	"fluentd-perf/internal/cache"
)

// socketName is the admin socket in its directory.
const socketName = "admin.sock"

// askTimeout is how long a verb waits for the daemon, callTimeout how long the daemon gives itself: where it can say that
// it took too long, it does.
const (
	askTimeout  = 10 * time.Second
	callTimeout = 8 * time.Second
)

// adminCalls are the daemon's own answers to the verbs. They are asked from several goroutines.
type adminCalls struct {
	cacheStats func(ctx context.Context, detailed bool) (cache.Stats, error)
	status     func(ctx context.Context, calls bool) (statusAnswer, error)
	cachePurge func(ctx context.Context, upstream, method string) (purgeAnswer, error)
}

// handlers gives each call its name: a line each.
func (a adminCalls) handlers() map[string]admin.Handler {
	return map[string]admin.Handler{
		statsCall:  admin.Handle(func(ctx context.Context, q statsQuestion) (cache.Stats, error) { return a.cacheStats(ctx, q.Detailed) }),
		statusCall: admin.Handle(func(ctx context.Context, q statusQuestion) (statusAnswer, error) { return a.status(ctx, q.Calls) }),
		purgeCall: admin.Handle(func(ctx context.Context, q purgeQuestion) (purgeAnswer, error) {
			return a.cachePurge(ctx, q.Upstream, q.Method)
		}),
	}
}

// openAdmin opens the admin socket in the runtime directory; group is `admin.group`, or "".
func openAdmin(dir, group string, calls adminCalls, log *slog.Logger) (*admin.Server, error) {
	return admin.Open(admin.Options{
		Path: filepath.Join(dir, socketName), Group: group, Handlers: calls.handlers(), CallTimeout: callTimeout, Log: log,
	})
}

// socketFlag is how a verb finds the daemon.
type socketFlag struct {
	path     string
	runtime  string        // a directory that the socket is in
	patience time.Duration // 0: askTimeout
}

func (f *socketFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "socket", "",
		"the daemon's admin socket `file` (default $FLUENTD_PERF_SOCKET, or "+socketName+" in a runtime directory of serve's)")
	c.Flags().StringVar(&f.runtime, "runtime-dir", "", "the `directory` of the admin socket, as serve has it")
}

// places returns where the daemon's socket may be. Who names one means that one: a purge of another daemon, because this
// one is down, would be no help.
func (f *socketFlag) places(s surroundings) []admin.Place {
	if f.path != "" {
		return []admin.Place{{Path: f.path, From: "--socket"}}
	}
	if f.runtime != "" {
		return []admin.Place{{Path: filepath.Join(f.runtime, socketName), From: "--runtime-dir"}}
	}
	if path, _ := s.env("FLUENTD_PERF_SOCKET"); path != "" {
		return []admin.Place{{Path: path, From: "$FLUENTD_PERF_SOCKET"}}
	}
	var places []admin.Place
	state, _, _ := new(directoryFlags).stateDir(s) // "" is no place
	for _, p := range s.runtimePlaces(state) {
		places = append(places, admin.Place{Path: filepath.Join(p.dir, socketName), From: p.from})
	}
	return places
}

// ask finds the daemon and makes one call.
func (f *socketFlag) ask(c *cobra.Command, call string, in, out any) error {
	if f.path != "" && f.runtime != "" {
		return usageError{errors.New("--socket and --runtime-dir name the same thing: give one")}
	}
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	patience := cmp.Or(f.patience, askTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, patience,
		fmt.Errorf("no answer within %v: the daemon is suspended, or too busy to answer", patience))
	defer cancel()
	path, err := admin.Find(ctx, f.places(theseSurroundings()))
	if err != nil {
		return err
	}
	return admin.Call(ctx, path, call, in, out)
}
