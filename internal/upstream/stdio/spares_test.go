package stdio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// legacyServer is a scripted server of which each process answers initialize by its number, and what it got.
type legacyServer struct {
	slow    time.Duration                         // until it answers
	written func(s *mcptest.Stdio, number int)    // after that; nil: nothing more
	refuses func(params string, number int) error // nil: it refuses nothing

	behind atomic.Int32 // starts that nobody waited for

	mu    sync.Mutex
	all   []*mcptest.Stdio
	lines [][]string
}

func (x *legacyServer) start(context.Context) (stdio.Process, func(), error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number := len(x.all)
	s := mcptest.NewStdio(func(s *mcptest.Stdio) { x.run(s, number) })
	x.all, x.lines = append(x.all, s), append(x.lines, nil)
	return s, nil, nil
}

func (x *legacyServer) startBehind(ctx context.Context) (stdio.Process, func(), error) {
	x.behind.Add(1)
	return x.start(ctx)
}

func (x *legacyServer) run(s *mcptest.Stdio, number int) {
	for {
		r, ok := s.Next()
		if !ok {
			return
		}
		x.mu.Lock()
		x.lines[number] = append(x.lines[number], r.Line)
		x.mu.Unlock()
		if r.Method != "initialize" {
			continue
		}
		pause(s, x.slow)
		if x.refuses != nil && x.refuses(r.Line, number) != nil {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no"}}`+"\n", r.ID)
			continue
		}
		s.Result(r, fmt.Sprintf(`{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"legacy","version":"%d"}}`, number))
		if x.written != nil {
			x.written(s, number)
		}
	}
}

// pause waits, or until the server has ended.
func pause(s *mcptest.Stdio, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.Done():
	}
}

// started returns how many there are, and which of them have not ended.
func (x *legacyServer) started() (n int, living []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range x.all {
		select {
		case <-s.Done():
		default:
			living = append(living, i)
		}
	}
	return len(x.all), living
}

func (x *legacyServer) process(number int) *mcptest.Stdio {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[number]
}

// got returns what a process got.
func (x *legacyServer) got(number int) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.Join(x.lines[number], "")
}

// want checks how many were started, once all is quiet, and which of them live.
func (x *legacyServer) want(t *testing.T, what string, n int, living ...int) {
	t.Helper()
	synctest.Wait()
	if got, alive := x.started(); got != n || !slices.Equal(alive, living) {
		t.Errorf("%s: %d processes were started, of which %v live; want %d, %v", what, got, alive, n, living)
	}
}

func (x *legacyServer) pool(t *testing.T, change func(*stdio.PoolOptions)) *stdio.Pool {
	t.Helper()
	o := stdio.PoolOptions{Name: "server", Start: x.start, StartBehind: x.startBehind, Warm: 1}
	if change != nil {
		change(&o)
	}
	p := stdio.NewPool(o)
	t.Cleanup(p.Close)
	return p
}

// opened is a session of a test's.
type opened struct {
	*stdio.Lease
	number  int    // of its process
	answer  string // to its initialize
	mu      sync.Mutex
	written []string // what came from the process
}

func (o *opened) take(data []byte, _ *mcp.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.written = append(o.written, string(data))
}

func initialize(form string) ([]byte, *mcp.Message) {
	body := []byte(`{"jsonrpc":"2.0","id":"` + form + `","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"` + form + `"}}}`)
	m := new(mcp.Message)
	if err := mcp.Scan(body, m); err != nil {
		panic(err)
	}
	return body, m
}

func tryOpen(ctx context.Context, p *stdio.Pool, form string) (*opened, *mcp.Failure) {
	body, m := initialize(form)
	o := &opened{}
	lease, answer, f := p.Open(ctx, body, m, o.take)
	if f != nil {
		return nil, f
	}
	o.Lease, o.answer = lease, string(answer)
	_, version, _ := strings.Cut(o.answer, `"version":"`)
	if _, err := fmt.Sscan(strings.TrimRight(version, `"}`), &o.number); err != nil {
		o.number = -1
	}
	lease.Leave()
	return o, nil
}

func open(t *testing.T, p *stdio.Pool, form string) *opened {
	t.Helper()
	o, f := tryOpen(t.Context(), p, form)
	if f != nil {
		t.Fatal(f)
	}
	if !strings.Contains(o.answer, `"id":"`+form+`"`) {
		t.Errorf("the answer is not under the id of %s: %s", form, o.answer)
	}
	synctest.Wait() // what begins behind has begun
	return o
}

