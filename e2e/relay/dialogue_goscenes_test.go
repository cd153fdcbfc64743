// What the Go client does in TestGoClient.

//lint:file-ignore SA1019 Sampling and logging are deprecated in the newest protocol; the older ones are relayed as well.

package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

type goScenario struct {
	name string
	run  func(*goPlay)
}

// goScenarios are played in this order, each by agents of its own.
var goScenarios = []goScenario{
	{"initialize", goInitialize},
	{"lists", goLists},
	{"calls", goCalls},
	{"logging and subscriptions", goSubscriptions},
	{"list changes", goListChanges},
	{"cancellation", goCancellation},
	{"errors", goErrors},
	{"several clients", goSeveralClients},
}

func goInitialize(p *goPlay) {
	if a := p.connect(); a != nil {
		p.note("server", a.InitializeResult())
		if !a.modern() {
			a.step("ping", func(ctx context.Context) error { return a.Ping(ctx, nil) })
		}
	}
}

func goLists(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	a.step("tools", func(ctx context.Context) error { return entries(a.ListTools(ctx, nil)) })
	a.step("prompts", func(ctx context.Context) error { return entries(a.ListPrompts(ctx, nil)) })
	a.step("resources", func(ctx context.Context) error { return entries(a.ListResources(ctx, nil)) })
	a.step("templates", func(ctx context.Context) error { return entries(a.ListResourceTemplates(ctx, nil)) })
}

// entries is an error unless the list has some.
func entries[R any](result R, err error) error {
	if err != nil {
		return err
	}
	if text := string(harness.RawJSON(result)); strings.Count(text, `"name"`) == 0 {
		return errors.New("an empty list")
	}
	return nil
}

func goCalls(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	cast := p.cast
	a.step("call", func(ctx context.Context) error { return a.tool(ctx, cast.simple) })
	a.step("progress", func(ctx context.Context) error {
		err := a.toolWithProgress(ctx, cast.progress)
		if n := a.recorder.Count("notifications/progress"); err == nil && n != 3 {
			err = fmt.Errorf("%d progress notifications", n)
		}
		return err
	})
	a.step("sampling", func(ctx context.Context) error { return a.tool(ctx, cast.sampling) })
	a.step("elicitation", func(ctx context.Context) error { return a.tool(ctx, cast.elicitation) })
	a.step("prompt", func(ctx context.Context) error {
		_, err := a.GetPrompt(ctx, &mcp.GetPromptParams{Name: cast.prompt})
		return err
	})
	a.step("resource", func(ctx context.Context) error {
		_, err := a.ReadResource(ctx, &mcp.ReadResourceParams{URI: cast.resource})
		return err
	})
	a.step("completion", func(ctx context.Context) error {
		_, err := a.Complete(ctx, &cast.completion)
		return err
	})
}

func goSubscriptions(p *goPlay) {
	a := p.connect()
	if a == nil || p.cast.watched == "" {
		return
	}
	uri := p.cast.watched
	if !a.modern() {
		a.step("level", func(ctx context.Context) error {
			return a.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "debug"})
		})
	}
	if logs := p.cast.logs; logs.Tool != "" && !a.modern() {
		a.step("messages", func(ctx context.Context) error {
			return errors.Join(a.tool(ctx, logs), a.recorder.Expect(ctx, "notifications/message"))
		})
	}
	a.step("subscribe", func(ctx context.Context) error {
		if err := a.Subscribe(ctx, &mcp.SubscribeParams{URI: uri}); err != nil {
			return err
		}
		if p.cast.touch.Tool == "" {
			return a.recorder.Expect(ctx, "notifications/resources/updated")
		}
		return a.recorder.Expect(ctx, "notifications/message")
	})
	if touch := p.cast.touch; touch.Tool != "" {
		a.step("update", func(ctx context.Context) error {
			return errors.Join(a.tool(ctx, touch), a.recorder.Expect(ctx, "notifications/resources/updated"))
		})
		a.step("off", func(ctx context.Context) error { return a.tool(ctx, touch) })
	}
	a.step("unsubscribe", func(ctx context.Context) error {
		err := a.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: uri})
		if err == nil && p.cast.touch.Tool != "" {
			err = a.recorder.Expect(ctx, "notifications/message")
		}
		return err
	})
}

func goListChanges(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	a.step("change", func(ctx context.Context) error {
		err := a.tool(ctx, p.cast.change)
		if err == nil && p.cast.changed != "" {
			err = a.recorder.Expect(ctx, p.cast.changed)
		}
		return err
	})
}

// goCancellation leaves a call after its first progress. The session goes on.
func goCancellation(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	a.fails("left", func(ctx context.Context) error {
		defer a.recorder.Take()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		a.progress = cancel
		return a.toolWithProgress(ctx, p.cast.progress)
	})
	a.step("next", func(ctx context.Context) error {
		defer a.recorder.Take() // what comes of a call that was left may be read or not
		return a.tool(ctx, p.cast.simple)
	})
}

func goErrors(p *goPlay) {
	a := p.connect()
	if a == nil {
		return
	}
	unknown := func(ctx context.Context) error {
		return a.tool(ctx, harness.Call{Tool: "no-such-tool", Arguments: map[string]any{}})
	}
	if p.cast.npm {
		a.step("unknown tool", unknown) // an isError result
	} else {
		a.fails("unknown tool", unknown)
	}
	a.fails("unknown prompt", func(ctx context.Context) error {
		_, err := a.GetPrompt(ctx, &mcp.GetPromptParams{Name: "no-such-prompt"})
		return err
	})
	a.fails("unknown resource", func(ctx context.Context) error {
		_, err := a.ReadResource(ctx, &mcp.ReadResourceParams{URI: "no:such/resource"})
		return err
	})
	a.step("fine again", func(ctx context.Context) error { return a.tool(ctx, p.cast.simple) })
}

func goSeveralClients(p *goPlay) {
	const agents, calls = 5, 10
	errs := make(chan error, agents*calls)
	for range agents {
		a := p.connect()
		if a == nil {
			return
		}
		for range calls {
			go func() { errs <- a.tool(p.t.Context(), p.cast.simple) }()
		}
	}
	for range agents * calls {
		p.check(<-errs)
	}
	for i, a := range p.agents {
		p.note(fmt.Sprintf("agent %d", i), a.recorder.Take())
	}
}
