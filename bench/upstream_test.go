//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// The paths of the upstream, each a kind of answer.
var kinds = []kind{
	{"small", "200 B JSON", 200, false, 1},
	{"large", "10 KB JSON", 10 << 10, false, 1},
	{"sse", "SSE, progress + answer", 200, true, 1},
	{"huge", "1 MB JSON", 1 << 20, false, 20},
	{"hugesse", "1 MB SSE", 1 << 20, true, 20},
}

type kind struct {
	path  string
	title string
	size  int // bytes of the whole answer
	sse   bool
	fewer int64 // times fewer requests than of the others
}

// upstreamRole serves answers as cheaply as Go can without a poller of its own: a goroutine a connection, requests looked
// at by hand, answers cut from ready bytes.
func upstreamRole([]string) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := say(map[string]string{"Addr": ln.Addr().String()}); err != nil {
		return err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = serveFast(conn) // the end of a connection
			}()
		}
	}()
	waitForEnd()
	return ln.Close()
}

// serveFast answers the requests of one connection until it ends.
func serveFast(conn net.Conn) error {
	ready := make(map[string]*readyAnswer, len(kinds))
	for _, k := range kinds {
		ready[k.path] = newReadyAnswer(k)
	}
	br := bufio.NewReaderSize(conn, 16<<10)
	body := make([]byte, 4<<10)
	var out []byte
	for {
		path, length, err := readHead(br)
		if err != nil {
			return err
		}
		if length > len(body) {
			return fmt.Errorf("a request of %d bytes", length)
		}
		if _, err := io.ReadFull(br, body[:length]); err != nil {
			return err
		}
		a := ready[path]
		if a == nil {
			return fmt.Errorf("no such path: %q", path)
		}
		if out, err = a.write(conn, out, idIn(body[:length])); err != nil {
			return err
		}
	}
}

// readHead reads a request's head and returns the last element of its path and its Content-Length.
func readHead(br *bufio.Reader) (path string, length int, err error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return "", 0, err
	}
	_, target, _ := bytes.Cut(line, []byte(" /"))
	target, _, _ = bytes.Cut(target, []byte(" "))
	path = internPath(target[bytes.LastIndexByte(target, '/')+1:])
	for {
		if line, err = br.ReadSlice('\n'); err != nil {
			return "", 0, err
		}
		if len(line) <= 2 {
			return path, length, nil
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return "", 0, err
			}
		}
	}
}

func internPath(b []byte) string {
	for _, k := range kinds {
		if string(b) == k.path {
			return k.path
		}
	}
	return ""
}

// idIn returns the bytes of the id of a request as loadRole writes it: followed by a comma.
func idIn(body []byte) []byte {
	_, rest, _ := bytes.Cut(body, []byte(`"id":`))
	id, _, _ := bytes.Cut(rest, []byte(","))
	return id
}

// readyAnswer is an answer in pieces; the id goes between before and after. Ids are of idWidth bytes.
type readyAnswer struct {
	first         []byte // goes out by itself: a stream's head and its first event
	before, after []byte
}

// idWidth is the width of the ids in a run: fixed, so that lengths are.
const idWidth = 10

func newReadyAnswer(k kind) *readyAnswer {
	const open, shut = `{"jsonrpc":"2.0","id":`, `"}]}}`
	const middle = `,"result":{"content":[{"type":"text","text":"`
	text := strings.Repeat("x", max(0, k.size-len(open)-idWidth-len(middle)-len(shut)))
	length := len(open) + idWidth + len(middle) + len(text) + len(shut)
	if !k.sse {
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", length)
		return &readyAnswer{nil, []byte(head + open), []byte(middle + text + shut)}
	}
	const progress = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n"
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n"
	return &readyAnswer{
		[]byte(head + fmt.Sprintf("%x\r\n%s\r\n", len(progress), progress)),
		[]byte(fmt.Sprintf("%x\r\ndata: %s", length+len("data: \n\n"), open)),
		[]byte(middle + text + shut + "\n\n\r\n0\r\n\r\n"),
	}
}

// write sends the answer; out is a buffer to be used again.
func (a *readyAnswer) write(w io.Writer, out, id []byte) ([]byte, error) {
	if a.first != nil {
		if _, err := w.Write(a.first); err != nil {
			return out, err
		}
	}
	out = append(append(append(out[:0], a.before...), id...), a.after...)
	_, err := w.Write(out)
	return out, err
}
