package http1_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"fluentd-perf/internal/http1"
)

// canned is a connection on which these bytes come whatever is written, in pieces of that size, and then the end.
type canned struct {
	rest  *bytes.Reader
	piece int
}

func (c *canned) Read(p []byte) (int, error) { return c.rest.Read(p[:min(len(p), c.piece)]) }

func (c *canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) LocalAddr() net.Addr              { return nil }
func (c *canned) RemoteAddr() net.Addr             { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

// outcome is what became of an answer.
type outcome struct {
	a    *http1.Answer
	body string
	err  error // of the head or of the body
	kept bool  // the connection may be used again
	left int   // bytes that were not read
}

// readCanned reads an answer from these bytes, in pieces.
func readCanned(tb testing.TB, method, raw string, piece int) outcome {
	tb.Helper()
	conn := &canned{bytes.NewReader([]byte(raw)), piece}
	c, err := http1.New(http1.Options{
		URL: &url.URL{Scheme: "http", Host: "server.example"}, MaxIdle: 1,
		Dial: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	o := outcome{}
	if o.a, o.err = c.Do(context.Background(), &http1.Request{Method: method, Target: "/"}); o.err != nil {
		return o
	}
	body, err := io.ReadAll(&smallReads{o.a, piece})
	if err == nil {
		_, idle, _ := c.Connections()
		o.kept = idle == 1
	}
	_ = o.a.Close()
	o.body, o.err, o.left = string(body), err, conn.rest.Len()
	return o
}

// smallReads reads a few bytes at a time.
type smallReads struct {
	io.Reader
	size int
}

func (r *smallReads) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), r.size)]) }
