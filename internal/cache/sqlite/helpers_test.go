package sqlite_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// entry is a key and the one generation that guards it.
type entry struct {
	key        tier.Key
	generation tier.Generation
}

func newEntry() (e entry) {
	rand.Read(e.key[:])
	rand.Read(e.generation[:])
	return e
}

func (e entry) lookup() tier.Lookup {
	return tier.Lookup{Key: e.key, Generations: []tier.Generation{e.generation}}
}

// tryRead returns the entry's value and its generation's token.
func tryRead(ctx context.Context, held tier.Tier, e entry) ([]byte, tier.Token, error) {
	found, err := held.Read(ctx, []tier.Lookup{e.lookup()})
	if err != nil {
		return nil, 0, err
	}
	return found[0].Value, found[0].Tokens[0], nil
}

func tryWrite(ctx context.Context, held tier.Tier, e entry, token tier.Token, value []byte, life time.Duration) error {
	return held.Write(ctx, []tier.Write{{Key: e.key, Value: value, Expires: time.Now().Add(life), Guard: tier.Guard{
		Generations: []tier.Generation{e.generation}, Tokens: []tier.Token{token},
	}}})
}

// tryStore does what a miss does.
func tryStore(ctx context.Context, held tier.Tier, e entry, value []byte, life time.Duration) error {
	_, token, err := tryRead(ctx, held, e)
	if err != nil {
		return err
	}
	return tryWrite(ctx, held, e, token, value, life)
}

func read(t testing.TB, held tier.Tier, e entry) ([]byte, tier.Token) {
	t.Helper()
	value, token, err := tryRead(t.Context(), held, e)
	if err != nil {
		t.Fatal(err)
	}
	return value, token
}

func store(t testing.TB, held tier.Tier, e entry, value []byte) {
	t.Helper()
	if err := tryStore(t.Context(), held, e, value, time.Hour); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t testing.TB, held tier.Tier, e entry, want string) {
	t.Helper()
	if got, _ := read(t, held, e); got == nil || string(got) != want {
		t.Fatalf("got %.40q, want %.40q", got, want)
	}
}

func wantNone(t testing.TB, held tier.Tier, e entry) {
	t.Helper()
	if got, _ := read(t, held, e); got != nil {
		t.Fatalf("got %.40q, want no entry", got)
	}
}

func closeTier(t testing.TB, held tier.Tier) {
	t.Helper()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}

// works reports whether an entry can be stored and read.
func works(t testing.TB, held tier.Tier) bool {
	e := newEntry()
	if tryStore(t.Context(), held, e, []byte("works"), time.Hour) != nil {
		return false
	}
	value, _, err := tryRead(t.Context(), held, e)
	return err == nil && string(value) == "works"
}

// worksWithin checks that the tier is used again soon after what disturbed it has ended.
func worksWithin(t testing.TB, held tier.Tier, limit time.Duration) {
	t.Helper()
	start := time.Now()
	eventually(t, "the tier works", func() bool { return works(t, held) })
	took := time.Since(start)
	t.Logf("the tier works again after %v", took)
	if took > limit {
		t.Errorf("the tier works again after %v, want %v", took, limit)
	}
}

// load has four goroutines read and write until stop is called, which returns the longest that a call took. Calls may
// fail, but a value that is answered must be the one that was written.
func load(t testing.TB, held tier.Tier) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	var longest time.Duration
	for range 4 {
		group.Go(func() {
			e, want := newEntry(), strings.Repeat("load ", 2000)
			for ctx.Err() == nil {
				start := time.Now()
				value, token, err := tryRead(ctx, held, e)
				middle := time.Now()
				if err == nil && value != nil && string(value) != want {
					t.Errorf("read what nobody wrote: %.40q", value)
				}
				if err == nil {
					_ = tryWrite(ctx, held, e, token, []byte(want), time.Hour)
				}
				mu.Lock()
				longest = max(longest, middle.Sub(start), time.Since(middle))
				mu.Unlock()
			}
		})
	}
	return func() time.Duration {
		cancel()
		group.Wait()
		return longest
	}
}

// testTimeout is how long a test waits for what must come.
const testTimeout = 20 * time.Second

// eventually tries f until it reports true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", testTimeout, what)
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// lines is a log that can be asked.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) has(text string) bool { return strings.Contains(l.String(), text) }

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
