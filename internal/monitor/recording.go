package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"fluentd-perf/internal/api"
)

// SchemaID is the version of the format of recordings.
const SchemaID = "urn:fluentd-perf:monitor:2"

// MaxSamples bounds a recording.
const MaxSamples = 3600

// maxRecording bounds a recording's file that is read, in bytes.
const maxRecording = 256 << 20

// Recording is what a daemon did for some time.
type Recording struct {
	Schema     string       `json:"$schema" jsonschema:"the version of this format: urn:fluentd-perf:monitor:2"`
	Program    string       `json:"program" jsonschema:"version of the program that recorded"`
	IntervalMs int64        `json:"intervalMs" jsonschema:"between two samples"`
	Summary    Summary      `json:"summary"`
	Samples    []api.Sample `json:"samples" jsonschema:"in the order of their times: the counters as they were, which count since the start of the daemon"`
	Gaps       []Gap        `json:"gaps,omitempty" jsonschema:"when the daemon did not answer"`
}

// Gap is a time in which the daemon did not answer.
type Gap struct {
	From   time.Time `json:"from" jsonschema:"the last sample before"`
	To     time.Time `json:"to" jsonschema:"the first sample after; the end of the recording where there was none"`
	Reason string    `json:"reason"`
}

// Summary is what happened from the first sample to the last, by the differences of the daemon's counters.
type Summary struct {
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Seconds   float64   `json:"seconds" jsonschema:"between these"`
	Restarts  int       `json:"restarts" jsonschema:"how often another daemon took the place of the one before: what that one did after its last sample is not known, nor what one that is older than the first sample did before its own first one"`
	All       Figures   `json:"all" jsonschema:"of all upstreams together"`
	Upstreams []Figures `json:"upstreams" jsonschema:"of each; in the order of their names"`
}

// Figures are what happened at one upstream, or at all.
type Figures struct {
	Name              string             `json:"name,omitempty" jsonschema:"of the upstream; left out for all"`
	Requests          uint64             `json:"requests"`
	RequestsPerSecond float64            `json:"requestsPerSecond"`
	Failed            uint64             `json:"failed" jsonschema:"that got no answer of the server or the cache; not those whose agent left (canceled)"`
	Outcomes          map[string]uint64  `json:"outcomes" jsonschema:"of the requests"`
	Latency           Latency            `json:"latency" jsonschema:"from the head of a request to the end of its answer"`
	Kinds             map[string]Latency `json:"kinds" jsonschema:"the same by kind"`
	Server            map[string]Latency `json:"server" jsonschema:"by kind, how much of that the server took"`
	Cache             CacheFigures       `json:"cache"`
	SavedCalls        uint64             `json:"savedCalls" jsonschema:"that the server was spared"`
	SavedSeconds      float64            `json:"savedSeconds" jsonschema:"that the server would have taken for them"`
	Coalesced         uint64             `json:"coalesced" jsonschema:"calls that were answered by an equal one under way"`
	Shed              uint64             `json:"shed" jsonschema:"refused because a limit was reached"`
	Retries           uint64             `json:"retries" jsonschema:"calls that were sent again"`
	MaxInFlight       int                `json:"maxInFlight" jsonschema:"most at the moment of a sample"`
	MaxQueued         int                `json:"maxQueued" jsonschema:"most at the moment of a sample"`
}

// Latency are times in milliseconds. Quantiles are of the buckets of native histograms, each of which is a tenth wide.
type Latency struct {
	Count  uint64  `json:"count" jsonschema:"calls"`
	MeanMs float64 `json:"meanMs"`
	P50Ms  float64 `json:"p50Ms"`
	P95Ms  float64 `json:"p95Ms"`
	P99Ms  float64 `json:"p99Ms"`
}

// CacheFigures are what the cache did.
type CacheFigures struct {
	Asked     uint64            `json:"asked" jsonschema:"requests that it could answer"`
	HitShare  float64           `json:"hitShare" jsonschema:"of these, how many it or an equal call under way did answer: 1 is all"`
	Hits      map[string]uint64 `json:"hits" jsonschema:"fresh answers by tier"`
	Stale     uint64            `json:"stale" jsonschema:"expired answers, for want of another"`
	Collapsed uint64            `json:"collapsed" jsonschema:"answers of an equal call under way"`
}

