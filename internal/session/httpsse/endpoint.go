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

// readEndpoint returns the URL that the stream's first event names. Comments before it are skipped.
func readEndpoint(ctx context.Context, events mcp.Events, base *url.URL) (*url.URL, error) {
	for {
		ev, err := events.Next()
		var cause *mcp.Failure
		switch {
		case err != nil && errors.As(context.Cause(ctx), &cause): // it came too late, or the daemon stops
			return nil, cause
		case err == io.EOF:
			return nil, badEndpoint(errors.New("the stream ended before its endpoint event"))
		case err != nil:
			return nil, err
		case ev.Data == nil:
		case string(ev.Name) != "endpoint":
			return nil, badEndpoint(errors.New("the stream's first event is not `endpoint`"))
		default:
			return endpointOf(base, ev.Data)
		}
	}
}

// endpointOf returns the URL that an endpoint event names: absolute, relative or a query, but of the server's own origin.
func endpointOf(base *url.URL, data []byte) (*url.URL, error) {
	target, err := base.Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, badEndpoint(err)
	}
	if !mcp.SameOrigin(target, base) {
		return nil, badEndpoint(errors.New("the endpoint is on another origin: " + target.Scheme + "://" + target.Host))
	}
	return target, nil
}

// isEndpoint is as generous as a client may be.
func isEndpoint(name []byte) bool {
	return bytes.EqualFold(bytes.TrimSpace(name), []byte("endpoint"))
}

func badEndpoint(cause error) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: "the server's stream has no usable endpoint", Cause: cause,
	}
}

func lateEndpoint() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentYes,
		Message: "the server did not send its endpoint event in time",
	}
}
