package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// postReport says what became of the calls.
type postReport struct {
	Whole int64  `json:"whole"` // answered byte for byte as they should be
	Wrong int64  `json:"wrong"` // failed, cut, crossed, changed
	First string `json:"first"` // what was wrong with the first of those
}

// post makes calls, several at a time, and checks every byte of every answer.
func post(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("post URL calls parallel size sse")
	}
	numbers := make([]int, 3)
	for i, arg := range args[1:4] {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	c := &caller{
		url: args[0], calls: numbers[0], size: numbers[2], sse: args[4] == "true",
		http: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: numbers[1], DisableCompression: true}},
	}
	var workers sync.WaitGroup
	for range numbers[1] {
		workers.Go(c.work)
	}
	workers.Wait()
	return say(&c.report)
}

// caller is the agents that post. next counts the calls begun.
type caller struct {
	url         string
	calls, size int
	sse         bool
	http        http.Client
	next        atomic.Int64

	mu     sync.Mutex // guards the following
	report postReport
}

func (c *caller) work() {
	buf := make([]byte, c.size+1024)
	for {
		n := int(c.next.Add(1)) - 1
		if n >= c.calls {
			return
		}
		c.count(n, c.call(blob{N: n, Size: c.size, SSE: c.sse}, buf))
	}
}

func (c *caller) count(n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.report.Whole++
		return
	}
	c.report.Wrong++
	if c.report.First == "" {
		c.report.First = fmt.Sprintf("call %d: %v", n, err)
	}
}

func (c *caller) call(b blob, buf []byte) error {
	req, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(b.request()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	n, err := io.ReadFull(res.Body, buf)
	if err != io.ErrUnexpectedEOF { // buf has room for more than there may be
		return fmt.Errorf("HTTP %d, %d bytes, then %w", res.StatusCode, n, err)
	}
	return b.check(res, string(buf[:n]))
}

// check compares an answer with the only right one.
func (b blob) check(res *http.Response, got string) error {
	contentType, want := "application/json", b.answer(idOf(b.N))
	if b.SSE {
		contentType, want = "text/event-stream", "data: "+b.progress()+"\n\ndata: "+want+"\n\n"
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != contentType {
		return fmt.Errorf("HTTP %d %s: %.300s", res.StatusCode, res.Header.Get("Content-Type"), got)
	}
	if got == want {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("%d bytes instead of %d, the first wrong one at %d: %.60q instead of %.60q", len(got), len(want), at, got[at:], want[at:])
}