// Schema returns the JSON schema (draft 2020-12) of a Recording, indented.
func Schema() ([]byte, error) {
	s, err := jsonschema.For[Recording](nil)
	if err != nil {
		return nil, err
	}
	s.Properties["$schema"].Const = jsonschema.Ptr[any](SchemaID)
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", SchemaID, "what fluentd-perf monitor --output writes"
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}

// ReadRecording reads a recording. The error says what is wrong with it.
func ReadRecording(r io.Reader) (*Recording, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxRecording+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxRecording {
		return nil, fmt.Errorf("it is larger than %d bytes", maxRecording)
	}
	rec := new(Recording)
	if err := json.Unmarshal(text, rec); err != nil {
		return nil, fmt.Errorf("it is no recording: %w", err)
	}
	if rec.Schema != SchemaID {
		return nil, fmt.Errorf("it is no recording of monitor: its $schema is %q, not %s", rec.Schema, SchemaID)
	}
	if len(rec.Samples) == 0 {
		return nil, fmt.Errorf("it has no samples")
	}
	return rec, nil
}

// Write writes the recording as JSON, with its summary.
func (r *Recording) Write(w io.Writer) error {
	r.Schema = SchemaID
	r.Summary = summarize(r.Samples)
	return json.NewEncoder(w).Encode(r)
}

// summarize adds up what happened between the samples.
func summarize(samples []api.Sample) (s Summary) {
	s.Upstreams = []Figures{}
	if len(samples) == 0 {
		s.All = new(change).figures("", 0)
		return s
	}
	s.From, s.To = samples[0].At, samples[len(samples)-1].At
	var h history
	all, each := change{}, map[string]*change{}
	for i := range samples {
		if i > 0 {
			s.Seconds += between(&samples[i-1], &samples[i]).Seconds()
		}
		for name, c := range h.add(&samples[i]).upstreams {
			if each[name] == nil {
				each[name] = new(change)
			}
			each[name].add(&c)
			all.add(&c)
		}
	}
	s.Restarts, s.All = h.restarts, all.figures("", s.Seconds)
	for _, name := range slices.Sorted(maps.Keys(each)) {
		s.Upstreams = append(s.Upstreams, each[name].figures(name, s.Seconds))
	}
	s.addMost(samples)
	return s
}

// between is the time from a sample to the next: by the clock only where another daemon took over.
func between(a, b *api.Sample) time.Duration {
	if sameDaemon(a, b) {
		return up(b) - up(a)
	}
	return max(b.At.Sub(a.At), 0)
}

// addMost says how many calls there were at once.
func (s *Summary) addMost(samples []api.Sample) {
	for i := range samples {
		inFlight, queued := 0, 0
		for _, u := range samples[i].Upstreams {
			inFlight, queued = inFlight+u.InFlight, queued+u.Queued
			for j := range s.Upstreams {
				if s.Upstreams[j].Name == u.Upstream {
					s.Upstreams[j].most(u.InFlight, u.Queued)
				}
			}
		}
		s.All.most(inFlight, queued)
	}
}

func (f *Figures) most(inFlight, queued int) {
	f.MaxInFlight, f.MaxQueued = max(f.MaxInFlight, inFlight), max(f.MaxQueued, queued)
}

// figures says what happened for programs.
func (c *change) figures(name string, took float64) Figures {
	all := allKinds(c.durations)
	f := Figures{
		Name: name, Requests: c.requests, Failed: c.failed, Outcomes: counts(c.outcomes), Latency: all.latency(),
		Kinds: latencies(c.durations), Server: latencies(c.server),
		Cache:      CacheFigures{Asked: c.asked, Hits: counts(c.hits), Stale: c.stale, Collapsed: c.collapsed},
		SavedCalls: c.savedCalls, SavedSeconds: c.savedSeconds, Coalesced: c.coalesced, Shed: c.shed, Retries: c.retries,
	}
	if took > 0 {
		f.RequestsPerSecond = float64(c.requests) / took
	}
	f.Cache.HitShare, _ = c.hitShare()
	return f
}

// counts returns an object that is there also where nothing was counted.
func counts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

func latencies(kinds map[string]durations) map[string]Latency {
	all := make(map[string]Latency, len(kinds))
	for kind, d := range kinds {
		all[kind] = d.latency()
	}
	return all
}

func (d *durations) latency() Latency {
	ms := func(t time.Duration) float64 { return float64(t) / float64(time.Millisecond) }
	return Latency{Count: d.count, MeanMs: ms(d.mean()), P50Ms: ms(d.quantile(.5)), P95Ms: ms(d.quantile(.95)), P99Ms: ms(d.quantile(.99))}
}
