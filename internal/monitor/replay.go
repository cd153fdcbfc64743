package monitor

import (
	"context"
	"errors"
	"time"

	"fluentd-perf/internal/api"
)

// replay is a recording as a source. Of its methods one runs at a time.
type replay struct {
	recording *Recording
	shown     int // samples
}

func (r *replay) next(context.Context, string) (*api.Sample, error) {
	if r.shown == len(r.recording.Samples) {
		return nil, errEnd
	}
	r.shown++
	return &r.recording.Samples[r.shown-1], nil
}

func (r *replay) request(context.Context, string, string) (api.Request, error) {
	return api.Request{}, errors.New("a recording has no requests")
}

// back goes to the sample before the one that was shown last, and returns as many up to it as the view can show something of.
func (r *replay) back() (samples []*api.Sample) {
	r.shown = max(r.shown-1, 1)
	for i := max(r.shown-maxPoints, 0); i < r.shown; i++ {
		samples = append(samples, &r.recording.Samples[i])
	}
	return samples
}

// gapBefore returns the time without answers that ended with a sample, if there was one.
func (r *replay) gapBefore(s *api.Sample) (Gap, bool) {
	for _, g := range r.recording.Gaps {
		if g.To.Equal(s.At) {
			return g, true
		}
	}
	return Gap{}, false
}

// recorder makes a recording of so many intervals, or only counts them.
type recorder struct {
	recording Recording
	counts    bool      // no sample is kept
	left      int       // samples that are still to be asked for
	failed    *Gap      // the daemon does not answer now; nil: it does
	until     time.Time // it ends then at the latest, with fewer samples where the daemon was slow to answer; zero: it does not
}

func newRecorder(program string, interval, duration time.Duration) *recorder {
	intervals := int((duration + interval - 1) / interval)
	return &recorder{recording: Recording{Program: program, IntervalMs: interval.Milliseconds()}, left: intervals + 1}
}

// add takes what came of asking for a sample, and reports whether it was the last one. It keeps the processes that were listed.
func (r *recorder) add(s *api.Sample, err error, at time.Time) (last bool) {
	switch samples := r.recording.Samples; {
	case s != nil:
		r.endGap(s.At)
		if !r.counts {
			r.recording.Samples = append(samples, *s)
		}
	case r.failed == nil && err != nil:
		r.failed = &Gap{From: at, Reason: oneLine(err)}
		if n := len(samples); n > 0 {
			r.failed.From = samples[n-1].At
		}
	}
	r.left--
	if last = r.left <= 0 || !r.until.IsZero() && at.After(r.until); last {
		r.endGap(at)
	}
	return last
}

// endGap notes that the daemon answers again, or that the recording ends.
func (r *recorder) endGap(at time.Time) {
	if r.failed != nil {
		r.failed.To = at
		r.recording.Gaps = append(r.recording.Gaps, *r.failed)
		r.failed = nil
	}
}
