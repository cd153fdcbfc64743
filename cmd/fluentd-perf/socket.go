package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
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
	path    string
	runtime string        // a directory that the socket is in
	timeout time.Duration // 0: askTimeout
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

// check says whether the flags go together.
func (f *socketFlag) check() error {
	if f.path != "" && f.runtime != "" {
		return daemon.UsageError{Err: errors.New("--socket and --runtime-dir name the same thing: give one")}
	}
	return nil
}

// ask finds the daemon and makes one call.
func (f *socketFlag) ask(c *cobra.Command, call string, in, out any) error {
	if err := f.check(); err != nil {
		return err
	}
	timeout := cmp.Or(f.timeout, askTimeout)
	ctx, cancel := context.WithTimeoutCause(c.Context(), timeout,
		fmt.Errorf("no answer within %v: the daemon is suspended, or too busy to answer", timeout))
	defer cancel()
	path, err := api.Find(ctx, f.places())
	if err != nil {
		return err
	}
	return api.Call(ctx, path, call, in, out)
}

// asking makes c a verb that makes one call with the parameters in, and shows the answer by show, or as JSON.
func asking[Answer any](c *cobra.Command, call string, in any, show func(io.Writer, Answer) error) *socketFlag {
	socket, output := new(socketFlag), ""
	c.Args = cobra.NoArgs
	c.RunE = func(c *cobra.Command, _ []string) error {
		var answer Answer
		if err := socket.ask(c, call, in, &answer); err != nil {
			return err
		}
		return writeOutput(c.OutOrStdout(), output, answer, show)
	}
	socket.register(c)
	outputFlag(c, &output)
	return socket
}
