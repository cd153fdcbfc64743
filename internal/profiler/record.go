package profiler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"
)

// Kind is what a profile shows.
type Kind string

// The kinds.
const (
	CPU        Kind = "cpu"        // where the time on processors went
	Heap       Kind = "heap"       // who allocated what is in use now
	Allocs     Kind = "allocs"     // who allocated meanwhile, in use or not
	Block      Kind = "block"      // where goroutines waited: for locks, channels, conditions
	Mutex      Kind = "mutex"      // who held locks for which others waited
	Goroutines Kind = "goroutines" // where all goroutines are now
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{CPU, Heap, Allocs, Block, Mutex, Goroutines} }

// Words returns the names of all kinds, as people list them.
func Words() string {
	var all []string
	for _, k := range Kinds() {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

// State reports whether a kind shows how things are now. The others show what happens over a time.
func (k Kind) State() bool { return k == Heap || k == Goroutines }

// MaxDuration is how long a recording may take.
const MaxDuration = 10 * time.Minute

// The rates while a profile is recorded that needs them.
const (
	// Nanoseconds: of what blocks for longer, everything is counted, of what is shorter a part, and as much more for each. At a
	// thousandth of it a wait costs half a microsecond, which is more than 2 % of a call that has some of them.
	blockRate     = 10_000_000
	mutexFraction = 5 // one in so many waits for a lock is looked at
)

// ErrBusy is the error of a recording that is asked for while another is made.
var ErrBusy = errors.New("another profile is being recorded")

// Recording is a profile as Go writes it.
type Recording struct {
	Kind       Kind      `json:"kind"`
	Started    time.Time `json:"started"`
	DurationMs float64   `json:"durationMs"`       // of a state 0
	Data       []byte    `json:"data"`             // in the format of pprof, packed
	Before     []byte    `json:"before,omitempty"` // what Data had counted before it began; null where it counted from nothing
}

// Recorder records profiles of this process, one at a time. The zero value is ready.
type Recorder struct {
	mu  sync.Mutex
	now string // what is recorded; "": nothing
}

// Record records a profile for so long, at most MaxDuration; a state is looked at at once. It ends early, with the cause of ctx's end
// and without a profile, where nobody wants it any more. The error is ErrBusy with the reason where another is recorded.
func (r *Recorder) Record(ctx context.Context, kind Kind, d time.Duration) (*Recording, error) {
	record := recorders[kind]
	switch {
	case record == nil:
		return nil, fmt.Errorf("no kind of profile %q: there are %s", kind, Words())
	case kind.State():
		d = 0
	case d <= 0 || d > MaxDuration:
		return nil, fmt.Errorf("a profile of %s takes more than nothing and at most %v, not %v", kind, MaxDuration, d)
	}
	if err := r.begin(kind, d); err != nil {
		return nil, err
	}
	defer r.end()
	made := &Recording{Kind: kind, Started: time.Now().UTC()}
	err := record(made, func() error { return wait(ctx, d) })
	if !kind.State() {
		made.DurationMs = float64(time.Since(made.Started).Microseconds()) / 1000
	}
	return made, err
}

// begin takes the place of the one profile.
func (r *Recorder) begin(kind Kind, d time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != "" {
		return fmt.Errorf("%w: %s; try again when that has ended", ErrBusy, r.now)
	}
	r.now = fmt.Sprintf("%s since %s, for %v", kind, time.Now().Format(time.TimeOnly), d)
	return nil
}

func (r *Recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = ""
}

// recorders record each kind: they switch on what it needs, wait, and switch it off again.
var recorders = map[Kind]func(made *Recording, wait func() error) error{
	CPU:        recordCPU,
	Heap:       recordHeap,
	Allocs:     recordAllocs,
	Block:      recordBlock,
	Mutex:      recordMutex,
	Goroutines: recordGoroutines,
}

func recordCPU(made *Recording, wait func() error) error {
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil { // of who is not a Recorder
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	err := wait()
	pprof.StopCPUProfile()
	made.Data = b.Bytes()
	return err
}

// recordHeap has the collector run first: the profile is as of the last time that it did.
func recordHeap(made *Recording, _ func() error) (err error) {
	runtime.GC()
	made.Data, err = lookUp("heap")
	return err
}

func recordGoroutines(made *Recording, _ func() error) (err error) {
	made.Data, err = lookUp("goroutine")
	return err
}

// recordAllocs has the collector run at both ends: allocations are counted when it has.
func recordAllocs(made *Recording, wait func() error) error {
	runtime.GC()
	return difference(made, "allocs", func() error {
		err := wait()
		runtime.GC()
		return err
	})
}

func recordBlock(made *Recording, wait func() error) error {
	return difference(made, "block", func() error {
		runtime.SetBlockProfileRate(blockRate)
		defer runtime.SetBlockProfileRate(0)
		return wait()
	})
}

// recordMutex finds no lock that has had waiters at all times since before it began: Go's runtime hands on from one waiter to the next
// that the first of them has no time (runtime/sema.go, queue and dequeue). Those waiters are in a profile of Block.
func recordMutex(made *Recording, wait func() error) error {
	return difference(made, "mutex", func() error {
		runtime.SetMutexProfileFraction(mutexFraction)
		defer runtime.SetMutexProfileFraction(0)
		return wait()
	})
}

// difference takes a profile that counts since the process began before and after something.
func difference(made *Recording, name string, meanwhile func() error) (err error) {
	if made.Before, err = lookUp(name); err != nil {
		return err
	}
	if err := meanwhile(); err != nil {
		return err
	}
	made.Data, err = lookUp(name)
	return err
}

func lookUp(name string) ([]byte, error) {
	var b bytes.Buffer
	err := pprof.Lookup(name).WriteTo(&b, 0)
	return b.Bytes(), err
}

// wait waits for a time, or returns the cause of ctx's end.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
