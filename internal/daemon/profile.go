package daemon

import (
	"context"
	"os"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/profiler"
)

// longCalls are the calls on the admin socket that may take longer than callTimeout.
var longCalls = map[string]time.Duration{api.CallProfile: profiler.MaxDuration + callTimeout}

// profiles records profiles of this process, one at a time, however many daemons run in it.
var profiles profiler.Recorder

// profile records a profile of the daemon. It ends when the one who asked has left.
func (d *daemon) profile(ctx context.Context, p api.ProfileParams) (api.Profile, error) {
	made, err := profiles.Record(ctx, p.Kind, time.Duration(p.DurationMs)*time.Millisecond)
	if err != nil {
		return api.Profile{}, err
	}
	d.log.Info("a profile was recorded", "kind", made.Kind, "duration_ms", made.DurationMs)
	return api.Profile{Version: d.version, PID: os.Getpid(), Recording: *made}, nil
}
