package stdio_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// TestBackoff holds how long starts wait after processes that ended before they were asked anything but their first message: longer and
// longer, up to 30 s, until one has lived for a minute. Such an end counts towards the breaker, and to be refused meanwhile does not.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := make(chan time.Duration, 1) // of the next process, after its answer; negative: it ends instead of an answer
		pool := stdio.NewPool(stdio.PoolOptions{Name: "server", Start: func(context.Context) (stdio.Process, func(), error) {
			return mcptest.NewStdio(func(s *mcptest.Stdio) {
				r, _ := s.Next()
				lives := <-life
				if lives < 0 {
					s.End("exit status 1")
				}
				s.Result(r, `{}`)
				time.Sleep(lives + time.Millisecond) // so that the answer is read before its end
				s.End("exit status 1")
			}), nil, nil
		}})
		defer pool.Close()
		initialize := []byte(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`)
		var m mcp.Message
		if err := mcp.Scan(initialize, &m); err != nil {
			t.Fatal(err)
		}
		const s = time.Second
		for n, c := range []struct{ lives, waits time.Duration }{ // waits is before it
			{0, 0}, {0, 0}, {0, s}, {0, 2 * s}, {-1, 4 * s}, {0, 8 * s}, {0, 16 * s}, {59 * s, 30 * s}, {60 * s, 30 * s}, {0, 0}, {0, 0}, {0, s},
		} {
			begun := time.Now()
			life <- c.lives
			l, _, f := pool.Open(t.Context(), initialize, &m, func([]byte, *mcp.Message) {})
			if f != nil && f.RetryAfter > 0 {
				if f.Reason != mcp.ReasonStartFailed || !f.Counted || f.RetryAfter != c.waits {
					t.Errorf("%d: refused with %+v, want a wait of %v", n, f, c.waits)
				}
				time.Sleep(f.RetryAfter) // false time
				l, _, f = pool.Open(t.Context(), initialize, &m, func([]byte, *mcp.Message) {})
			}
			if took := time.Since(begun); took != c.waits {
				t.Errorf("%d: it was started after %v, want %v", n, took, c.waits)
			}
			switch {
			case c.lives < 0 && (f == nil || f.Reason != mcp.ReasonStartFailed || f.Counted):
				t.Errorf("%d: %+v", n, f)
			case c.lives >= 0 && f != nil:
				t.Fatalf("%d: %v", n, f)
			case f == nil:
				<-l.Ended()
			}
		}
	})
}

// endings counts what a pool tells of ends, and checks that it tells under no lock, and before who has the process learns of the end.
type endings struct {
	t        *testing.T
	server   legacyServer
	pool     *stdio.Pool
	sessions []*opened
	told     int
}

func newEndings(t *testing.T) *endings {
	e := &endings{t: t}
	e.pool = e.server.pool(t, func(o *stdio.PoolOptions) { o.Replaced = e.ended })
	return e
}

func (e *endings) ended() {
	e.pool.Status() // takes the lock
	known := 0
	for _, s := range e.sessions {
		select {
		case <-s.Ended():
			known++
		default:
		}
	}
	if known != e.told {
		e.t.Errorf("%d ends are known to sessions when %d have been told of", known, e.told)
	}
	e.told++
}

// open opens a session, and ends its process where how says so.
func (e *endings) open(how string) {
	s := open(e.t, e.pool, "a")
	e.sessions = append(e.sessions, s)
	if how != "" {
		e.end(s.number, how)
	}
}

func (e *endings) end(number int, how string) {
	e.server.process(number).End(how)
	synctest.Wait()
}

// TestEnded holds which ends are told of: of processes that agents had, and that ended by themselves.
func TestEnded(t *testing.T) {
	for _, c := range []struct {
		what string
		run  func(e *endings)
		told int
	}{
		{"killed", func(e *endings) { e.open("signal: killed") }, 1},
		{"each of two", func(e *endings) { e.open("exit status 0"); e.open("exit status 1") }, 2},
		{"closed stdout, and the end after that", func(e *endings) {
			e.open("")
			e.server.process(0).CloseStdout()
			time.Sleep(time.Second) // false time
			e.end(0, "exit status 0")
		}, 1},
		{"a spare, and the session whose it would have been", func(e *endings) { e.open(""); e.end(1, "exit status 1"); e.open("exit status 1") }, 1},
		{"a spare", func(e *endings) { e.open(""); e.end(1, "exit status 1") }, 0},
		{"released", func(e *endings) { e.open(""); e.sessions[0].Release(); synctest.Wait() }, 0},
		{"released, and slow to end", func(e *endings) {
			e.open("")
			e.server.process(0).IgnoreStop = true
			e.sessions[0].Release()
			time.Sleep(time.Second) // false time
			e.end(0, "exit status 0")
		}, 0},
		{"unused", func(e *endings) { e.open(""); time.Sleep(time.Hour) }, 0}, // false time
		{"closed pool", func(e *endings) { e.open(""); e.pool.Close() }, 0},
		{"no answer", func(e *endings) {
			e.server.slow = time.Second
			go func() { time.Sleep(time.Millisecond); e.end(0, "exit status 1") }()
			if _, f := tryOpen(e.t.Context(), e.pool, "a"); f == nil {
				e.t.Error("it has started")
			}
		}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEndings(t)
				c.run(e)
				if e.told != c.told {
					t.Errorf("told of %d ends, want %d", e.told, c.told)
				}
			})
		})
	}
}

// TestReplacedOnDisk holds that a process with something else on disk is told of, before its agent has it, and those after it are not.
func TestReplacedOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x legacyServer
		version, told := "1", 0
		var p *stdio.Pool
		p = x.pool(t, func(o *stdio.PoolOptions) {
			o.OnDisk = func() string { return version }
			o.Replaced = func() {
				p.Status() // takes the lock
				told++
			}
		})
		for n, c := range []struct {
			version string
			told    int
		}{{"1", 0}, {"1", 0}, {"2", 1}, {"2", 1}, {"", 1}, {"2", 1}, {"", 1}, {"1", 2}} {
			version = c.version
			if open(t, p, "a"); told != c.told {
				t.Errorf("process %d: told %d times, want %d", n, told, c.told)
			}
		}
	})
}

// TestReplacedOnDiskModern holds the same of processes of the modern era.
func TestReplacedOnDiskModern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version, told := "1", 0
		onDisk := func() string { return version }
		x := hanging(0)
		answers := x.on
		x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "prompts/list" {
				s.CloseStdout()
			}
			return answers(s, r)
		}
		u, _ := newUpstream(t, x, func(po *stdio.PoolOptions, o *stdio.Options) {
			po.OnDisk, o.OnDisk, po.Replaced = onDisk, onDisk, func() { told++ }
		})
		want := 0
		for n, next := range []string{"1", "2", "2"} {
			if version != next {
				want++
			}
			version = next
			if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
				t.Fatal(f)
			}
			if told != want {
				t.Errorf("process %d: told %d times, want %d", n, told, want)
			}
			if _, f := do(u, t.Context(), request("2", "prompts/list", "")); f == nil { // its process ends by itself
				t.Error("it has not ended")
			}
			want++
		}
	})
}

// TestEndedModern holds that the end of a process of the modern era is told of, before its agents hear of it, and that of one that does
// not answer any more, too, which the pool ends.
func TestEndedModern(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		x := hanging(0)
		answers := x.on
		x.on = func(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
			if r.Method == "prompts/list" {
				s.End("exit status 1")
			}
			return answers(s, r)
		}
		u, _ := newUpstream(t, x, func(po *stdio.PoolOptions, _ *stdio.Options) { po.Replaced = func() { told.Add(1) } })
		leave(t, u, mcp.GiveUpAfter)
		time.Sleep(time.Minute) // false time
		if n := told.Load(); n != 1 {
			t.Errorf("it hung: told of %d ends", n)
		}
		if _, f := do(u, t.Context(), request("1", "prompts/list", "")); f == nil || told.Load() != 2 {
			t.Errorf("it ended: %v, told of %d ends", f, told.Load())
		}
	})
}

// TestJunkIsLogged holds that lines which are no message are counted, and logged once a minute with the first 200 bytes of one.
func TestJunkIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
			go func() { // so that it reads meanwhile
				for _, pause := range []time.Duration{0, 0, 0, 59 * time.Second, time.Second, time.Second} {
					time.Sleep(pause) // false time
					s.Write("%s\n", strings.Repeat("x", 300))
				}
			}()
		}}
		u, pool := newUpstream(t, x, func(p *stdio.PoolOptions, _ *stdio.Options) {
			p.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		if _, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil {
			t.Fatal(f)
		}
		time.Sleep(2 * time.Minute) // false time
		if n := pool.Status().Junk; n != 6 {
			t.Errorf("%d lines, want 6", n)
		}
		pool.Close()
		shown := " first_bytes=" + strings.Repeat("x", 200) + "\n"
		lines := strings.SplitAfter(log.String(), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], " lines=1"+shown) || !strings.HasSuffix(lines[1], " lines=4"+shown) {
			t.Errorf("logged:\n%s", log.String())
		}
	})
}

// held is a process whose stdout a child of it holds open after its end.
type held struct {
	*mcptest.Stdio
	leader chan struct{} // closed when it has ended
}

func (p held) Done() <-chan struct{} { return p.leader }
func (p held) Exit() string          { return "exit status 7" }

// TestStdoutIsHeld holds that the end of a process ends its calls, also where no end of its stdout comes; what it wrote last is read.
func TestStdoutIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := held{leader: make(chan struct{})}
		p.Stdio = mcptest.NewStdio(func(s *mcptest.Stdio) {
			for {
				r, ok := s.Next()
				switch {
				case !ok:
					return
				case r.Params.Name == "last":
					close(p.leader)
					time.Sleep(10 * time.Millisecond) // its child has the rest of it to write
					s.Result(r, `{"resultType":"complete"}`)
				case r.Method != "tools/call":
					s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
				}
			}
		})
		u, _ := newUpstream(t, &server{}, func(po *stdio.PoolOptions, _ *stdio.Options) {
			po.Start = func(context.Context) (stdio.Process, func(), error) { return p, nil, nil }
		})
		ended := make(chan *mcp.Failure)
		go func() {
			_, f := do(u, t.Context(), request("1", "tools/call", `"name":"x",`))
			ended <- f
		}()
		synctest.Wait()
		begun := time.Now()
		if res, f := do(u, t.Context(), request("2", "tools/call", `"name":"last",`)); f != nil || res.Status != 200 {
			t.Errorf("what was written at its end: %+v, %v", res, f)
		}
		f := <-ended
		if took := time.Since(begun); f == nil || f.Reason != mcp.ReasonBrokeOff || !strings.Contains(f.Message, "exit status 7") || took > time.Second {
			t.Errorf("%v after %v", f, took)
		}
	})
}
