package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"fluentd-perf/internal/demo"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

func TestDemoTools(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		list, err := c.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"add", "ask", "count", "echo", "fail", "slow", "switch"}
		if got := toolNames(list); !slices.Equal(got, want) {
			t.Errorf("tools %q, want %q", got, want)
		}
		c.wantText(t, "echo", map[string]any{"text": "héllo"}, "héllo")
		c.wantText(t, "add", map[string]any{"a": 40, "b": 2.5}, `{"sum":42.5}`)
		if _, result := c.call(t, &mcp.CallToolParams{Name: "fail"}); !result.IsError {
			t.Error("fail: the result has no isError")
		}
	})
}

func TestDemoProgress(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"steps": 3, "millis": 1}}
		params.SetProgressToken("token")
		if text, _ := c.call(t, params); text != "3 steps done" {
			t.Errorf("slow = %q", text)
		}
		receive(t, c.progress, "step 1 of 3")
		receive(t, c.progress, "step 2 of 3")
		receive(t, c.progress, "step 3 of 3")

		c.wantText(t, "slow", map[string]any{"steps": 1, "millis": 1}, "1 steps done")
		select {
		case got := <-c.progress:
			t.Errorf("progress without a token: %q", got)
		default:
		}
	})
}

func TestDemoLogging(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"steps": 1, "millis": 1}}
		c.wantLogs(t, params)
		c.call(t, params)
		receive(t, c.logs, "starting 1 steps of 1ms")
		receive(t, c.logs, "done")
	})
}

// TestDemoCancel leaves a call that would take a thousand seconds. A tool that does not notice keeps the server from
// closing.
func TestDemoCancel(t *testing.T) {
	for era, version := range demoVersions {
		t.Run(era, func(t *testing.T) {
			d := demo.New("test", nil)
			server := httptest.NewServer(d)
			c := connectDemo(t, server.URL, version, nil)
			ctx, cancel := context.WithCancel(t.Context())
			params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"steps": 100, "millis": 10_000}}
			c.wantLogs(t, params)
			left := make(chan error, 1)
			go func() {
				_, err := c.CallTool(ctx, params)
				left <- err
			}()
			receive(t, c.logs, "starting 100 steps of 10s")
			cancel()
			if err := <-left; err == nil {
				t.Error("a cancelled call succeeded")
			}
			c.wantText(t, "echo", map[string]any{"text": "still here"}, "still here")

			closed := make(chan string, 1)
			go func() {
				c.Close()
				server.Close() // waits for requests in progress
				d.Close()      // waits for tools in progress
				closed <- "closed"
			}()
			receive(t, closed, "closed")
		})
	}
}

func TestDemoAsk(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		c.wantText(t, "ask", nil, "Hello, Ada!")
	})
}

func TestDemoAskWhomItCannot(t *testing.T) {
	for era, version := range demoVersions {
		t.Run(era, func(t *testing.T) {
			_, url := startDemo(t)
			silent := connectDemo(t, url, version, func(o *mcp.ClientOptions) { o.ElicitationHandler = nil })
			silent.wantText(t, "ask", nil, "This agent cannot ask its user (it declares no elicitation of forms).")
			refusing := connectDemo(t, url, version, func(o *mcp.ClientOptions) {
				o.ElicitationHandler = func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "decline"}, nil
				}
			})
			refusing.wantText(t, "ask", nil, "No name given (decline).")
		})
	}
}

func TestDemoResources(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		resources, err := c.ListResources(t.Context(), nil)
		if err != nil || len(resources.Resources) != 2 {
			t.Errorf("resources %v, %v", resources, err)
		}
		templates, err := c.ListResourceTemplates(t.Context(), nil)
		if err != nil || len(templates.ResourceTemplates) != 1 {
			t.Errorf("templates %v, %v", templates, err)
		}
		read := func(uri, want string) {
			t.Helper()
			got, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
			if err != nil {
				t.Errorf("%s: %v", uri, err)
			} else if got.Contents[0].Text != want {
				t.Errorf("%s = %q, want %q", uri, got.Contents[0].Text, want)
			}
		}
		read("demo://about", demo.About)
		read("demo://greeting/Zo%C3%AB", "Hello, Zoë!")
		read("demo://counter", "0")
		if err := c.Subscribe(t.Context(), &mcp.SubscribeParams{URI: "demo://counter"}); err != nil {
			t.Fatal(err)
		}
		c.wantText(t, "count", nil, "demo://counter is now 1")
		receive(t, c.updates, "demo://counter")
		read("demo://counter", "1")
		if _, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "demo://nothing"}); err == nil {
			t.Error("demo://nothing was read")
		}
	})
}

