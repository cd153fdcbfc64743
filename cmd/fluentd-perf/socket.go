package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/daemon"
)

// askTimeout is how long a verb waits for the daemon.
const askTimeout = 10 * time.Second

// socketFlag is how a verb finds the daemon.
type socketFlag struct {
	path     string
	runtime  string        // a directory that the socket is in
	patience time.Duration // 0: askTimeout
}

func (f *socketFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "socket", "",
		"the daemon's admin socket `file` (default $FLUENTD_PERF_SOCKET, or "+daemon.SocketName+" in a runtime directory of serve's)")
	c.Flags().StringVar(&f.runtime, "runtime-dir", "", "the `directory` of the admin socket, as serve has it")
}

// places returns where the daemon's socket may be. Who names one means that one: a purge of another daemon, because this
// one is down, would be no help.
func (f *socketFlag) places() []api.Place {
	if f.path != "" {
		return []api.Place{{Path: f.path, From: "--socket"}}
	}
	if f.runtime != "" {
		return []api.Place{{Path: filepath.Join(f.runtime, daemon.SocketName), From: "--runtime-dir"}}
	}
	return daemon.SocketPlaces()
}

// ask finds the daemon and makes one call.
func (f *socketFlag) ask(c *cobra.Command, call string, in, out any) error {
	if f.path != "" && f.runtime != "" {
		return daemon.UsageError{Err: errors.New("--socket and --runtime-dir name the same thing: give one")}
	}
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	patience := cmp.Or(f.patience, askTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, patience,
		fmt.Errorf("no answer within %v: the daemon is suspended, or too busy to answer", patience))
	defer cancel()
	path, err := api.Find(ctx, f.places())
	if err != nil {
		return err
	}
	return api.Call(ctx, path, call, in, out)
}
