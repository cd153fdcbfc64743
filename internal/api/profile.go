package api

import "fluentd-perf/internal/profiler"

// CallProfile is the name of the call that records a profile of the daemon: ProfileParams, Profile. It takes as long as they say.
const CallProfile = "profile"

// ProfileParams say what is recorded, and for how long.
type ProfileParams struct {
	Kind       profiler.Kind `json:"kind"`
	DurationMs int64         `json:"durationMs,omitempty"` // at most profiler.MaxDuration; not looked at for what shows how things are
}

// Profile is a profile of a daemon.
type Profile struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	profiler.Recording
}
