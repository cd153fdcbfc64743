package dispatch_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// The calls of the tests: of one that may be repeated and one that may not there are requests, and one of each lane.
const (
	listBody      = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	callBody      = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}`
	readBody      = `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}`
	initBody      = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`
	cancelledBody = `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`
	progressBody  = `{"jsonrpc":"2.0","method":"notifications/progress"}`
	responseBody  = `{"jsonrpc":"2.0","id":7,"result":{}}`
	answerBody    = `{"jsonrpc":"2.0","id":1,"result":{}}`
)

// of makes a call of a lane; header is pairs.
func of(lane mcp.Lane, body string, fields ...string) *mcp.Call {
	c := &mcp.Call{Upstream: "files", Lane: lane, Era: mcp.EraLegacy, Header: header.List{}, Conn: "127.0.0.1:1"}
	if body != "" {
		c.Body = []byte(body)
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			panic(err)
		}
	}
	for pair := range slices.Chunk(fields, 2) {
		c.Header.Add(pair[0], pair[1])
	}
	return c
}

func post(body string, fields ...string) *mcp.Call { return of(mcp.LaneRequest, body, fields...) }

// play is what a server does with a call. It calls work where it does what it is asked for.
type play func(ctx context.Context, work func()) (*mcp.Result, error)

// server is a scripted endpoint. It plays its plays in order, the last one for ever.
type server struct {
	mu    sync.Mutex
	plays []play
	calls []*mcp.Call
	times []time.Time
	ran   int // calls of which the work was done
	open  int // results that were not closed
	twice int // results that were closed more than once
}

func newServer(plays ...play) *server { return &server{plays: plays} }

// Call implements mcp.Caller.
func (s *server) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s.mu.Lock()
	now := s.plays[min(len(s.calls), len(s.plays)-1)]
	s.calls = append(s.calls, c)
	s.times = append(s.times, time.Now())
	s.mu.Unlock()
	res, err := now(ctx, s.work)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	closed := false
	release := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if closed {
			s.twice++
		}
		closed = true
		s.open--
	}
	res.Release = release
	return res, nil
}

func (s *server) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ran++
}

// sent is how many calls came, and of how many the work was done.
func (s *server) sent() (calls, ran int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls), s.ran
}

// unclosed is how many results are open.
func (s *server) unclosed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open + s.twice
}

// answers is a whole, good answer.
func answers(_ context.Context, work func()) (*mcp.Result, error) {
	work()
	return says(http.StatusOK)(nil, func() {})
}

// says answers with a status; fields is pairs.
func says(status int, fields ...string) play {
	return func(context.Context, func()) (*mcp.Result, error) {
		h := header.List{}
		for pair := range slices.Chunk(fields, 2) {
			h.Set(pair[0], pair[1])
		}
		return &mcp.Result{Status: status, Header: h, Body: []byte(answerBody)}, nil
	}
}

// fails with this failure.
func fails(f mcp.Failure) play {
	return func(context.Context, func()) (*mcp.Result, error) { return nil, &f }
}

// working does the work before it plays p: an answer that is lost.
func working(p play) play {
	return func(ctx context.Context, work func()) (*mcp.Result, error) {
		work()
		return p(ctx, work)
	}
}

// after plays p later, or fails when the caller leaves.
func after(d time.Duration, p play) play {
	return func(ctx context.Context, work func()) (*mcp.Result, error) {
		select {
		case <-time.After(d):
			return p(ctx, work)
		case <-ctx.Done():
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: context.Cause(ctx)}
		}
	}
}

// hangs until the caller leaves.
func hangs(ctx context.Context, work func()) (*mcp.Result, error) {
	return after(1000*time.Hour, answers)(ctx, work)
}

// The failures of the tests.
var (
	refused        = mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Cause: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	unreachable    = mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Cause: errors.New("no route")}
	noPort         = mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Cause: syscall.EADDRNOTAVAIL}
	badCertificate = mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Cause: &tls.CertificateVerificationError{Err: errDown}}
	noDial         = mcp.Failure{Code: 1504, Reason: mcp.ReasonConnectTimeout, Sent: mcp.SentNo, Silent: true}
	brokeOff       = mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
	cutOff         = mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
	rubbish        = mcp.Failure{Code: 1502, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}
	poolWait       = mcp.Failure{Code: 1429, Reason: mcp.ReasonPoolWait, Sent: mcp.SentNo}
	leaves         = mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown}
)

// givesUp is an agent that leaves after it has waited so long for the first byte.
func givesUp(waited time.Duration, silent bool) mcp.Failure {
	return mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Silent: silent, Waited: waited}
}

func timeoutOf(silent bool) mcp.Failure {
	return mcp.Failure{Code: 1504, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown, Silent: silent}
}

// piece is an event of a stream, or its end.
type piece struct {
	event mcp.Event
	err   error
	wait  time.Duration
}

var (
	comment  = piece{event: mcp.Event{Raw: []byte(": hi\n\n")}}
	priming  = piece{event: mcp.Event{Raw: []byte("id: 1\ndata:\n\n"), ID: []byte("1"), HasID: true, Data: []byte{}}}
	progress = piece{event: mcp.Event{Raw: []byte("data: {}\n\n"), Data: []byte(progressBody)}}
	response = piece{event: mcp.Event{Raw: []byte("data: {}\n\n"), Data: []byte(answerBody), Answer: true}}
)

