package listener

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

func TestEndWithTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := func(s *fakeStream) (*mcp.Result, error) {
			<-s.ctx.Done()
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
		}
		r := newRig(t, &server{listen: stuck}, false)
		r.Stored(modernCall("u"), partitionOf(1)) // waits for the head of the answer
		r.wantOpen(0)
		r.server.change(func() { r.server.listen = nil })
		r.Stored(modernCall("u"), partitionOf(2)) // reads
		r.Stored(modernCall(""), partitionOf(3))  // reads, too
		r.wantOpen(2)
		r.server.change(func() { r.server.listen = func(*fakeStream) (*mcp.Result, error) { return nil, errBroke } })
		r.Stored(modernCall("u"), partitionOf(4)) // pauses
		r.wantOpen(2)
		r.server.change(func() { r.server.listen = func(*fakeStream) (*mcp.Result, error) { return jsonAnswer(404, ""), nil } })
		r.Stored(modernCall("u"), partitionOf(5)) // was refused
		synctest.Wait()
		before := r.server.log()
		r.Close()
		r.wantOpen(0)
		r.Stored(modernCall("u"), partitionOf(6))
		if r.get(partitionOf(6)) != nil {
			t.Error("it subscribes after the end")
		}
		r.wantLog(before)
	})
}

func TestNeverBlock(t *testing.T) {
	server := &server{}
	server.discover = func(ctx context.Context) (*mcp.Result, error) {
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
	}
	listenerTest(t, server, func(r *rig) {
		for i := range 100 {
			r.Stored(modernCall(fmt.Sprint(i)), partitionOf(i%40))
			r.Touched(partitionOf(i % 40))
			r.Refused(partitionOf(i % 20))
		}
		if d := time.Since(server.start); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// Everything at once, over and over, on false time: the limits hold at every moment and everything ends.
func TestUnderLoad(t *testing.T) {
	server := &server{}
	server.listen = func(s *fakeStream) (*mcp.Result, error) {
		switch s.call.ID()[15] % 4 { // by chance
		case 0:
			return nil, errBroke
		case 1:
			s.over <- io.EOF
		}
		return s.open(), nil
	}
	listenerTest(t, server, func(r *rig) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 300 {
					principal := partitionOf((g*7 + i) % 48)
					switch i % 3 {
					case 0:
						r.Stored(modernCall(fmt.Sprint("u", i)), principal)
					case 1:
						r.Touched(principal)
					case 2:
						r.Refused(principal)
					}
					<-time.After(time.Duration(g+1) * time.Second)
					if n := r.partitions(); n > maxPartitions {
						t.Errorf("%d partitions are known", n)
					}
				}
			})
		}
		wg.Wait()
		if n := r.Streams(); n > maxPartitions {
			t.Errorf("%d streams are open", n)
		}
		r.at(time.Since(server.start) + 10*time.Minute)
		r.wantOpen(0)
	})
}

func BenchmarkTouched(b *testing.B) { // the price of every request
	r := newRig(b, &server{}, false)
	for i := range 32 {
		r.Stored(modernCall(""), partitionOf(i))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			r.Touched(partitionOf(i & 31))
		}
	})
	r.end()
	r.Close()
}

func BenchmarkStored(b *testing.B) { // the price of a stored answer of a known partition
	r := newRig(b, &server{}, false)
	c := modernCall("file:///a")
	r.Stored(c, partitionOf(1))
	b.ReportAllocs()
	for b.Loop() {
		r.Stored(c, partitionOf(1))
	}
	r.end()
	r.Close()
}
