package loadgen

import (
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of what a Histogram tells apart: half a microsecond up to a millisecond, a thousandth above it.
const (
	resolution = 1000 // ns
	longest    = int64(10 * time.Minute)
	digits     = 3
)

// Histogram is a distribution of times. It is not safe for several goroutines.
type Histogram struct{ hdr *hdrhistogram.Histogram }

// NewHistogram returns an empty one. It takes about 170 KB.
func NewHistogram() *Histogram {
	return &Histogram{hdrhistogram.New(resolution, longest, digits)}
}

// Record counts a time; one below zero as zero, one above 10 minutes as that.
func (h *Histogram) Record(d time.Duration) {
	_ = h.hdr.RecordValue(min(max(int64(d), 0), longest)) // which is within its range
}

// Add counts what another one has counted.
func (h *Histogram) Add(other *Histogram) {
	if other != nil {
		h.hdr.Merge(other.hdr)
	}
}

// Count returns how many times were recorded.
func (h *Histogram) Count() int64 { return h.hdr.TotalCount() }

// At returns the time within which a percentage of the calls were answered.
func (h *Histogram) At(percent float64) time.Duration {
	return time.Duration(h.hdr.ValueAtQuantile(percent))
}

// Latency returns the figures that are shown, and all of it encoded; nil of nothing.
func (h *Histogram) Latency() *Latency {
	if h == nil || h.Count() == 0 {
		return nil
	}
	at := func(percent float64) float64 { return micros(h.At(percent)) }
	encoded, err := h.hdr.EncodeV2()
	if err != nil {
		panic("a bug: " + err.Error()) // its geometry is always the same
	}
	return &Latency{
		Count: h.Count(), Min: micros(time.Duration(h.hdr.Min())), Mean: h.hdr.Mean() / 1e3,
		P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), Max: micros(time.Duration(h.hdr.Max())), HDR: string(encoded),
	}
}

// Histogram returns the distribution that a Latency has encoded.
func (l *Latency) Histogram() (*Histogram, error) {
	h, err := hdrhistogram.Decode([]byte(l.HDR))
	if err != nil {
		return nil, fmt.Errorf("the histogram of a report: %w", err)
	}
	return &Histogram{h}, nil
}

// WriteHGRM writes the percentile distribution in milliseconds, in the text format of HdrHistogram (.hgrm), of which plotters make
// curves.
func (h *Histogram) WriteHGRM(w io.Writer) error {
	_, err := h.hdr.PercentilesPrint(w, 5, 1e6)
	return err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