func (p piece) after(d time.Duration) piece {
	p.wait = d
	return p
}

func ends(err error) piece { return piece{err: err} }

// streams answers with these events, then ends cleanly. The work is done before the response.
func streams(pieces ...piece) play {
	return func(ctx context.Context, work func()) (*mcp.Result, error) {
		return &mcp.Result{Status: http.StatusOK, Header: header.List{}, Events: &script{ctx: ctx, pieces: pieces, work: work}}, nil
	}
}

// script is the stream of a play.
type script struct {
	ctx    context.Context
	pieces []piece
	work   func()
	err    error
}

// Next implements mcp.Events.
func (s *script) Next() (mcp.Event, error) {
	if s.err != nil {
		return mcp.Event{}, s.err
	}
	if len(s.pieces) == 0 {
		s.err = io.EOF
		return mcp.Event{}, s.err
	}
	p := s.pieces[0]
	s.pieces = s.pieces[1:]
	select {
	case <-s.ctx.Done():
		s.err = &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes}
		return mcp.Event{}, s.err
	case <-time.After(p.wait):
	}
	if p.event.Answer {
		s.work()
	}
	s.err = p.err
	return p.event, p.err
}

// Close implements mcp.Events.
func (s *script) Close() error { return nil }

// raws answers with bytes that pass as they come, and end so.
func raws(status int, end error) play {
	return func(context.Context, func()) (*mcp.Result, error) {
		return &mcp.Result{Status: status, Header: header.List{}, Raw: io.NopCloser(io.MultiReader(
			io.LimitReader(zeros{}, 10), broken{end}))}, nil
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// newBreaker is the breaker of an endpoint as the configuration has it by default, but for one number.
func newBreaker(endpoint, inARow int) *breaker.Breaker {
	return breaker.NewEndpoint(breaker.EndpointOptions{
		Upstream: "files", Endpoint: fmt.Sprint(endpoint), Window: 10 * time.Second, MinRequests: 20, FailureRatio: 0.5, InARow: inARow,
	})
}

var errDown = errors.New("connection refused")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pass(d time.Duration) { <-time.After(d) }

// stage is a Stage over servers.
type stage struct {
	*dispatch.Stage
	tb       testing.TB
	servers  []*server
	breakers []*breaker.Breaker
	gate     *admission.Admission
}

// setup are the options of a stage under test. The zero one has a breaker at each endpoint, as many slots as there are calls, two resends and
// a budget of all.
type setup struct {
	dispatch.Options
	noBreaker bool
	inARow    int
	gate      admission.Options // as many as there are calls without MaxInFlight
}

// complete returns options with what the tests need not say.
func complete(o dispatch.Options) dispatch.Options {
	o.Upstream = "files"
	if o.Admission == nil {
		o.Admission = admission.New(admission.Options{Upstream: "files", MaxInFlight: 1 << 20})
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	return o
}

func newStage(tb testing.TB, o setup, servers ...*server) *stage {
	s := &stage{tb: tb, servers: servers}
	for i, server := range servers {
		e := dispatch.Endpoint{Caller: server}
		if !o.noBreaker {
			b := newBreaker(i, cmp.Or(o.inARow, 3))
			e.Breaker, s.breakers = b, append(s.breakers, b)
		}
		o.Endpoints = append(o.Endpoints, e)
	}
	if o.gate.MaxInFlight > 0 {
		o.gate.Upstream = "files"
		s.gate = admission.New(o.gate)
		o.Admission = s.gate
	}
	o.Options = complete(o.Options)
	if o.Retry == (dispatch.RetryOptions{}) {
		o.Retry = dispatch.RetryOptions{Max: 2, Budget: 1}
	}
	s.Stage = dispatch.New(o.Options)
	return s
}

// do makes a call and reads its answer to the end. It returns the status, or 0 with the failure that the agent sees.
func (s *stage) do(ctx context.Context, c *mcp.Call) (int, *mcp.Failure) {
	res, err := s.Call(ctx, c)
	if err != nil {
		return 0, asFailure(s.tb, err)
	}
	defer res.Close()
	return res.Status, read(s.tb, res)
}

// read reads an answer to its end.
func read(tb testing.TB, res *mcp.Result) *mcp.Failure {
	var err error
	switch {
	case res.Events != nil:
		for err == nil {
			_, err = res.Events.Next()
		}
	case res.Raw != nil:
		_, err = io.Copy(io.Discard, res.Raw)
	}
	if err == nil || err == io.EOF {
		return nil
	}
	return asFailure(tb, err)
}

func asFailure(tb testing.TB, err error) *mcp.Failure {
	f, ok := err.(*mcp.Failure)
	if !ok {
		tb.Errorf("the error %v is no failure", err)
		return &mcp.Failure{}
	}
	return f
}

// idle checks that nothing is held.
func (s *stage) idle() {
	s.tb.Helper()
	st := s.Status()
	for i, e := range st.Endpoints {
		if e.InFlight != 0 {
			s.tb.Errorf("%d calls are under way at endpoint %d", e.InFlight, i)
		}
		if n := s.servers[i].unclosed(); n != 0 {
			s.tb.Errorf("%d results of endpoint %d were not closed, or twice", n, i)
		}
	}
	if st.InFlight != 0 || st.Queued != 0 {
		s.tb.Errorf("%d calls hold slots, %d wait", st.InFlight, st.Queued)
	}
}