// TestSpares: behind the first session a process is started that has answered the same initialize and been told no more. The next
// session has it at once, with what it wrote before, and another is started. A process that a session had is nobody's after it.
func TestSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: 3 * time.Second, written: func(s *mcptest.Stdio, number int) {
			s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"from %d"}}`+"\n", number)
		}}
		p := x.pool(t, nil)
		first := open(t, p, "a")
		if first.number != 0 || first.WasSpare() {
			t.Errorf("the first session has process %d", first.number)
		}
		time.Sleep(4 * time.Second)
		x.want(t, "behind the first session", 2, 0, 1)
		if st := p.Status(); st.Spare != 1 || st.Used != 1 || st.WithoutSpares != "" || x.behind.Load() != 1 {
			t.Errorf("%+v, %d started behind", st, x.behind.Load())
		}
		if got := x.got(1); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"initialize"`) {
			t.Errorf("the spare got %q", got)
		}
		begun := time.Now()
		second := open(t, p, "a")
		if took := time.Since(begun); took != 0 || second.number != 1 || !second.WasSpare() {
			t.Errorf("the second session waited %v for process %d", took, second.number)
		}
		if got := strings.Join(second.written, ""); !strings.Contains(got, "from 1") || strings.Contains(got, "from 0") {
			t.Errorf("it got %q", got)
		}
		second.Release()
		time.Sleep(4 * time.Second)
		x.want(t, "behind the second session", 3, 0, 2)
		if third := open(t, p, "a"); third.number != 2 {
			t.Errorf("the third session has process %d", third.number)
		}
	})
}

// TestNoSpares: without `processes.warm` nothing is started ahead.
func TestNoSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Warm = 0 })
		open(t, p, "a")
		x.want(t, "without warm", 1, 0)
	})
}

// TestFormsOfSpares: there are so many spares for each of the four initializes used last, byte for byte.
func TestFormsOfSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Warm, o.Max = 2, 100 })
		for n := range 6 {
			open(t, p, fmt.Sprint("form-", n))
		}
		synctest.Wait()
		if st := p.Status(); st.Spare != 8 || st.Used != 6 {
			t.Errorf("%+v", st)
		}
		if one := open(t, p, "form-0"); one.WasSpare() {
			t.Error("a form that was used longest ago has a spare")
		}
		if one := open(t, p, "form-5"); !one.WasSpare() {
			t.Error("the form used last has none")
		}
	})
}

// TestSpareThatAsks: a spare that sent a request is thrown away, and after two such there are none.
func TestSpareThatAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{written: func(s *mcptest.Stdio, number int) {
			pause(s, time.Second)
			s.Write(`{"jsonrpc":"2.0","id":7,"method":"roots/list"}` + "\n")
		}}
		p := x.pool(t, nil)
		first := open(t, p, "a")
		time.Sleep(10 * time.Second)
		x.want(t, "after two spares that asked", 3, 0)
		if st := p.Status(); st.Spare != 0 || !strings.Contains(st.WithoutSpares, "sends requests") {
			t.Errorf("%+v", st)
		}
		if len(first.written) != 1 || !strings.Contains(first.written[0], "roots/list") {
			t.Errorf("the session got %q", first.written)
		}
		if second := open(t, p, "a"); second.number != 3 {
			t.Errorf("the second session has process %d", second.number)
		}
		time.Sleep(10 * time.Second)
		x.want(t, "for good", 4, 0, 3)
	})
}

// TestUnusedSpares: none is kept for a server that no session uses, and it is kept for one that some do.
func TestUnusedSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.IdleTimeout = time.Minute })
		s := open(t, p, "a")
		for range 5 {
			time.Sleep(50 * time.Second)
			s.Enter()
			s.Leave()
		}
		x.want(t, "in use", 2, 0, 1)
		time.Sleep(61 * time.Second)
		x.want(t, "unused", 2)
		open(t, p, "a")
		x.want(t, "used again", 4, 2, 3)
	})
}