func TestDemoPrompts(t *testing.T) {
	eachEra(t, func(t *testing.T, c *demoClient) {
		prompts, err := c.ListPrompts(t.Context(), nil)
		if err != nil || len(prompts.Prompts) != 1 {
			t.Errorf("prompts %v, %v", prompts, err)
		}
		prompt, err := c.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: "explain", Arguments: map[string]string{"topic": "progress"}})
		want := "Explain in five sentences how progress works in the Model Context Protocol."
		if err != nil || prompt.Messages[0].Content.(*mcp.TextContent).Text != want {
			t.Errorf("prompt %v, %v", prompt, err)
		}
		complete := func(ref *mcp.CompleteReference, argument, value string, want ...string) {
			t.Helper()
			got, err := c.Complete(t.Context(), &mcp.CompleteParams{Ref: ref, Argument: mcp.CompleteParamsArgument{Name: argument, Value: value}})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Completion.Values, want) {
				t.Errorf("%s=%q completes to %q, want %q", argument, value, got.Completion.Values, want)
			}
		}
		complete(&mcp.CompleteReference{Type: "ref/prompt", Name: "explain"}, "topic", "s", "sessions", "streams")
		complete(&mcp.CompleteReference{Type: "ref/resource", URI: "demo://greeting/{name}"}, "name", "a", "Ada", "Alan")
		complete(&mcp.CompleteReference{Type: "ref/prompt", Name: "unknown"}, "topic", "s")
	})
}

// TestDemoListChange has an agent of each era on one server: each is notified of what the other changed.
func TestDemoListChange(t *testing.T) {
	t.Run("direct", func(t *testing.T) {
		_, url := startDemo(t)
		testDemoListChange(t, url)
	})
	t.Run("through the daemon", func(t *testing.T) {
		url, _ := startDemoVerb(t)
		testDemoListChange(t, url)
	})
}

func testDemoListChange(t *testing.T, url string) {
	legacy := connectDemo(t, url, demoVersions["legacy"], nil)
	modern := connectDemo(t, url, demoVersions["modern"], nil)

	legacy.wantText(t, "switch", nil, "bonus is on the list")
	receive(t, legacy.lists, "tools")
	receive(t, modern.lists, "tools")
	modern.wantText(t, "bonus", nil, "You found it.")

	modern.wantText(t, "switch", nil, "bonus is off the list")
	receive(t, legacy.lists, "tools")
	receive(t, modern.lists, "tools")
	list, err := legacy.ListTools(t.Context(), nil)
	if err != nil || slices.Contains(toolNames(list), "bonus") {
		t.Errorf("tools %v, %v", list, err)
	}
}

func TestDemoCacheHints(t *testing.T) {
	_, url := startDemo(t)
	c := connectDemo(t, url, demoVersions["modern"], nil)
	prompts, err := c.ListPrompts(t.Context(), nil)
	if err != nil || prompts.TTLMs != 300_000 || prompts.CacheScope != "public" {
		t.Errorf("prompts/list: %+v, %v", prompts, err)
	}
	tools, err := c.ListTools(t.Context(), nil)
	if err != nil || tools.TTLMs != 0 {
		t.Errorf("tools/list, which changes: %+v, %v", tools, err)
	}
	counter, err := c.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "demo://counter"})
	if err != nil || counter.TTLMs != 0 {
		t.Errorf("the counter, which changes: %+v, %v", counter, err)
	}
}

// TestDemoClose closes the server under a session with an open GET stream and a tool in progress: both end.
func TestDemoClose(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	d := demo.New("test", nil)
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	c := connectDemo(t, server.URL, demoVersions["legacy"], nil)
	params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"steps": 100, "millis": 10_000}}
	c.wantLogs(t, params)
	ended := make(chan string, 2)
	go func() {
		c.CallTool(t.Context(), params)
		ended <- "ended"
	}()
	go func() {
		c.Wait()
		ended <- "ended"
	}()
	receive(t, c.logs, "starting 100 steps of 10s")
	d.Close()
	if _, err := c.ListTools(t.Context(), nil); err == nil {
		t.Error("a closed session still answers")
	}
	receive(t, ended, "ended")
	receive(t, ended, "ended")
}

func TestDemoNoUseOfTheOtherEra(t *testing.T) {
	_, url := startDemo(t)
	post := func(version, body string) (status int, session string) {
		t.Helper()
		header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
		if version != "" {
			header.Set("MCP-Protocol-Version", version)
		}
		status, header, _ = doPost(t, url, header, body)
		return status, header.Get("Mcp-Session-Id")
	}
	initialize := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	if status, session := post("", initialize); status != 200 || session == "" {
		t.Errorf("initialize: status %d, session %q", status, session)
	}
	if status, session := post("2026-07-28", initialize); status == 200 || session != "" {
		t.Errorf("initialize by a modern agent: status %d, session %q", status, session)
	}
}
