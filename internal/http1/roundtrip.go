package http1

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"fluentd-perf/internal/http1/header"
)

// RoundTrip makes a Client an http.RoundTripper for its endpoint, and refuses requests to another one. The body is read whole
// before anything is sent. Unlike http.Transport it adds no fields: no User-Agent, no Accept-Encoding.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.URL.Scheme != c.o.URL.Scheme || r.URL.Host != c.o.URL.Host {
		return nil, fmt.Errorf("http1: a request to %s by the client of %s", r.URL.Host, c.o.URL.Host)
	}
	out := &Request{Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host, Header: header.Of(r.Header), Body: body}
	if out.Method == "" {
		out.Method = http.MethodGet
	}
	a, err := c.Do(r.Context(), out)
	if err != nil {
		return nil, err
	}
	return a.response(r), nil
}

func readAll(body io.ReadCloser) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(body)
	if closed := body.Close(); err == nil {
		err = closed
	}
	return b, err
}

// response returns the answer as net/http's.
func (a *Answer) response(r *http.Request) *http.Response {
	resp := &http.Response{
		Status: strconv.Itoa(a.Status) + " " + http.StatusText(a.Status), StatusCode: a.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header, len(a.Header)), Body: a, ContentLength: a.Length, Request: r,
	}
	for _, f := range a.Header {
		resp.Header.Add(f.Name, f.Value)
	}
	return resp
}
