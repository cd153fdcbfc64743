package mcptest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Field is one header field as received: the name's case is kept, the value is without the white space around it.
type Field struct{ Name, Value string }

// Request is one request as it came over the wire. It is not changed after it was read.
type Request struct {
	Conn   int     // which connection of the server it came on, counted from 1
	Raw    []byte  // head and body, every byte; a chunked body with its framing
	Verb   string  // the HTTP method
	Target string  // the request target: path and query
	Fields []Field // header fields in the order received
	Body   []byte  // without chunk framing
}

// Get returns the value of the first field of that name, by any case, or "".
func (r *Request) Get(name string) string {
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Has reports whether a field of that name is there, by any case.
func (r *Request) Has(name string) bool {
	for _, f := range r.Fields {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// ID returns the JSON-RPC id exactly as sent, or "" where the body has none or is not one JSON object.
func (r *Request) ID() string { return string(r.envelope().ID) }

// Method returns the JSON-RPC method, or "" where the body has none or is not one JSON object.
func (r *Request) Method() string { return r.envelope().Method }

type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
}

func (r *Request) envelope() envelope {
	var e envelope
	if json.Unmarshal(r.Body, &e) != nil {
		return envelope{}
	}
	return e
}

// maxHead bounds a request's head, in bytes: a client under test that never ends it is cut off.
const maxHead = 1 << 20

var errHead = errors.New("mcptest: not an HTTP/1.1 request")

// readRequest reads one request whole. io.EOF means that the peer closed between requests.
func readRequest(br *bufio.Reader) (*Request, error) {
	r := &Request{}
	if err := r.readHead(br); err != nil {
		return nil, err
	}
	if err := r.readBody(br); err != nil {
		return nil, fmt.Errorf("mcptest: body of %s %s: %w", r.Verb, r.Target, err)
	}
	return r, nil
}

func (r *Request) readHead(br *bufio.Reader) error {
	first, err := r.readLine(br)
	if err != nil {
		return err
	}
	parts := strings.Split(first, " ")
	if len(parts) != 3 {
		return fmt.Errorf("%w: %q", errHead, first)
	}
	r.Verb, r.Target = parts[0], parts[1]
	for {
		line, err := r.readLine(br)
		if err != nil {
			return err
		}
		if line == "" {
			return nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("%w: field %q", errHead, line)
		}
		r.Fields = append(r.Fields, Field{name, strings.Trim(value, " \t")})
	}
}

// readLine reads a line into Raw and returns it without its line end.
func (r *Request) readLine(br *bufio.Reader) (string, error) {
	start := len(r.Raw)
	for {
		part, err := br.ReadSlice('\n')
		r.Raw = append(r.Raw, part...)
		switch {
		case err == nil:
			return string(bytes.TrimRight(r.Raw[start:], "\r\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(r.Raw) > maxHead:
			return "", errHead
		}
	}
}

func (r *Request) readBody(br *bufio.Reader) error {
	if strings.EqualFold(r.Get("Transfer-Encoding"), "chunked") {
		return r.readChunks(br)
	}
	length := r.Get("Content-Length")
	if length == "" {
		return nil
	}
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return errHead
	}
	return r.readBytes(br, n)
}

// readBytes reads n bytes into Raw and Body.
func (r *Request) readBytes(br *bufio.Reader, n int) error {
	part := make([]byte, n)
	if _, err := io.ReadFull(br, part); err != nil {
		return err
	}
	r.Raw = append(r.Raw, part...)
	r.Body = append(r.Body, part...)
	return nil
}

func (r *Request) readChunks(br *bufio.Reader) error {
	for {
		line, err := r.readLine(br)
		if err != nil {
			return err
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 31)
		if err != nil {
			return errHead
		}
		if err := r.readBytes(br, int(n)); err != nil {
			return err
		}
		if line, err = r.readLine(br); err != nil { // the chunk's line end, or the end of the last chunk without trailers
			return err
		}
		if n == 0 || line != "" {
			return nil
		}
	}
}
