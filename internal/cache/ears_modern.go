package cache

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	earReopen   = 5 * time.Second // between two openings of a listen whose uris have changed
	earDiscTime = time.Minute     // for a server/discover
)

// earModern is the modern half of a life.
type earModern struct {
	l     *earLife
	voice *earVoice
	uris  *earURISet

	// What the server tells of. Written by run before the listens begin.
	lists   string // the filter for lists; "" if it tells of none
	updates bool   // it takes subscriptions to resources
}

func newEarModern(l *earLife, v *earVoice) *earModern {
	return &earModern{l: l, voice: v, uris: newEarURISet()}
}

// run asks what the server tells of, once, and then listens for that.
func (m *earModern) run() {
	m.l.hold(earDiscover, m.discover)
	if m.lists != "" {
		m.l.e.running.Go(func() { m.l.hold(earLists, m.hearLists) })
	}
	if m.updates {
		m.l.hold(earURIs, m.hearURIs)
	}
}

// discover fills in lists and updates.
func (m *earModern) discover() earOutcome {
	ctx, cancel := context.WithTimeout(m.l.ctx, earDiscTime)
	defer cancel()
	res, err := m.l.e.o.Next.Call(ctx, m.voice.request(mcp.LaneRequest, mcp.MethodServerDiscover, ""))
	if err != nil {
		return failedEar(err)
	}
	defer res.Close()
	if res.Status != http.StatusOK {
		return judgeEar(res)
	}
	return m.allow(res)
}

// allow reads the answer to server/discover, a body or the end of a stream.
func (m *earModern) allow(res *mcp.Result) earOutcome {
	if res.Events == nil {
		if !res.Checked {
			return earDeclined
		}
		return m.allowOf(&res.Message, res.Body)
	}
	for {
		ev, err := res.Events.Next()
		switch {
		case err != nil || ev.Failure != nil:
			return earBroken
		case ev.Answer && !ev.Exact:
			return earDeclined
		case ev.Answer:
			return m.allowOf(&ev.Message, ev.Data)
		}
	}
}

// allowOf reads the capabilities of a DiscoverResult (2026-07-28, schema, ServerCapabilities). Without a complete one
// there is nothing to listen for.
func (m *earModern) allowOf(msg *mcp.Message, data []byte) earOutcome {
	var result struct {
		Capabilities struct {
			Tools struct {
				ListChanged bool `json:"listChanged"`
			} `json:"tools"`
			Prompts struct {
				ListChanged bool `json:"listChanged"`
			} `json:"prompts"`
			Resources struct {
				ListChanged bool `json:"listChanged"`
				Subscribe   bool `json:"subscribe"`
			} `json:"resources"`
		} `json:"capabilities"`
	}
	if msg.Kind != mcp.KindResult || msg.ResultType.Present() && !mcp.TextIs(msg.ResultType.Of(data), "complete") {
		return earDeclined
	}
	if json.Unmarshal(msg.Result.Of(data), &result) != nil {
		return earDeclined
	}
	c := &result.Capabilities
	m.lists = listFilter(c.Tools.ListChanged, c.Prompts.ListChanged, c.Resources.ListChanged)
	m.updates = c.Resources.Subscribe
	return earDone
}

// listFilter returns the `notifications` of a listen for lists (2026-07-28, basic/patterns/subscriptions), "" for none.
// resourcesListChanged stands for templates as well.
func listFilter(tools, prompts, resources bool) string {
	b := []byte(`"notifications":{`)
	empty := len(b)
	for _, t := range []struct {
		name string
		told bool
	}{{"toolsListChanged", tools}, {"promptsListChanged", prompts}, {"resourcesListChanged", resources}} {
		if t.told {
			b = append(append(append(b, '"'), t.name...), `":true,`...)
		}
	}
	if len(b) == empty {
		return ""
	}
	b[len(b)-1] = '}'
	return string(append(b, ','))
}

func uriFilter(uris []string) string {
	b := []byte(`"notifications":{"resourceSubscriptions":[`)
	for i, uri := range uris {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(b, uri)
	}
	return string(append(b, `]},`...))
}

// hearLists listens for changes of lists until the stream ends.
func (m *earModern) hearLists() earOutcome {
	c := m.voice.request(mcp.LaneListen, mcp.MethodSubscriptionsListen, m.lists)
	res, outcome := m.l.ask(m.l.ctx, c)
	if res == nil {
		return outcome
	}
	return m.l.hear(res, c)
}

// hearURIs listens for changes of the resources that were read, as soon as there are some, until the stream ends or there
// are others.
func (m *earModern) hearURIs() earOutcome {
	uris := m.uris.wait(m.l.ctx)
	if uris == nil {
		return earDone
	}
	ctx, cancel := context.WithCancel(m.l.ctx)
	defer cancel()
	opened := time.Now()
	c := m.voice.request(mcp.LaneListen, mcp.MethodSubscriptionsListen, uriFilter(uris))
	res, outcome := m.l.ask(ctx, c)
	if res == nil {
		return outcome
	}
	others := make(chan bool, 1)
	m.l.e.running.Go(func() {
		defer cancel()
		others <- m.others(ctx, opened)
	})
	outcome = m.l.hear(res, c)
	cancel()
	if <-others {
		return earAgain
	}
	return outcome
}

// others returns true when there are other uris than at the opening and it is long enough ago, false when ctx has ended
// before.
func (m *earModern) others(ctx context.Context, opened time.Time) bool {
	select {
	case <-m.uris.changed:
	case <-ctx.Done():
		return false
	}
	t := time.NewTimer(earReopen - time.Since(opened))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
