package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 16 << 20

// RefusedError is what the daemon said in place of an answer.
type RefusedError struct {
	Status  int    // the HTTP status
	Message string // the daemon's own words
}

// Error returns the daemon's words.
func (e *RefusedError) Error() string { return e.Message }

// Call asks the daemon behind a socket. in is sent as JSON, nothing for nil; the answer, of at most 16 MiB, is decoded
// into out, where that is not nil. The error is a *RefusedError where the daemon answered with one. It takes as long as
// ctx allows.
func Call(ctx context.Context, socket, name string, in, out any) error {
	answer, err := post(ctx, socket, name, in)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the daemon's answer to %s: %w", name, err)
	}
	return nil
}

func post(ctx context.Context, socket, name string, in any) ([]byte, error) {
	params, err := marshal(in)
	if err != nil {
		return nil, fmt.Errorf("the parameters of %s: %w", name, err)
	}
	// The host is not looked at, but HTTP wants one.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://fluentd-perf/"+url.PathEscape(name), bytes.NewReader(params))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport(socket).RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("asking the daemon at %s: %w", socket, plain(ctx, err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the daemon's answer to %s: %w", name, plain(ctx, err))
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the daemon's answer to %s is larger than %d bytes", name, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, refused(resp, answer)
	}
	return answer, nil
}

func marshal(in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	return json.Marshal(in)
}

// transport goes to a socket, with a connection of its own for each call.
func transport(socket string) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, socket)
		},
	}
}

// refused reads an error of the daemon's, or of what else answers.
func refused(resp *http.Response, answer []byte) error {
	var f failure
	if err := json.Unmarshal(answer, &f); err != nil || f.Error == "" {
		text := strings.ToValidUTF8(string(answer[:min(len(answer), 200)]), "?")
		f.Error = fmt.Sprintf("the daemon says %s %q", resp.Status, text)
	}
	return &RefusedError{Status: resp.StatusCode, Message: f.Error}
}

// plain says in few words why nothing came back.
func plain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it hung up: %w", err)
	}
	return reason(err)
}
