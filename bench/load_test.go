//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// atOnce is how many requests are in flight: each on a connection of its own, the next as soon as the one before is
// answered.
const atOnce = 32

// loadReport is what one order came to.
type loadReport struct {
	Wall  time.Duration
	Wrong int64
	First string // the first fault
}

// loadRole makes requests when told to: "ADDR PATH COUNT".
func loadRole([]string) error {
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var addr, path string
		var count int64
		if _, err := fmt.Sscan(orders.Text(), &addr, &path, &count); err != nil {
			return err
		}
		if err := say(makeLoad(addr, path, count)); err != nil {
			return err
		}
	}
	return orders.Err()
}

// makeLoad makes count requests and checks that each was answered with its own id.
func makeLoad(addr, path string, count int64) loadReport {
	var (
		next, wrong atomic.Int64
		first       atomic.Value
		crowd       sync.WaitGroup
	)
	begun := time.Now()
	for range atOnce {
		crowd.Go(func() {
			if err := loadConnection(addr, path, func() int64 { return next.Add(1) }, count); err != nil {
				wrong.Add(1)
				first.CompareAndSwap(nil, err.Error())
			}
		})
	}
	crowd.Wait()
	r := loadReport{Wall: time.Since(begun), Wrong: wrong.Load()}
	r.First, _ = first.Load().(string)
	return r
}

// loadConnection makes requests over one connection until all count are made.
func loadConnection(addr, path string, next func() int64, count int64) error {
	conn, err := net.DialTimeout("tcp4", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request, at := requestText(addr, path)
	br := bufio.NewReaderSize(conn, 16<<10)
	for n := next(); n <= count; n = next() {
		id := request[at : at+idWidth]
		copy(id, fmt.Sprintf("%d", int64(1e9)+n))
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(request); err != nil {
			return err
		}
		if err := readAnswer(br, id); err != nil {
			return fmt.Errorf("request %s: %w", id, err)
		}
	}
	return nil
}

// requestText returns a request as an MCP client sends it, and where its id is.
func requestText(addr, path string) (text []byte, idAt int) {
	body := `{"jsonrpc":"2.0","id":0123456789,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello, this is an argument of the usual size"},"_meta":{"progressToken":1}}}`
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: application/json, text/event-stream\r\n"+
		"Content-Type: application/json\r\nMCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: 5f0c1a77c5b04ad3a1b2\r\nContent-Length: %d\r\n\r\n", path, addr, len(body))
	return []byte(head + body), len(head) + strings.Index(body, "0123456789")
}

var errAnswer = errors.New("not the answer")

// readAnswer reads one answer, whole, and checks its status and that the id is in it.
func readAnswer(br *bufio.Reader, id []byte) error {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("%w: %q", errAnswer, line)
	}
	length, err := readFields(br)
	if err != nil {
		return err
	}
	found := false
	if length >= 0 {
		found, err = readPart(br, length, id)
	} else {
		found, err = readChunked(br, id)
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: the id is missing", errAnswer)
	}
	return err
}

// readFields reads the head's fields and returns the Content-Length, -1 where there is none.
func readFields(br *bufio.Reader) (length int, err error) {
	length = -1
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			return length, nil
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, err
			}
		}
	}
}

func readChunked(br *bufio.Reader, id []byte) (found bool, err error) {
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return false, err
		}
		here, err := readPart(br, int(n)+2, id)
		if err != nil {
			return false, err
		}
		found = found || here
		if n == 0 {
			return found, nil
		}
	}
}

// readPart reads n bytes and reports whether the id is in the first of them that fit the buffer.
func readPart(br *bufio.Reader, n int, id []byte) (found bool, err error) {
	part, err := br.Peek(min(n, 256))
	if err != nil {
		return false, err
	}
	found = bytes.Contains(part, id)
	if _, err := br.Discard(n); err != nil && err != io.EOF {
		return false, err
	}
	return found, nil
}
