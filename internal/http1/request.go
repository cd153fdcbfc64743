package http1

import (
	"fmt"
	"strconv"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Request is what a Client sends. It is only read, and may be used again when its Answer has ended or was closed.
type Request struct {
	Method string // a token, as POST
	Target string // path and query, escaped
	Host   string // "": the endpoint's

	// Header goes out as it is, names spelled as they are and in their order, behind Host. The fields that say how this one
	// connection is used are the Client's own, and those of the list are not written: Host, Content-Length, Connection,
	// Transfer-Encoding, Trailer, Upgrade and Expect. Nothing else is added.
	Header header.List
	Body   []byte

	HeadTimeout time.Duration // from when there is a connection to the head of the answer; 0: no bound
	Trace       Trace         // is told how far the request is; nil: nobody is
}

// Trace is told how far a request is, on the goroutine of the call, but for a large body's Written. It must not wait for
// anything: the connection is locked meanwhile.
type Trace interface {
	Connecting() // there is no idle connection, so one is waited for; again where one turned out dead
	// Connected: there is one, since now, and nothing was written to it yet; reused: it has carried another request.
	Connected(reused bool, now time.Time)
	Written()   // the last byte was given to the kernel
	Answering() // the first byte of an answer came
}

// appendHead writes the head of a request, target being what stands in its first line.
func (c *Client) appendHead(b []byte, r *Request) ([]byte, error) {
	host := r.Host
	if host == "" {
		host = c.o.URL.Host
	}
	if !header.ValidName(r.Method) || !validTarget(r.Target) || !validTarget(host) {
		return nil, fmt.Errorf("the request's method, target or host is not valid")
	}
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, c.absolute...), r.Target...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), host...)
	b = append(b, "\r\n"...)
	for _, f := range c.proxyFields {
		b = appendField(b, f)
	}
	for _, f := range r.Header {
		if !header.Valid(f.Name, f.Value) {
			return nil, fmt.Errorf("the header field %q is not valid", f.Name) // its value may be a secret
		}
		if !ofConnection(f.Name) {
			b = appendField(b, f)
		}
	}
	if len(r.Body) > 0 || needsLength(r.Method) {
		b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, f header.Field) []byte {
	b = append(append(b, f.Name...), ": "...)
	return append(append(b, f.Value...), "\r\n"...)
}

// needsLength reports whether servers expect a length with a method even where there is no body (RFC 9110, section 8.6).
func needsLength(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// ofConnection reports whether a field says how the connection is used, which is the Client's to say.
func ofConnection(name string) bool {
	switch len(name) {
	case len("Host"):
		return header.EqualNames(name, "Host")
	case len("Expect"):
		return header.EqualNames(name, "Expect")
	case len("Upgrade"):
		return header.EqualNames(name, "Upgrade") || header.EqualNames(name, "Trailer")
	case len("Connection"):
		return header.EqualNames(name, "Connection")
	case len("Content-Length"):
		return header.EqualNames(name, "Content-Length")
	case len("Transfer-Encoding"):
		return header.EqualNames(name, "Transfer-Encoding")
	}
	return false
}

// validTarget reports whether a target or host fits into its place in the head: no blank and no control byte.
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}
