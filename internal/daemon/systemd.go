package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
)

// notifyReady tells the service manager, if there is one, that the daemon takes requests, and then feeds its watchdog
// for as long as the daemon answers a real request to itself. The returned function says that it stops.
func notifyReady(addr string, log *slog.Logger) func() {
	tell(sdnotify.SdNotifyReady, log)
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
		tell(sdnotify.SdNotifyStopping, log)
		cancel()
		<-done
	}
}

func tell(state string, log *slog.Logger) {
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
		if err != nil {
			log.Error("the daemon does not answer itself; the watchdog is not fed", "error", err)
		} else {
			tell(sdnotify.SdNotifyWatchdog, log)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// CheckHealth asks the daemon at addr whether it is alive.
func CheckHealth(ctx context.Context, addr string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(addr)+"/healthz", nil)
	if err != nil {
		return err
	}
	// A connection of its own each time: the listener is what is asked about.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return unhealthyError(resp.Status)
	}
	return nil
}

type unhealthyError string

func (e unhealthyError) Error() string { return "the daemon says " + string(e) }
