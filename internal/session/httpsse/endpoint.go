package httpsse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"

	"fluentd-perf/internal/mcp"
)

// readEndpoint returns the URL that the first event names: absolute, relative or a query, but of the server's own origin.
func readEndpoint(ctx context.Context, events mcp.Events, base *url.URL) (*url.URL, error) {
	for {
		ev, err := events.Next()
		switch {
		case err != nil:
			return nil, noEndpoint(ctx, err)
		case ev.Data == nil:
			continue // a comment
		case string(ev.Name) != "endpoint":
			return nil, badEndpoint(errors.New("the stream's first event is not `endpoint`"))
		}
		target, f := endpointOf(base, ev.Data)
		if f != nil {
			return nil, f
		}
		return target, nil
	}
}

// endpointOf returns the URL that an endpoint event names.
func endpointOf(base *url.URL, data []byte) (*url.URL, *mcp.Failure) {
	target, err := base.Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, badEndpoint(err)
	}
	if !mcp.SameOrigin(target, base) {
		return nil, badEndpoint(errors.New("the endpoint is on another origin: " + target.Scheme + "://" + target.Host))
	}
	return target, nil
}

func badEndpoint(cause error) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: "the server's stream has no usable endpoint", Cause: cause,
	}
}

func noEndpoint(ctx context.Context, err error) error {
	var f *mcp.Failure
	if errors.As(context.Cause(ctx), &f) {
		return f
	}
	if err == io.EOF {
		return badEndpoint(errors.New("the stream ended before its endpoint event"))
	}
	return err
}

// isEndpoint is as generous as a client may be.
func isEndpoint(name []byte) bool {
	return bytes.EqualFold(bytes.TrimSpace(name), []byte("endpoint"))
}

func lateEndpoint() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentYes,
		Message: "the server did not send its endpoint event in time",
	}
}
