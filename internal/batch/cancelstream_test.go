package batch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// begunAnswers are the answers that go on after the leader has them, by what they are. Each ends when its end is closed.
var begunAnswers = map[string]func(ctx context.Context, c *mcp.Call, end <-chan struct{}) *mcp.Result{
	"a stream for the leader": begunStream,
	"a stream with one answer": func(ctx context.Context, c *mcp.Call, end <-chan struct{}) *mcp.Result {
		res, events := shareable(c, "1"), begunStream(ctx, c, end)
		res.Header, res.Events = events.Header, events.Events
		return res
	},
	"a large body": func(_ context.Context, _ *mcp.Call, end <-chan struct{}) *mcp.Result {
		return &mcp.Result{Status: 200, Header: http.Header{}, Raw: io.NopCloser(&begun{text: strings.NewReader("{"), end: end})}
	},
}

func begunStream(ctx context.Context, c *mcp.Call, end <-chan struct{}) *mcp.Result {
	text := `data: {"jsonrpc":"2.0","method":"notifications/message"}` + "\n\n"
	res := stream(ctx, c, text, nil, new(atomic.Int64))
	res.Events.(*script).reader = mcp.NewEventReader(&begun{text: strings.NewReader(text), end: end}, nil, 1<<20)
	res.Events.(*script).end = io.EOF
	return res
}

// begun is a text that does not end before end is closed.
type begun struct {
	text io.Reader
	end  <-chan struct{}
}

func (b *begun) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err == io.EOF {
		<-b.end
	}
	return n, err
}

// next reads what has come of an answer: its next event or byte.
func next(res *mcp.Result) error {
	if res.Events != nil {
		_, err := res.Events.Next()
		return err
	}
	_, err := res.Raw.Read(make([]byte, 1))
	return err
}

// TestCancelBegun: a cancellation of a call of which the answer has begun goes to the server under the flight's id, before
// the first event and after it; once the answer is closed it goes as it is. The answer goes on: it is the server's to end.
func TestCancelBegun(t *testing.T) {
	for name, give := range begunAnswers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := make(chan struct{})
				r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
					return give(ctx, c, end), nil
				})
				res, err := r.Call(context.Background(), list(`"a"`))
				if err != nil {
					t.Fatal(err)
				}
				named := cancelBody(r.flight(0))
				r.cancels(t, cancelCall(cancelBody(`"a"`)), named)
				if err := next(res); err != nil {
					t.Fatalf("the answer broke off: %v", err)
				}
				r.cancels(t, cancelCall(cancelBody(`"\u0061"`)), named)
				r.cancels(t, cancelCall(cancelBody(`"b"`)), cancelBody(`"b"`))
				close(end)
				if err := next(res); err != io.EOF {
					t.Fatalf("the answer ended with %v", err)
				}
				if err := res.Close(); err != nil {
					t.Error(err)
				}
				r.cancels(t, cancelCall(cancelBody(`"a"`)), cancelBody(`"a"`))
				r.Wait()
			})
		})
	}
}

// TestCancelBegunBytes: all bytes of the notification but those of the id go on as they are.
func TestCancelBegunBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return begunStream(ctx, c, nil), nil
		})
		res, err := r.Call(context.Background(), list("7"))
		if err != nil {
			t.Fatal(err)
		}
		const body = ` { "params" : {"x":[1, 7],"requestId" : %s , "_meta":{"k":7}, "reason":"7"},` + "\n" +
			`"method":"notifications\/cancelled" , "jsonrpc":"2.0" } `
		r.cancels(t, cancelCall(fmt.Sprintf(body, "7")), fmt.Sprintf(body, r.flight(0)))
		if err := res.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCancelBegunOthers: what is asked by itself, by followers and by modern clients is not known under a flight's id.
func TestCancelBegunOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if err := after(ctx, time.Second); err != nil {
				return nil, err
			}
			return begunStream(ctx, c, end), nil
		})
		modern := list("2")
		modern.Era, modern.Flight = mcp.EraModern, mcp.FlightKey{9}
		answers := []<-chan got{r.waits(list("0")), r.waits(list("1")), r.waits(modern)}
		<-time.After(3 * time.Second) // the follower of a stream has gone by itself, and has its own
		r.cancels(t, cancelCall(cancelBody("0")), cancelBody(r.flight(0)))
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
		r.cancels(t, cancelCall(cancelBody("2")), cancelBody("2"))
		close(end)
		for _, answer := range answers {
			if g := <-answer; g.err != nil {
				t.Errorf("call %s got %v", g.id, g.err)
			}
		}
	})
}

