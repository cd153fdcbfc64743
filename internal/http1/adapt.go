package http1

import (
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Adapt returns a handler that has h answer, by requests and answers as net/http has them. Its ResponseWriter flushes and has deadlines;
// it guesses no Content-Type, drops trailers and interim answers, and always takes what an agent sends while it is answered.
func Adapt(h http.Handler) func(*Inbound) {
	return func(q *Inbound) {
		a := &adapted{q: q}
		h.ServeHTTP(a, a.request())
		if !a.begun {
			a.WriteHeader(http.StatusOK)
		}
	}
}

// adapted is a request as net/http has it: its body and its ResponseWriter.
type adapted struct {
	q      *Inbound
	header http.Header
	begun  bool
	url    url.URL
}

// request makes the request.
func (a *adapted) request() *http.Request {
	q := a.q
	a.url = url.URL{Path: q.Path, RawQuery: q.Query}
	r := &http.Request{
		Method: q.Method, URL: &a.url, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: headerOf(q.Header), Body: inboundBody{q},
		ContentLength: q.Length, Close: q.Close, Host: q.Host, RemoteAddr: q.RemoteAddr(), RequestURI: q.Target,
	}
	if q.Length == 0 {
		r.Body = http.NoBody
	}
	return r.WithContext(q.Context())
}

// headerOf makes a map of a list, without Host, as net/http does.
func headerOf(l header.List) http.Header {
	h := make(http.Header, len(l))
	values := make([]string, len(l))
	for i, f := range l {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if name == "Host" {
			continue
		}
		if before := h[name]; before != nil {
			h[name] = append(before, f.Value)
			continue
		}
		values[i] = f.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h
}

// inboundBody is the body of a request.
type inboundBody struct{ *Inbound }

// Close implements io.Closer.
func (inboundBody) Close() error { return nil }

// Header implements http.ResponseWriter.
func (a *adapted) Header() http.Header {
	if a.header == nil {
		a.header = make(http.Header, 8)
	}
	return a.header
}

var nameLists = sync.Pool{New: func() any { return new([]string) }}

// WriteHeader implements http.ResponseWriter. Fields go out in the order of their names, as with net/http.
func (a *adapted) WriteHeader(status int) {
	if a.begun || status < 200 {
		return
	}
	a.begun = true
	q := a.q
	names := nameLists.Get().(*[]string)
	defer nameLists.Put(names)
	*names = (*names)[:0]
	for name := range a.header {
		*names = append(*names, name)
	}
	slices.Sort(*names)
	q.beginHead(status)
	for _, name := range *names {
		for _, value := range a.header[name] {
			q.field(name, value)
		}
	}
	length := int64(-1)
	if values := a.header["Content-Length"]; len(values) == 1 {
		if n, ok := decimal(values[0]); ok {
			length = n
		}
	}
	q.endHead(status, length)
}

// Write implements http.ResponseWriter.
func (a *adapted) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.q.Write(p)
}

// FlushError is what http.ResponseController flushes by.
func (a *adapted) FlushError() error {
	a.WriteHeader(http.StatusOK)
	return a.q.Flush()
}

// Flush implements http.Flusher.
func (a *adapted) Flush() { _ = a.FlushError() } // the next write says what has failed

// SetReadDeadline is http.ResponseController's.
func (a *adapted) SetReadDeadline(t time.Time) error {
	a.q.SetReadDeadline(t)
	return nil
}

// SetWriteDeadline is http.ResponseController's.
func (a *adapted) SetWriteDeadline(t time.Time) error { return a.q.SetWriteDeadline(t) }

// EnableFullDuplex is http.ResponseController's. It is always so.
func (*adapted) EnableFullDuplex() error { return nil }