// TestSparesGiveWay: spares count, take no room for which somebody waits, and go before any session's process.
func TestSparesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := &legacyServer{}, &legacyServer{}
		total := &stdio.Total{Max: 4}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Total, o.Max = total, 3 })
		q := y.pool(t, func(o *stdio.PoolOptions) { o.Total = total })
		for _, form := range []string{"a", "b"} {
			open(t, p, form)
		}
		x.want(t, "two sessions", 3, 0, 1, 2) // and a spare for one of them: max
		begun := time.Now()
		open(t, p, "c").Note(true, false)
		x.want(t, "a third one has its room", 4, 0, 2, 3)
		open(t, q, "a").Note(true, false)
		y.want(t, "another server, within total", 1, 0) // without a spare
		if took := time.Since(begun); took != 0 {
			t.Errorf("sessions waited %v", took)
		}
		time.Sleep(time.Second)
		open(t, q, "b") // a process of a session goes: there is no spare
		y.want(t, "and one more", 2, 0, 1)
	})
}

// TestSpareGivesWayWhileItStarts: a start that nobody waits for is given up for one that somebody does, also where its turn has not come.
func TestSpareGivesWayWhileItStarts(t *testing.T) {
	for _, waits := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := &legacyServer{slow: 5 * time.Second}
			var failed error
			p := x.pool(t, func(o *stdio.PoolOptions) {
				o.Max = 2
				if waits {
					o.StartBehind = func(ctx context.Context) (stdio.Process, func(), error) {
						<-ctx.Done()
						failed = ctx.Err()
						return nil, nil, failed
					}
				}
			})
			open(t, p, "a")
			time.Sleep(time.Second)
			if second := open(t, p, "b"); second.number != map[bool]int{true: 1, false: 2}[waits] {
				t.Errorf("the second session has process %d", second.number)
			}
			if waits && !errors.Is(failed, context.Canceled) {
				t.Errorf("the spare's start ended with %v", failed)
			}
		})
	}
}

// TestSpareThatStarts: who needs a process of which one is just being started ahead waits for that, if its turn has come.
func TestSpareThatStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: 5 * time.Second}
		p := x.pool(t, nil)
		open(t, p, "a")
		time.Sleep(4 * time.Second)
		begun := time.Now()
		second := open(t, p, "a")
		if took := time.Since(begun); took != time.Second || second.number != 1 {
			t.Errorf("the second session waited %v for process %d", took, second.number)
		}
		time.Sleep(6 * time.Second)
		x.want(t, "behind it", 3, 0, 1, 2)
	})
}

// TestSpareThatIsWaitedFor: a start that somebody waits for by now gives way to nobody.
func TestSpareThatIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: 5 * time.Second}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Max = 2 })
		open(t, p, "a").Note(true, false)
		second := make(chan *mcp.Failure)
		go func() {
			_, f := tryOpen(t.Context(), p, "a")
			second <- f
		}()
		synctest.Wait()
		go tryOpen(t.Context(), p, "b")
		if f := <-second; f != nil {
			t.Errorf("the second session: %v", f)
		}
		time.Sleep(time.Minute)
	})
}

// TestSparesOneByOne: the spares of a server start one after the other.
func TestSparesOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: time.Second}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Warm = 3 })
		for n := range 3 {
			open(t, p, "a")
			open(t, p, "b")
			if st := p.Status(); st.Processes > st.Used+st.Spare+1 {
				t.Errorf("after %d sessions: %+v", 2*n, st)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if st := p.Status(); st.Spare != 6 {
			t.Errorf("%+v", st)
		}
	})
}

// TestSpareBehindOthers: a spare whose turn has not come is not waited for.
func TestSpareBehindOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		turn := make(chan struct{})
		p := x.pool(t, func(o *stdio.PoolOptions) {
			o.StartBehind = func(ctx context.Context) (stdio.Process, func(), error) {
				<-turn
				return x.start(ctx)
			}
		})
		for n := range 3 {
			if one := open(t, p, "a"); one.number != n {
				t.Errorf("session %d has process %d", n, one.number)
			}
		}
		close(turn)
		x.want(t, "in its turn", 4, 0, 1, 2, 3)
	})
}

// TestSparesOfWhatEnds: a server whose processes end by themselves gets none ahead until one has stayed for a minute.
func TestSparesOfWhatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{written: func(s *mcptest.Stdio, number int) {
			if number == 1 {
				s.End("signal: killed")
			}
		}}
		p := x.pool(t, nil)
		open(t, p, "a")
		x.want(t, "a spare that ended", 2, 0)
		if st := p.Status(); !strings.Contains(st.WithoutSpares, "end by themselves") {
			t.Errorf("%+v", st)
		}
		open(t, p, "a")
		x.want(t, "the next session", 3, 0, 2)
		time.Sleep(time.Minute)
		open(t, p, "a")
		x.want(t, "a minute later", 5, 0, 2, 3, 4)
	})
}