// TestCancelBegunEncoded: a leader that asks again by itself, because its answer could not be read, does so under its own
// id.
func TestCancelBegunEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				return &mcp.Result{Status: 200, Body: []byte{0x1f}, Header: http.Header{"Content-Encoding": {"gzip"}}}, nil
			}
			return checked(c, "mine"), after(ctx, time.Second)
		})
		answer := r.waits(list("0"))
		r.cancels(t, cancelCall(cancelBody("0")), cancelBody("0"))
		wantAnswers(t, []got{<-answer}, "mine")
	})
}

// TestCancelBegunIDAgain: an id that comes again while an answer under it has begun is the newer call's, and the older
// one's end takes nothing from it.
func TestCancelBegunIDAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				return begunStream(ctx, c, nil), nil
			}
			return cancelSlowly(5*time.Second)(ctx, c, n)
		})
		first, err := r.Call(context.Background(), list("1"))
		if err != nil {
			t.Fatal(err)
		}
		second := list("1")
		second.Flight = mcp.FlightKey{9}
		answer := r.waits(second)
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody(r.flight(1)))
		wantReleased(t, answer, 0)
		r.Wait()
	})
}

// TestCancelOldFlightBegun: a follower of a flight over its age that leads the next one, and gets a stream there, is known
// under the id of that.
func TestCancelOldFlightBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := newCancelRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if n == 1 {
				return nil, after(ctx, time.Hour)
			}
			return begunStream(ctx, c, end), nil
		})
		cancel, leader := r.leader()
		follower := r.waits(list("1"))
		<-time.After(maxAge + time.Second)
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody(r.flight(1)))
		close(end)
		if g := <-follower; g.err != nil || !strings.Contains(g.body, "notifications/message") {
			t.Errorf("the follower got %+v", g)
		}
		r.cancels(t, cancelCall(cancelBody("1")), cancelBody("1"))
		cancel(nil)
		<-leader
		r.Wait()
	})
}

// TestCancelWhileBeginning: whenever the cancellation of a call that nobody shares comes, before the answer, with it or
// after its start, the server is told under the id that it knows, and once.
func TestCancelWhileBeginning(t *testing.T) {
	for range 500 {
		synctest.Test(t, func(t *testing.T) {
			end := make(chan struct{})
			r := newCancelRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				if err := after(ctx, time.Second); err != nil {
					return nil, err
				}
				return begunStream(ctx, c, end), nil
			})
			answer := r.waits(list("0"))
			<-time.After(time.Second)
			r.call(context.Background(), cancelCall(cancelBody("0")))
			close(end)
			if g := <-answer; g.err != nil {
				t.Errorf("the caller got %v", g.err)
			}
			r.Wait()
			if want := []string{cancelBody(r.flight(0))}; !slices.Equal(r.told, want) {
				t.Errorf("the server was told %q, want %q", r.told, want)
			}
		})
	}
}

// TestCancelTwoFlightsCloses: where the server is told of two flights, what it says to both is closed.
func TestCancelTwoFlightsCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told, closed int
		r := newRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if c.Lane == mcp.LaneNotification {
				told++
				return &mcp.Result{Status: http.StatusAccepted, Release: func() { closed++ }}, nil
			}
			return nil, after(ctx, time.Hour)
		})
		cancel, leader := r.leader()
		follower := make(chan got, 1)
		go func() { follower <- r.call(context.Background(), list("1")) }()
		synctest.Wait()
		cancel(nil)
		<-leader
		<-time.After(maxAge + time.Second)
		r.call(context.Background(), cancelCall(cancelBody("1")))
		synctest.Wait()
		wantReleased(t, follower, maxAge+time.Second)
		if told != 2 || closed != 2 {
			t.Errorf("told %d times, %d answers closed, want 2 and 2", told, closed)
		}
		r.Wait()
	})
}
