package profiler_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"fluentd-perf/internal/flamegraph"
	"fluentd-perf/internal/profiler"
)

// TestRaw holds that a raw profile says what it is, and is not taken for another.
func TestRaw(t *testing.T) {
	made, err := new(profiler.Recorder).Record(t.Context(), profiler.Block, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := made.Raw()
	if err != nil {
		t.Fatal(err)
	}
	p, err := profiler.Parse(raw, profiler.Block)
	if err != nil || !p.Started.Equal(made.Started) || p.Duration != time.Duration(made.DurationMs*1e6) || p.Duration < time.Millisecond || p.Unit != "nanoseconds" {
		t.Errorf("%+v, %v of %+v", p, err, made)
	}
	for _, kind := range []profiler.Kind{profiler.CPU, profiler.Mutex, profiler.Heap} {
		if _, err := profiler.Parse(raw, kind); !errors.Is(err, flamegraph.ErrNoValue) {
			t.Errorf("a profile of block as one of %s: %v", kind, err)
		}
	}
	for _, text := range []string{"", "text", `{"$schema":"urn:fluentd-perf:profile:1"}`} {
		if _, err := profiler.Parse([]byte(text), profiler.CPU); err == nil {
			t.Errorf("%q is a profile", text)
		}
	}
	for _, broken := range []profiler.Recording{{Data: []byte("x")}, {Data: made.Data, Before: []byte("x")}} {
		if _, err := broken.Raw(); err == nil {
			t.Errorf("%+v is a profile", broken)
		}
	}
}

// TestReportSchema holds that a report is what its schema says, and that docs/profile.schema.json is that schema.
func TestReportSchema(t *testing.T) {
	text, err := profiler.Schema()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../../docs/profile.schema.json")
	if err != nil || !bytes.Equal(file, text) {
		t.Errorf("docs/profile.schema.json is not what `fluentd-perf schema --profile` prints: %v", err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	made := report(t, profiler.Goroutines)
	made.Load = &profiler.Load{Calls: 1}
	data, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("%v\n%s", err, data)
	}
	if value.(map[string]any)["$schema"] = "urn:other"; resolved.Validate(value) == nil {
		t.Error("another schema's report is let pass")
	}
}