// TestSparesOfWhatRefuses: an initialize that a process refuses is not said to another one ahead.
func TestSparesOfWhatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{refuses: func(_ string, number int) error {
			if number == 0 || number == 2 {
				return errors.New("no")
			}
			return nil
		}}
		p := x.pool(t, nil)
		if one := open(t, p, "a"); one.number != -1 {
			t.Errorf("process %d", one.number)
		}
		x.want(t, "refused to a session", 1, 0)
		open(t, p, "a")
		x.want(t, "refused ahead", 3, 0, 1)
	})
}

// TestSpareOfAnotherFile: a spare of what is not on disk any more is nobody's.
func TestSpareOfAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		var version atomic.Int64
		p := x.pool(t, func(o *stdio.PoolOptions) { o.OnDisk = func() string { return fmt.Sprint(version.Load()) } })
		first := open(t, p, "a")
		x.want(t, "a session and a spare", 2, 0, 1)
		version.Add(1)
		if first.Outdated() {
			t.Error("outdated before another process runs")
		}
		one := open(t, p, "a")
		if one.number < 2 {
			t.Errorf("the session after the change has process %d", one.number)
		}
		x.want(t, "after the change", 4, 0, 2, 3)
		if !first.Outdated() || one.Outdated() {
			t.Errorf("outdated: the session of before %v, of after %v", first.Outdated(), one.Outdated())
		}
	})
}

// TestOutdatedByStart: which process is of before a change goes by when they were started, not by which has answered last.
func TestOutdatedByStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: 10 * time.Second}
		var version atomic.Int64
		p := x.pool(t, func(o *stdio.PoolOptions) {
			o.Warm, o.OnDisk = 0, func() string { return fmt.Sprint(version.Load()) }
		})
		before := make(chan *opened, 1)
		go func() {
			o, f := tryOpen(t.Context(), p, "a")
			if f != nil {
				t.Error(f)
			}
			before <- o
		}()
		synctest.Wait()
		x.slow = 0
		version.Add(1)
		after := open(t, p, "b")
		if first := <-before; !first.Outdated() || after.Outdated() {
			t.Errorf("outdated: what began before the change and answered after it %v, what began after it %v", first.Outdated(), after.Outdated())
		}
	})
}

// TestSpareThatWrites: a spare that writes more than its session would get is thrown away, and after two such there are none. It has not
// ended by itself: other starts are not held back for it. The process of a session may write as much.
func TestSpareThatWrites(t *testing.T) {
	for what, c := range map[string]struct{ messages, size, spares int }{
		"too many bytes":    {100, 1000, 0},
		"too many messages": {257, 1, 0},
		"as many as may be": {256, 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := &legacyServer{written: func(s *mcptest.Stdio, number int) {
				for range c.messages {
					s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%q}}`+"\n", strings.Repeat("x", c.size))
				}
			}}
			p := x.pool(t, nil)
			first := open(t, p, "a")
			synctest.Wait()
			if len(first.written) != c.messages {
				t.Errorf("%s: the session got %d messages", what, len(first.written))
			}
			st := p.Status()
			if st.Spare != c.spares || (c.spares == 0) != strings.Contains(st.WithoutSpares, "says more") || !p.Stable() {
				t.Errorf("%s: %+v, stable: %v", what, st, p.Stable())
			}
			if c.spares == 0 {
				x.want(t, what, 3, 0)
			} else if second := open(t, p, "a"); second.number != 1 || len(second.written) != c.messages {
				t.Errorf("%s: the next session has process %d, which wrote %d messages", what, second.number, len(second.written))
			}
		})
	}
}

// TestSpareThatWritesSlowly: a spare that writes a little now and then is renewed when it has written what is kept, however often.
func TestSpareThatWritesSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{written: func(s *mcptest.Stdio, _ int) {
			for {
				pause(s, 4*time.Second)
				select {
				case <-s.Done():
					return
				default:
					s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"alive"}}` + "\n")
				}
			}
		}}
		p := x.pool(t, nil)
		first := open(t, p, "a")
		for range 12 { // an hour, in which 900 messages come
			time.Sleep(5 * time.Minute)
			first.Enter()
			first.Leave()
		}
		x.want(t, "after an hour", 5, 0, 4)
		if st := p.Status(); st.Spare != 1 || st.WithoutSpares != "" {
			t.Errorf("%+v", st)
		}
	})
}

