package dispatch_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// A direct call goes past queue, breaker and retry, to the endpoint of its session under the id that this one knows.
func TestDirect(t *testing.T) {
	type seen struct {
		endpoint int
		id       string
	}
	var got []seen
	endpoint := func(i int) dispatch.Endpoint {
		return dispatch.Endpoint{Caller: mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			got = append(got, seen{i, c.Header.Get("Mcp-Session-Id")})
			return &mcp.Result{Status: 503, Header: header.Of(http.Header{"Mcp-Session-Id": {"s"}})}, nil
		}), Breaker: newBreaker(i, 1)}
	}
	gate := admission.New(admission.Options{Upstream: "u", MaxInFlight: 1})
	defer gate.Close()
	s := dispatch.New(complete(dispatch.Options{Admission: gate, Endpoints: []dispatch.Endpoint{endpoint(0), endpoint(1)}}))
	c := &mcp.Call{Lane: mcp.LaneRequest, Header: header.Of(http.Header{"Mcp-Session-Id": {"s~1"}}), Body: []byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var f *mcp.Failure
	if _, err := s.Call(t.Context(), c); !errors.As(err, &f) || f.Reason != mcp.ReasonBreakerOpen {
		t.Fatalf("the breaker is not open: %v", err)
	}
	if _, _, failure := gate.Enter(t.Context(), c); failure != nil {
		t.Fatal(failure)
	}
	got = nil
	for range 3 {
		res, err := s.Direct(t.Context(), c)
		if err != nil || res.Status != 503 || res.Header.Get("Mcp-Session-Id") != "s~1" {
			t.Fatalf("got %+v, %v", res, err)
		}
		if err := res.Close(); err != nil {
			t.Error(err)
		}
	}
	if want := (seen{1, "s"}); len(got) != 3 || got[0] != want || got[1] != want || got[2] != want {
		t.Errorf("the endpoints saw %v", got)
	}
}
