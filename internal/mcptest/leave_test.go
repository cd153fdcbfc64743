package mcptest_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

func TestHangEndsWhenThePeerLeaves(t *testing.T) {
	for name, script := range map[string]mcptest.Script{
		"at once": mcptest.Hang, "in the body": mcptest.Stalling, "in the stream": mcptest.StallingStream,
	} {
		t.Run(name, func(t *testing.T) {
			s, c := mcptest.NewServer(t, script), client(t)
			ctx, cancel := context.WithCancel(context.Background())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL(), strings.NewReader(call))
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				if res, err := c.Do(req); err == nil {
					<-ctx.Done()
					_ = res.Body.Close()
				}
			}()
			s.AwaitRequest(1)
			s.AwaitOpen(1)
			cancel()
			<-over
			s.AwaitOpen(0)
		})
	}
}

func TestCloseEndsHungScripts(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Hang)
	over := make(chan error)
	c := client(t)
	go func() {
		_, _, err := post(t, c, s.URL(), call)
		over <- err
	}()
	s.AwaitRequest(1)
	s.Close()
	if err := <-over; err == nil {
		t.Error("a hung request was answered")
	}
	s.Close() // twice is harmless
}

func TestDownRefusesAndUpServesAgain(t *testing.T) {
	s, c := mcptest.NewServer(t, mcptest.Minimal), client(t)
	stream, err := c.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	s.Down()
	if _, err := stream.Body.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the open stream got %v, want a reset", err)
	}
	if _, _, err := post(t, c, s.URL(), call); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while down: %v, want refused", err)
	}
	s.AwaitOpen(0)
	s.Up()
	if _, _, err := post(t, c, s.URL(), call); err != nil {
		t.Errorf("after Up: %v", err)
	}
	s.Down() // Close while down
}

func TestRefused(t *testing.T) {
	for range 2 { // the port stays refused
		if c, err := net.Dial("tcp", mcptest.Refused(t)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, %v", c, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c, err := net.DialTimeout("tcp", mcptest.Unreachable(t), 100*time.Millisecond)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("got %v, %v, want a timeout", c, err)
	}
}
