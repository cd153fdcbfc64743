package profiler

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/pprof/profile"

	"fluentd-perf/internal/flamegraph"
)

// SchemaID is the `$schema` of a report.
const SchemaID = "urn:fluentd-perf:profile:1"

// maxFunctions is how many functions a report has.
const maxFunctions = 200

// Report is what a profile shows, for programs.
type Report struct {
	Schema     string    `json:"$schema"`
	Kind       Kind      `json:"kind" jsonschema:"cpu, heap, allocs, block, mutex or goroutines"`
	Started    time.Time `json:"started"`
	DurationMs float64   `json:"durationMs" jsonschema:"over which it was recorded; 0 where it shows how things are"`
	Daemon     Daemon    `json:"daemon"`
	Load       *Load     `json:"load,omitempty" jsonschema:"the calls that were made meanwhile; left out where none were"`
	Unit       string    `json:"unit" jsonschema:"of all values: nanoseconds, bytes or count"`
	Total      int64     `json:"total"`
	OldTotal   *int64    `json:"oldTotal,omitempty" jsonschema:"of the profile that was compared with"`

	Functions []flamegraph.Function `json:"functions" jsonschema:"at most 200, those first that took most themselves"`
}

// Daemon is the process that was looked at.
type Daemon struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
}

// Load is the calls that were made while a profile was recorded.
type Load struct {
	Calls     int64   `json:"calls" jsonschema:"that were answered rightly"`
	Failed    int64   `json:"failed"`
	PerSecond float64 `json:"perSecond"`
}

// Schema returns the JSON schema (draft 2020-12) of a Report, indented.
func Schema() ([]byte, error) {
	s, err := jsonschema.For[Report](nil)
	if err != nil {
		return nil, err
	}
	s.Properties["$schema"].Const = jsonschema.Ptr[any](SchemaID)
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", SchemaID, "what fluentd-perf profile -o json prints"
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// value returns which of a profile's sample types counts.
func (k Kind) value() string {
	switch k {
	case CPU:
		return "cpu"
	case Heap:
		return "inuse_space"
	case Allocs:
		return "alloc_space"
	case Goroutines:
		return "goroutine"
	}
	return "delay"
}

// label begins the comment in a raw profile that says of which kind it is.
const label = "fluentd-perf profile: "

// Raw returns the recording as one profile in the format of pprof: what was counted before it began is taken off, as
// is what leftOut says; its kind and time are in it.
func (r *Recording) Raw() ([]byte, error) {
	p, err := profile.ParseData(r.Data)
	if err != nil {
		return nil, fmt.Errorf("the daemon's profile: %w", err)
	}
	if r.Before != nil {
		before, err := profile.ParseData(r.Before)
		if err != nil {
			return nil, fmt.Errorf("the daemon's profile: %w", err)
		}
		before.Scale(-1)
		if p, err = profile.Merge([]*profile.Profile{p, before}); err != nil {
			return nil, fmt.Errorf("the daemon's profile: %w", err)
		}
	}
	p.Sample = slices.DeleteFunc(p.Sample, isOwn)
	p.TimeNanos, p.DurationNanos = r.Started.UnixNano(), int64(r.DurationMs*1e6)
	p.Comments = append(p.Comments, label+string(r.Kind))
	p.DefaultSampleType = r.Kind.value()
	var b bytes.Buffer
	err = p.Write(&b)
	return b.Bytes(), err
}

// isOwn reports whether a sample is of what nobody is to see.
func isOwn(s *profile.Sample) bool {
	for _, at := range s.Location {
		for _, line := range at.Line {
			if line.Function != nil && slices.Contains(leftOut, line.Function.Name) {
				return true
			}
		}
	}
	return false
}

// leftOut are functions, as profiles write them: the wait of Record itself, and the daemon's ballast, which takes no memory.
var leftOut = []string{"fluentd-perf/internal/profiler.wait", "fluentd-perf/internal/daemon.newBallast"}

// Parse reads a raw profile as one of a kind. One that is known to be of another is refused.
func Parse(data []byte, kind Kind) (*flamegraph.Profile, error) {
	p, err := flamegraph.Parse(data, kind.value())
	if err != nil {
		return nil, err
	}
	for _, c := range p.Comments {
		if other, ok := strings.CutPrefix(c, label); ok && other != string(kind) {
			return nil, fmt.Errorf("%w: %s, not %s", flamegraph.ErrNoValue, other, kind)
		}
	}
	return p, nil
}

// NewReport returns what profiles of a kind show; old is nil where there is none.
func NewReport(kind Kind, p, old *flamegraph.Profile) *Report {
	callers := kind == Block || kind == Mutex || kind == Goroutines
	r := &Report{Schema: SchemaID, Kind: kind, Started: p.Started.UTC(), DurationMs: float64(p.Duration.Microseconds()) / 1000, Unit: p.Unit, Total: p.Root.Total, Functions: p.Functions(callers)}
	if old != nil {
		r.OldTotal = &old.Root.Total
		r.Functions = flamegraph.Add(r.Functions, old.Functions(callers))
		slices.SortStableFunc(r.Functions, func(a, b flamegraph.Function) int { // what has gone is among the first, too
			return cmp.Compare(max(b.Self, *b.OldSelf), max(a.Self, *a.OldSelf))
		})
	}
	r.Functions = slices.Clip(r.Functions[:min(len(r.Functions), maxFunctions)])
	return r
}
