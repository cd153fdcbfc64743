package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

// UnderSystemUnit reports whether this process is the service of the system that deploy/systemd has a unit for, by what the unit
// sets. What systemd itself sets is the same in a person's own service, or in one of theirs that the system starts.
func UnderSystemUnit() bool { return os.Getenv("FLUENTD_PERF_UNIT") == "system" }

// notifyReady tells the service manager, if there is one, that the daemon takes requests, and then feeds its watchdog
// for as long as the daemon answers a real request to itself. The returned function says that it stops.
func notifyReady(addr string, log *slog.Logger) func() {
	notifyManager(sdnotify.SdNotifyReady, log)
	interval, err := sdnotify.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog's settings cannot be read", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if interval > 0 {
			feedWatchdog(ctx, addr, interval/2, log)
		}
	}()
	return func() {
		notifyManager(sdnotify.SdNotifyStopping, log)
		cancel()
		<-done
	}
}

func notifyManager(state string, log *slog.Logger) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		log.Warn("could not notify the service manager", "state", state, "error", err)
	}
}

func feedWatchdog(ctx context.Context, addr string, every time.Duration, log *slog.Logger) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := CheckHealth(ctx, addr, every)
		if ctx.Err() != nil {
			return
		}
		if isAlive(err) {
			notifyManager(sdnotify.SdNotifyWatchdog, log)
		} else {
			log.Error("the daemon does not answer itself; the watchdog is not fed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// isAlive judges an answer to the daemon's own question. The service manager may hand over a Unix socket that others may use and the
// daemon's user may not: then nobody was asked, and that is no reason to be killed.
func isAlive(err error) bool { return err == nil || errors.Is(err, fs.ErrPermission) }

// CheckHealth asks the daemon at addr, host:port or unix:PATH, whether it is alive.
func CheckHealth(ctx context.Context, addr string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// A connection of its own each time: the listener is what is asked about.
	transport, host := &http.Transport{DisableKeepAlives: true}, reachable(addr)
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		host = "localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon says %s", resp.Status)
	}
	return nil
}
