package tiertest

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Entry is a key and the one generation that guards it.
type Entry struct {
	Key        tier.Key
	Generation tier.Generation
}

// NewEntry makes an Entry of random names.
func NewEntry() (e Entry) {
	rand.Read(e.Key[:])
	rand.Read(e.Generation[:])
	return e
}

// Lookup asks for the entry.
func (e Entry) Lookup() tier.Lookup {
	return tier.Lookup{Key: e.Key, Generations: []tier.Generation{e.Generation}}
}

// TryRead returns the entry's value and its generation's token.
func TryRead(ctx context.Context, held tier.Tier, e Entry) ([]byte, tier.Token, error) {
	found, err := held.Read(ctx, []tier.Lookup{e.Lookup()})
	if err != nil {
		return nil, 0, err
	}
	return found[0].Value, found[0].Tokens[0], nil
}

// TryWrite stores a value under a token.
func TryWrite(ctx context.Context, held tier.Tier, e Entry, token tier.Token, value []byte, life time.Duration) error {
	return held.Write(ctx, []tier.Write{{Key: e.Key, Value: value, Expires: time.Now().Add(life), Guard: tier.Guard{
		Generations: []tier.Generation{e.Generation}, Tokens: []tier.Token{token},
	}}})
}

// TryStore does what a miss does.
func TryStore(ctx context.Context, held tier.Tier, e Entry, value []byte, life time.Duration) error {
	_, token, err := TryRead(ctx, held, e)
	if err != nil {
		return err
	}
	return TryWrite(ctx, held, e, token, value, life)
}

// Read is TryRead that fails the test on an error.
func Read(t testing.TB, held tier.Tier, e Entry) ([]byte, tier.Token) {
	t.Helper()
	value, token, err := TryRead(t.Context(), held, e)
	if err != nil {
		t.Fatal(err)
	}
	return value, token
}

// Store is TryStore that fails the test on an error.
func Store(t testing.TB, held tier.Tier, e Entry, value []byte) {
	t.Helper()
	if err := TryStore(t.Context(), held, e, value, time.Hour); err != nil {
		t.Fatal(err)
	}
}

// WantValue fails the test where the entry has another value.
func WantValue(t testing.TB, held tier.Tier, e Entry, want string) {
	t.Helper()
	if got, _ := Read(t, held, e); got == nil || string(got) != want {
		t.Fatalf("got %.40q, want %.40q", got, want)
	}
}

// WantNone fails the test where the entry has a value.
func WantNone(t testing.TB, held tier.Tier, e Entry) {
	t.Helper()
	if got, _ := Read(t, held, e); got != nil {
		t.Fatalf("got %.40q, want no Entry", got)
	}
}

// Close closes a tier, and fails the test on an error.
func Close(t testing.TB, held tier.Tier) {
	t.Helper()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}

// Works reports whether an entry can be stored and read.
func Works(t testing.TB, held tier.Tier) bool {
	e := NewEntry()
	if TryStore(t.Context(), held, e, []byte("Works"), time.Hour) != nil {
		return false
	}
	value, _, err := TryRead(t.Context(), held, e)
	return err == nil && string(value) == "Works"
}

// WorksWithin checks that the tier is used again soon after what disturbed it has ended.
func WorksWithin(t testing.TB, held tier.Tier, limit time.Duration) {
	t.Helper()
	took := Stopwatch(t)(func() { Eventually(t, "the tier Works", func() bool { return Works(t, held) }) })
	t.Logf("the tier Works again after %v", took)
	if took > limit {
		t.Errorf("the tier Works again after %v, want %v", took, limit)
	}
}

// ReadNothing asks 2,000 times for what is not there.
func ReadNothing(t testing.TB, held tier.Tier) {
	t.Helper()
	lookups := make([]tier.Lookup, 500)
	for range 4 {
		for i := range lookups {
			lookups[i] = NewEntry().Lookup()
		}
		if _, err := held.Read(t.Context(), lookups); err != nil {
			t.Fatal(err)
		}
	}
}

// Stopwatch returns what says how long a function takes, less how much later than asked the machine ran meanwhile what waited for
// its time: such a time can be held to what a tier promises, on a machine that is busy with other things too. Many may use it at once.
func Stopwatch(t testing.TB) (took func(func()) time.Duration) {
	const beat, usual = 10 * time.Millisecond, time.Millisecond
	var late atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			asked := time.Now()
			select {
			case <-time.After(beat):
			case <-stop:
				return
			}
			if d := time.Since(asked) - beat; d > usual {
				late.Add(int64(d))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return func(f func()) time.Duration {
		start, before := time.Now(), late.Load()
		f()
		return time.Since(start) - time.Duration(late.Load()-before)
	}
}

// Load has four goroutines read and write until stop is called, which returns the longest that a call took, as a Stopwatch has it.
// Calls may fail, but a value that is answered must be the one that was written.
func Load(t testing.TB, held tier.Tier) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	var longest time.Duration
	took := Stopwatch(t)
	for range 4 {
		group.Go(func() {
			e, want := NewEntry(), strings.Repeat("load ", 2000)
			for ctx.Err() == nil {
				var value []byte
				var token tier.Token
				var err error
				read := took(func() { value, token, err = TryRead(ctx, held, e) })
				if err == nil && value != nil && string(value) != want {
					t.Errorf("read what nobody wrote: %.40q", value)
				}
				written := took(func() {
					if err == nil {
						_ = TryWrite(ctx, held, e, token, []byte(want), time.Hour)
					}
				})
				mu.Lock()
				longest = max(longest, read, written)
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

// Timeout is how long a test waits for what must come.
const Timeout = 20 * time.Second

// Eventually tries f until it reports true.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.After(Timeout)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", Timeout, what)
		}
	}
}

// Noise returns random bytes, which do not compress.
func Noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Log is a log that can be asked.
type Log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Logger writes to the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Has reports whether the text was logged.
func (l *Log) Has(text string) bool { return strings.Contains(l.String(), text) }

// String is all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
