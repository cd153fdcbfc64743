package process

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeStarts are Starts of processes that there are not; each start is noted by name.
func fakeStarts(concurrency int, fails func(name string) error) (*Starts, *names) {
	started := &names{}
	s := NewStarts(newGuard(Options{}, usualLadder), concurrency)
	s.look = func(Spec) error { return nil }
	s.start = func(_ context.Context, spec Spec) (*Process, error) {
		started.add(spec.Name)
		if fails != nil {
			return nil, fails(spec.Name)
		}
		return &Process{}, nil
	}
	return s, started
}

type names struct {
	mu  sync.Mutex
	all []string
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, name)
}

// take returns what was added since the last time.
func (n *names) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.all
	n.all = nil
	return all
}

func (n *names) want(t *testing.T, want ...string) {
	t.Helper()
	if got := n.take(); !slices.Equal(got, want) {
		t.Errorf("started %q, want %q", got, want)
	}
}

// TestStartsInOrder holds the number of starts at the same time, and their order.
func TestStartsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, started := fakeStarts(2, nil)
		releases := make(chan func(), 5)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			go func() {
				_, release, err := s.Start(t.Context(), name, Spec{Name: name})
				if err != nil {
					t.Error(err)
				}
				releases <- release
			}()
			synctest.Wait()
		}
		started.want(t, "a", "b")
		release := <-releases
		release()
		release() // once is enough
		synctest.Wait()
		started.want(t, "c")
		time.Sleep(startSlot) // false time: the others have said nothing
		synctest.Wait()
		if got := slices.Sorted(slices.Values(started.take())); !slices.Equal(got, []string{"d", "e"}) { // both at once
			t.Errorf("started %q", got)
		}
		(<-releases)()
		synctest.Wait()
	})
}

// TestStartsGivenUp holds that who leaves the queue takes no slot along.
func TestStartsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, started := fakeStarts(1, nil)
		_, release, err := s.Start(t.Context(), "a", Spec{Name: "a"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.Start(ctx, "b", Spec{Name: "b"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		release()
		if _, release, err = s.Start(t.Context(), "c", Spec{Name: "c"}); err != nil {
			t.Fatal(err)
		}
		release()
		started.want(t, "a", "c")
	})
}

// TestStartsBehind: what nobody waits for starts one after the other, in the order asked, while nothing else starts or waits; what somebody
// waits for does not wait for it, and who leaves its queue takes nothing along.
func TestStartsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, started := fakeStarts(1, nil)
		releases := make(chan func(), 8)
		ask := func(name string, ctx context.Context, how func(context.Context, string, Spec) (*Process, func(), error)) {
			go func() {
				if _, release, err := how(ctx, name, Spec{Name: name}); err == nil {
					releases <- release
				} else if ctx.Err() == nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		left, leave := context.WithCancel(t.Context())
		ask("a", t.Context(), s.Start)
		ask("b", t.Context(), s.Start)
		ask("behind 1", t.Context(), s.StartBehind)
		ask("behind 2", left, s.StartBehind)
		ask("behind 3", t.Context(), s.StartBehind)
		started.want(t, "a")
		(<-releases)()
		synctest.Wait()
		started.want(t, "b")
		(<-releases)()
		synctest.Wait()
		started.want(t, "behind 1")
		ask("c", t.Context(), s.Start)
		started.want(t, "c")
		first, c := <-releases, <-releases
		leave()
		first()
		synctest.Wait()
		started.want(t)
		c()
		synctest.Wait()
		started.want(t, "behind 3")
		time.Sleep(startSlot) // false time: it has said nothing
		ask("behind 4", t.Context(), s.StartBehind)
		started.want(t, "behind 4")
		(<-releases)()
		(<-releases)()
		if s.wanted != 0 || s.behind || len(s.queue) != 0 {
			t.Errorf("left: %d wanted, %v, %d queued", s.wanted, s.behind, len(s.queue))
		}
	})
}

// TestBackoff holds how long a server is not tried again that the system could not start, and that a start that succeeds ends it.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fault error
		s, _ := fakeStarts(1, func(string) error { return fault })
		start := func() error {
			_, release, err := s.Start(t.Context(), "a", Spec{})
			if err == nil {
				release()
			}
			return err
		}
		for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30, -1, 1, 2} {
			if fault = errors.New("no memory"); seconds < 0 {
				fault = nil
			}
			if err := start(); err != fault {
				t.Errorf("got %v, want %v", err, fault)
			}
			if fault == nil {
				continue
			}
			var soon *TooSoonError
			if err := start(); !errors.As(err, &soon) || soon.After != time.Duration(seconds)*time.Second {
				t.Fatalf("got %v, want a wait of %d s", err, seconds)
			}
			time.Sleep(soon.After) // false time
		}
	})
}

// TestCannotRun holds that a program that the system cannot run is tried once a second and says why in between, and that what the caller
// did is remembered of nobody.
func TestCannotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults := map[string]error{"odd": &CommandError{Command: "x", Err: syscall.ENOEXEC}, "full": errors.New("no memory"), "left": context.Canceled}
		s, started := fakeStarts(1, func(name string) error { return faults[name] })
		start := func(name string) error {
			_, release, err := s.Start(t.Context(), name, Spec{Name: name})
			if err == nil {
				release()
			}
			return err
		}
		for name, fault := range faults {
			if err := start(name); err != fault {
				t.Errorf("%s: got %v", name, err)
			}
		}
		started.take()
		if err := start("odd"); err != faults["odd"] {
			t.Errorf("got %v", err)
		}
		var soon *TooSoonError
		if err := start("full"); !errors.As(err, &soon) || soon.After != time.Second {
			t.Errorf("got %v", err)
		}
		started.want(t)
		_ = start("left")
		time.Sleep(time.Second) // false time
		if err := start("odd"); err != faults["odd"] {
			t.Errorf("a second later: %v", err)
		}
		delete(faults, "odd")
		if err := start("odd"); err == nil {
			t.Error("it was tried at once")
		}
		time.Sleep(time.Second) // false time
		if err := start("odd"); err != nil {
			t.Errorf("mended: %v", err)
		}
		started.want(t, "left", "odd", "odd")
	})
}
