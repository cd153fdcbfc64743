package flamegraph_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"fluentd-perf/internal/flamegraph"
)

// made returns a raw profile of samples: a chain of functions, the first one calls the second, and what the last one took. A "+" before
// a name says that it is inlined into the one before it.
func made(t *testing.T, samples map[string]int64) []byte {
	t.Helper()
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		TimeNanos:  1e18, DurationNanos: 2e9, Comments: []string{"a comment"},
	}
	functions := make(map[string]*profile.Function)
	for chain, value := range samples {
		s := &profile.Sample{Value: []int64{1, value}}
		for name := range strings.FieldsSeq(chain) {
			name, inlined := strings.CutPrefix(name, "+")
			f := functions[name]
			if f == nil {
				f = &profile.Function{ID: uint64(len(functions) + 1), Name: name, Filename: "/src/" + name + ".go"}
				functions[name] = f
				p.Function = append(p.Function, f)
			}
			if line := (profile.Line{Function: f, Line: 1}); inlined {
				s.Location[0].Line = append([]profile.Line{line}, s.Location[0].Line...)
			} else {
				at := &profile.Location{ID: uint64(len(p.Location) + 1), Line: []profile.Line{line}}
				p.Location = append(p.Location, at)
				s.Location = append([]*profile.Location{at}, s.Location...)
			}
		}
		p.Sample = append(p.Sample, s)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// parsed is made, read.
func parsed(t *testing.T, samples map[string]int64) *flamegraph.Profile {
	t.Helper()
	p, err := flamegraph.Parse(made(t, samples), "cpu")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tree writes a node and those below it, as name=total/self(...).
func tree(n *flamegraph.Node) string {
	text := n.Name + "=" + flamegraph.Amount(n.Total, "") + "/" + flamegraph.Amount(n.Self, "")
	for _, c := range n.Children {
		text += " (" + tree(c) + ")"
	}
	return text
}

// TestTree holds who called whom, and the order: what takes most is first.
func TestTree(t *testing.T) {
	p := parsed(t, map[string]int64{"main.a main.b": 3, "main.a": 1, "main.a main.c +main.d": 5, "x.y": 2, "main.zero": 0, "main.less": -3})
	if got, want := tree(p.Root), "all=11/0 (main.a=9/1 (main.c=5/0 (main.d=5/5)) (main.b=3/3)) (x.y=2/2)"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if p.Unit != "nanoseconds" || p.Duration != 2*time.Second || !p.Started.Equal(time.Unix(1e9, 0)) || len(p.Comments) != 1 {
		t.Errorf("%+v", p)
	}
	if _, err := flamegraph.Parse(made(t, nil), "delay"); !errors.Is(err, flamegraph.ErrNoValue) {
		t.Errorf("%v", err)
	}
	if _, err := flamegraph.Parse([]byte("text"), "cpu"); err == nil {
		t.Error("text is a profile")
	}
}

// TestFunctions holds what functions took over all that called them. A recursion counts once. Of who waits, the runtime and its locks
// are left out.
func TestFunctions(t *testing.T) {
	p := parsed(t, map[string]int64{
		"main.r main.r main.r": 4, "main.a main.r": 1, "main.a sync.(*Mutex).Lock runtime.gopark": 7, "runtime.bg runtime.gopark": 2,
	})
	for _, c := range []struct {
		callers bool
		want    []flamegraph.Function
	}{
		{false, []flamegraph.Function{{Name: "runtime.gopark", Self: 9, Total: 9}, {Name: "main.r", Self: 5, Total: 5}, {Name: "main.a", Total: 8},
			{Name: "sync.(*Mutex).Lock", Total: 7}, {Name: "runtime.bg", Total: 2}}},
		{true, []flamegraph.Function{{Name: "main.a", Self: 7, Total: 8}, {Name: "main.r", Self: 5, Total: 5}, {Name: "runtime.gopark", Self: 2, Total: 9},
			{Name: "sync.(*Mutex).Lock", Total: 7}, {Name: "runtime.bg", Total: 2}}},
	} {
		if got := p.Functions(c.callers); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %+v\nwant %+v", c.callers, got, c.want)
		}
	}
}

// TestAdd holds that the figures of two profiles stand beside each other, those of what is gone too.
func TestAdd(t *testing.T) {
	now := parsed(t, map[string]int64{"main.both": 3, "main.new": 1}).Functions(false)
	old := parsed(t, map[string]int64{"main.both": 5, "main.gone": 2}).Functions(false)
	zero, two, five := int64(0), int64(2), int64(5)
	want := []flamegraph.Function{
		{Name: "main.both", Self: 3, Total: 3, OldSelf: &five, OldTotal: &five}, {Name: "main.new", Self: 1, Total: 1, OldSelf: &zero, OldTotal: &zero},
		{Name: "main.gone", OldSelf: &two, OldTotal: &two},
	}
	if got := flamegraph.Add(now, old); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// TestAmount writes values as people say them.
func TestAmount(t *testing.T) {
	for _, c := range []struct {
		n    int64
		unit string
		want string
	}{
		{0, "nanoseconds", "0 ns"}, {999, "nanoseconds", "999 ns"}, {1_500_000, "nanoseconds", "1.50 ms"}, {90e9, "nanoseconds", "90 s"},
		{1023, "bytes", "1023 B"}, {1 << 20, "bytes", "1 MiB"}, {-1536, "bytes", "-1.50 KiB"}, {1234, "count", "1234"},
	} {
		if got := flamegraph.Amount(c.n, c.unit); got != c.want {
			t.Errorf("%d %s: %q, want %q", c.n, c.unit, got, c.want)
		}
	}
}
