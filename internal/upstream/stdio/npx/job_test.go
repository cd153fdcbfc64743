package npx

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
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

// hanging is a resolver in false time whose npm never ends, with a damaged install of a package, and what npm was begun with.
type hanging struct {
	*Resolver
	plan
	entry *Entry
	log   bytes.Buffer // read when nothing runs
	began []string     // the same
}

func newHanging(t *testing.T, dir, spec string) *hanging {
	h := &hanging{plan: plan{key: "key", request: request{name: "pkg", spec: spec}, tools: tools{npm: "npm", node: "/bin/node"}}}
	start := func(ctx context.Context, s process.Spec) (*process.Process, error) {
		h.began = append(h.began, s.Command[1])
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h.Resolver = New(Options{Dir: dir, Start: start, Log: slog.New(slog.NewTextHandler(&h.log, nil))})
	h.entry = h.Entry(EntryOptions{})
	t.Cleanup(func() {
		h.Stop()
		h.Wait()
	})
	if err := makeFolder(h.store.folder(h.key, "id")); err != nil {
		t.Fatal(err)
	}
	if err := h.store.write(h.key, record{Installs: []install{{ID: "id", Name: h.name, Version: "1.0.0"}}}); err != nil {
		t.Fatal(err)
	}
	h.damaged["key/id"] = true
	return h
}

// start begins a use of the install, and returns how long that took.
func (h *hanging) start(t *testing.T) time.Duration {
	t.Helper()
	begun := time.Now()
	rec, end, err := h.entry.begin(t.Context(), h.plan)
	if err != nil || !rec.has("id") {
		t.Fatalf("%+v, %v", rec, err)
	}
	end()
	return time.Since(begun)
}

// TestRepairHangs: a repair whose registry never answers holds up the starts of a minute. Then what is there runs, for all that come
// while it goes on, and when it has failed; they do not say that they wait for it.
func TestRepairHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(t, dir, "1.0.0")
		for i, want := range []time.Duration{repairWait, 0, 0} {
			if took := h.start(t); took != want || h.entry.Doing() != "" {
				t.Errorf("start %d waited for %v, want %v; it is %q", i, took, want, h.entry.Doing())
			}
		}
		time.Sleep(installTimeout - repairWait)
		synctest.Wait() // the repair has failed, and no other is due
		if took := h.start(t); took != 0 || h.entry.Doing() != "" {
			t.Errorf("after it: waited for %v, does %q", took, h.entry.Doing())
		}
	})
}

// TestRepairEndsLook: a look for another version whose registry never answers ends for the repair that a start wants. Nobody is told that
// it failed.
func TestRepairEndsLook(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(t, dir, "^1.0.0")
		look := h.entry.update(h.plan, behind)
		synctest.Wait()
		if again := h.entry.update(h.plan, wait); again != look || look.ended() {
			t.Error("a start did not join the look")
		}
		if took := h.start(t); took != repairWait || !look.ended() {
			t.Errorf("waited for %v, the look has ended: %v", took, look.ended())
		}
		if again := h.entry.update(h.plan, behind); again.urgency != repaired {
			t.Error("the repair is not known as what is under way")
		}
		h.Stop()
		h.Wait()
		if !slices.Equal(h.began, []string{"outdated", "install"}) || strings.Contains(h.log.String(), "WARN") {
			t.Errorf("began %q, the log says\n%s", h.began, &h.log)
		}
		if len(h.failures) > 0 {
			t.Errorf("what was stopped counts as failed: %v", h.failures)
		}
	})
}

// TestStartTooShortForARepair: a start whose own time is over while it waits for a repair says that it was that.
func TestStartTooShortForARepair(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(t, dir, "1.0.0")
		ctx, cancel := context.WithTimeout(t.Context(), repairWait/2)
		defer cancel()
		if _, end, err := h.entry.begin(ctx, h.plan); err != nil || !strings.HasPrefix(h.entry.Doing(), "installing pkg@1.0.0, for 30s") {
			t.Errorf("%v, it is %q", err, h.entry.Doing())
		} else {
			end()
		}
	})
}

// TestStoppedAhead: nothing begins behind a look that the daemon's end has stopped, and the log has no word of it.
func TestStoppedAhead(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(t, dir, "^1.0.0")
		h.key = "another"
		job := h.entry.update(h.plan, ahead)
		synctest.Wait()
		h.Stop()
		<-job.done
		if !slices.Equal(h.began, []string{"outdated"}) || strings.Contains(h.log.String(), "WARN") {
			t.Errorf("began %q, the log says\n%s", h.began, &h.log)
		}
	})
}

// TestAheadTooLong: an install ahead whose registry never answers ends after half an hour, and the log says so.
func TestAheadTooLong(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHanging(t, dir, "2.0.0")
		h.key = "another"
		begun := time.Now()
		<-h.entry.update(h.plan, ahead).done
		if took := time.Since(begun); took != installTimeout || !strings.Contains(h.log.String(), failedForNobody[ahead]) {
			t.Errorf("after %v the log says\n%s", took, &h.log)
		}
		if !strings.Contains(h.log.String(), "a package is being installed") {
			t.Error("the log does not say that it began")
		}
	})
}
