package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fluentd-perf/internal/daemon"
)

// surviveBrokenPipes keeps the process alive where nobody reads its stdout or stderr any more: Go ends a process that
// writes there, unless it has asked for the signal. It holds to the end, which is when the last lines are written.
func surviveBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// surviveHangups keeps the process alive when it is sent SIGHUP, and tells who expects the configuration to be read again
// that it is not. stop undoes that.
func surviveHangups(log *slog.Logger) (stop func()) {
	hangups, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range hangups {
			log.Warn("SIGHUP does nothing: the configuration cannot be reloaded yet, restart the daemon to have it read again")
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-ended
	}
}

// endingSignals are all that end a program, that can be caught and that people send, a closed terminal among them, but not where nohup(1)
// said that it shall be outlived.
func endingSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// demoSignals returns the signals that end a demo.
func demoSignals() chan os.Signal {
	sent := make(chan os.Signal, 1)
	signal.Notify(sent, endingSignals()...)
	return sent
}

// endDemo calls cancel at the first signal. Another one, secondSignal later or more, ends the process at once, after
// remove. It returns when ctx has ended without a signal, or when the signals are closed.
func endDemo(ctx context.Context, signals <-chan os.Signal, cancel context.CancelFunc, remove func() error) {
	select {
	case <-signals:
	case <-ctx.Done():
	}
	cancel()
	for first := time.Now(); ; {
		s, ok := <-signals
		switch {
		case !ok:
			return
		case time.Since(first) >= daemon.SecondSignal:
			_ = remove()
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		}
	}
}
