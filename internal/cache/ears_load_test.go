package cache

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestEarsEndWithTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := func(s *earStream) (*mcp.Result, error) {
			<-s.ctx.Done()
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
		}
		r := newEarRig(t, &earServer{listen: stuck}, false)
		r.stored(earCall("u"), earAsker(1)) // waits for the head of two answers
		r.wantStanding(0)
		r.server.change(func() { r.server.listen = nil })
		r.stored(earCall("u"), earAsker(2)) // reads
		r.stored(earCall(""), earAsker(3))  // waits for a uri
		r.wantStanding(3)
		r.server.change(func() { r.server.listen = func(*earStream) (*mcp.Result, error) { return nil, errEarBroke } })
		r.stored(earCall("u"), earAsker(4)) // pauses
		r.wantStanding(3)
		r.server.change(func() { r.server.listen = func(*earStream) (*mcp.Result, error) { return earJSON(404, ""), nil } })
		r.stored(earCall("u"), earAsker(5)) // was declined
		synctest.Wait()
		before := r.server.log()
		r.stop()
		r.wait()
		r.wantStanding(0)
		r.stored(earCall("u"), earAsker(6))
		r.wantLog(before)
	})
}

func TestEarsNeverBlock(t *testing.T) {
	server := &earServer{}
	server.discover = func(ctx context.Context) (*mcp.Result, error) {
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
	}
	earTest(t, server, func(r *earRig) {
		for i := range 100 {
			r.stored(earCall(fmt.Sprint(i)), earAsker(i%40))
			r.touched(earAsker(i % 40))
			r.refused(earAsker(i % 20))
		}
		if d := time.Since(server.start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// Everything at once, over and over, on false time: the limits hold at every moment and everything ends.
func TestEarsUnderLoad(t *testing.T) {
	server := &earServer{}
	server.listen = func(s *earStream) (*mcp.Result, error) {
		switch s.call.ID()[15] % 4 { // by chance
		case 0:
			return nil, errEarBroke
		case 1:
			s.over <- io.EOF
		}
		return s.open(), nil
	}
	earTest(t, server, func(r *earRig) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 300 {
					asker := earAsker((g*7 + i) % 48)
					switch i % 3 {
					case 0:
						r.stored(earCall(fmt.Sprint("u", i)), asker)
					case 1:
						r.touched(asker)
					case 2:
						r.refused(asker)
					}
					<-time.After(time.Duration(g+1) * time.Second)
					if n := len(*r.known.Load()); n > maxEars {
						t.Errorf("%d partitions are known", n)
					}
				}
			})
		}
		wg.Wait()
		if n := r.listening(); n > 2*maxEars {
			t.Errorf("%d streams stand", n)
		}
		r.at(time.Since(server.start) + 10*time.Minute)
		r.wantStanding(0)
	})
}

func BenchmarkEarsTouched(b *testing.B) { // the price of every request
	r := newEarRig(b, &earServer{}, false)
	for i := range 32 {
		r.stored(earCall(""), earAsker(i))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.touched(earAsker(i & 31))
		}
	})
	r.stop()
	r.wait()
}

func BenchmarkEarsStored(b *testing.B) { // the price of a stored answer of a known partition
	r := newEarRig(b, &earServer{}, false)
	c := earCall("file:///a")
	r.stored(c, earAsker(1))
	b.ReportAllocs()
	for b.Loop() {
		r.stored(c, earAsker(1))
	}
	r.stop()
	r.wait()
}
