package npx

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// TestRepairsPause: a repair that fails is tried again ever later, once an hour at last, however often the server is started; and at once
// the day after one that has not failed.
func TestRepairsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{})
		broken, tried := errors.New("the registry is away"), 0
		start := func(of string) error {
			j := r.do(attempt{of, repaired}, "repairing", func(context.Context) error { tried++; return broken })
			<-j.done
			return j.err
		}
		for range 2 * 24 * 60 * 12 { // each 5 s
			if err := start("a"); err != broken {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if tried < 48 || tried > 60 {
			t.Errorf("tried %d times in two days", tried)
		}
		tried = 0
		if _ = start("b"); tried != 1 {
			t.Error("another package has to wait")
		}
		time.Sleep(time.Hour)
		broken = nil
		for range 2 {
			if err := start("a"); err != nil {
				t.Error(err)
			}
		}
		if tried != 3 {
			t.Errorf("tried %d times, one after the other", tried)
		}
	})
}

// TestRepairHangs: a repair whose registry never answers holds up the starts of a minute. Then what is there runs, for all that come
// while it goes on, and when it has failed.
func TestRepairHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context, _ process.Spec) (*process.Process, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		r := New(Options{Dir: dir, Start: hangs})
		p := plan{key: "key", request: request{name: "pkg", spec: "1.0.0"}}
		if err := makeFolder(r.store.folder(p.key, "id")); err != nil {
			t.Fatal(err)
		}
		if err := r.store.write(p.key, record{Installs: []install{{ID: "id", Name: p.name, Version: p.spec}}}); err != nil {
			t.Fatal(err)
		}
		r.damaged["key/id"] = true
		e := r.Entry(EntryOptions{})
		start := func() time.Duration {
			begun := time.Now()
			rec, end, err := e.begin(t.Context(), p)
			if err != nil || !rec.has("id") {
				t.Fatalf("%+v, %v", rec, err)
			}
			end()
			return time.Since(begun)
		}
		for i, want := range []time.Duration{repairWait, 0, 0} {
			if took := start(); took != want {
				t.Errorf("start %d waited for %v, want %v", i, took, want)
			}
		}
		time.Sleep(installTimeout - repairWait)
		synctest.Wait() // the repair has failed, and no other is due
		if took := start(); took != 0 || e.Doing() != "" {
			t.Errorf("after it: waited for %v, does %q", took, e.Doing())
		}
		r.Stop()
		r.Wait()
	})
}
