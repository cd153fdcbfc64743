package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// atOnce bounds the streams being opened at a time, well below a listener's backlog.
const atOnce = 64

// openedReport says how the opening went.
type openedReport struct {
	Opened  int    `json:"opened"`
	Refused int    `json:"refused"`
	First   string `json:"first"` // what the first refused one was told
}

// receivedReport says what the streams got once all of them have got something or ended.
type receivedReport struct {
	Received int    `json:"received"` // the event meant for them
	Wrong    int    `json:"wrong"`
	First    string `json:"first"`
}

// listen opens GET streams, each of a session of its own, tells when all are open and again when all have got their
// event, and closes them when told to.
func listen(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("listen URL streams")
	}
	to, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	c := &loadAgents{to: to}
	c.openAll(n)
	if err := say(&c.opened); err != nil {
		return err
	}
	var receiving sync.WaitGroup
	receiving.Go(func() { _ = c.receiveAll() })
	defer receiving.Wait()
	defer c.leave(n)
	return obey(func(command string) error {
		text, ok := strings.CutPrefix(command, "leave ")
		if !ok {
			return fmt.Errorf("no such command: %q", command)
		}
		some := n
		if text != "all" {
			if some, err = strconv.Atoi(text); err != nil {
				return err
			}
		}
		return say(map[string]int{"left": c.leave(some)})
	})
}

// loadAgents is many listening agents.
type loadAgents struct {
	to *url.URL

	mu       sync.Mutex // guards the following
	streams  []*stream
	opened   openedReport
	received receivedReport
}

// stream is one agent's open GET stream.
type stream struct {
	session string
	conn    net.Conn
	body    *bufio.Reader
}

func (c *loadAgents) openAll(n int) {
	var opening sync.WaitGroup
	sessions := make(chan string)
	for range atOnce {
		opening.Go(func() {
			for session := range sessions {
				s, err := c.open(session)
				c.note(s, err)
			}
		})
	}
	for i := range n {
		sessions <- fmt.Sprintf("s-%d", i)
	}
	close(sessions)
	opening.Wait()
}

func (c *loadAgents) note(s *stream, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.opened.Opened++
		c.streams = append(c.streams, s)
		return
	}
	c.opened.Refused++
	if c.opened.First == "" {
		c.opened.First = err.Error()
	}
}

// open opens one stream. Buffers are small: there are thousands.
func (c *loadAgents) open(session string) (*stream, error) {
	conn, err := net.DialTimeout("tcp4", c.to.Host, peerTimeout)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nMcp-Session-Id: %s\r\n\r\n",
		c.to.RequestURI(), c.to.Host, session)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200))
		_ = conn.Close()
		return nil, fmt.Errorf("HTTP %d %s", res.StatusCode, bytes.TrimSpace(text))
	}
	return &stream{session, conn, bufio.NewReaderSize(res.Body, 16)}, nil
}

// receiveAll reads one event of every stream.
func (c *loadAgents) receiveAll() error {
	var reading sync.WaitGroup
	c.mu.Lock()
	for _, s := range c.streams {
		reading.Go(func() { c.judge(s.session, s.event()) })
	}
	c.mu.Unlock()
	reading.Wait()
	return say(&c.received)
}

// event returns the data of the stream's next event, or what happened instead.
func (s *stream) event() string {
	for {
		line, err := s.body.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			return strings.TrimSuffix(data, "\n")
		}
	}
}

func (c *loadAgents) judge(session, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data == eventFor(session) {
		c.received.Received++
		return
	}
	c.received.Wrong++
	if c.received.First == "" {
		c.received.First = session + ": " + data
	}
}

// leave closes so many streams and returns how many it closed.
func (c *loadAgents) leave(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, len(c.streams))
	for _, s := range c.streams[:n] {
		_ = s.conn.Close()
	}
	c.streams = c.streams[n:]
	return n
}