// stamped is a process that says what was on disk when it was started.
type stamped struct {
	*mcptest.Stdio
	onDisk string
}

func (s stamped) OnDisk() string { return s.onDisk }

// TestInstalledByTheStart: what a start installs does not make the process another one than those that are started after it.
func TestInstalledByTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		var onDisk atomic.Value
		onDisk.Store("nothing")
		var replaced, initialized atomic.Int32
		start := func(ctx context.Context) (stdio.Process, func(), error) {
			time.Sleep(time.Minute)
			onDisk.Store("version 1")
			p, settled, err := x.start(ctx)
			return stamped{p.(*mcptest.Stdio), "version 1"}, settled, err
		}
		p := x.pool(t, func(o *stdio.PoolOptions) {
			o.Start, o.StartBehind, o.Handshake = start, start, 2*time.Minute
			o.OnDisk, o.Replaced = func() string { return onDisk.Load().(string) }, func() { replaced.Add(1) }
			o.Initialized = func(_ []byte, onDisk string, _ []byte) {
				if onDisk == "version 1" {
					initialized.Add(1)
				}
			}
		})
		first := open(t, p, "a")
		time.Sleep(2 * time.Minute)
		second := open(t, p, "a")
		if !second.WasSpare() || first.Outdated() || first.OnDisk() != "version 1" {
			t.Errorf("the second session had a spare: %v; the first one's process is outdated: %v, of %s", second.WasSpare(), first.Outdated(), first.OnDisk())
		}
		if replaced.Load() != 0 || initialized.Load() != 2 {
			t.Errorf("replaced %d times, %d of 2 processes are of the version", replaced.Load(), initialized.Load())
		}
	})
}

// TestEndUnusedSpare ends a spare, and no process that a session has; another spare is started.
func TestEndUnusedSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{}
		p := x.pool(t, nil)
		open(t, p, "a")
		if p.EndUnused(x.process(0)) || !p.EndUnused(x.process(1)) {
			t.Error("a session's process was ended, or the spare was not")
		}
		x.want(t, "another spare", 3, 0, 2)
	})
}

// TestStartsAhead says of which starts the pool tells that somebody waited for them.
func TestStartsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: time.Second}
		var all []string
		p := x.pool(t, func(o *stdio.PoolOptions) {
			o.Started = func(_ stdio.Process, took time.Duration, ahead bool) { all = append(all, fmt.Sprint(took, " ", ahead)) }
		})
		open(t, p, "a")
		time.Sleep(2 * time.Second)
		open(t, p, "a")
		time.Sleep(500 * time.Millisecond)
		open(t, p, "a") // waits for the spare that starts
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := []string{"1s false", "1s true", "1s false", "1s true"}; !slices.Equal(all, want) {
			t.Errorf("got %q", all)
		}
	})
}

// TestSparesUnderLoad: whatever comes in which order, no process is two sessions', and none is left at the end.
func TestSparesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &legacyServer{slow: 10 * time.Millisecond}
		p := x.pool(t, func(o *stdio.PoolOptions) { o.Warm, o.Max, o.IdleTimeout = 2, 12, time.Second })
		var mu sync.Mutex
		had := map[int]bool{}
		var sessions sync.WaitGroup
		for n := range 200 {
			sessions.Go(func() {
				time.Sleep(time.Duration(n*n%97) * 10 * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+n%30)*time.Millisecond)
				defer cancel()
				one, f := tryOpen(ctx, p, fmt.Sprint("form-", n%6))
				if f != nil {
					return // its agent did not wait
				}
				mu.Lock()
				if had[one.number] {
					t.Errorf("process %d has two sessions", one.number)
				}
				had[one.number] = true
				mu.Unlock()
				time.Sleep(time.Duration(n%7) * 20 * time.Millisecond)
				one.Release()
			})
		}
		sessions.Wait()
		if len(had) < 20 {
			t.Errorf("only %d sessions", len(had))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, living := x.started(); len(living) > 0 {
			t.Errorf("of %d processes %v are left", n, living)
		}
	})
}
