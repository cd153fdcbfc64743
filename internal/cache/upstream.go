package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Upstream is the caching stage of one upstream: Front and Back are its two halves. Make one with Store.Upstream.
type Upstream struct {
	store   *Store
	opts    UpstreamOptions
	peers   peers
	seen    credentials
	server  identity
	metrics *upstreamMetrics
	fence   func(mcp.Scope)

	families [familyCount]Generation
}

// Fencing tells the flights' stage that a credential's equal calls may not join flights of before.
type Fencing func(mcp.Scope)

// Upstream makes the stage of one upstream. fence may be nil.
func (s *Store) Upstream(o UpstreamOptions, fence Fencing) *Upstream {
	o.complete()
	u := &Upstream{store: s, opts: o, peers: peers{by: make(map[string]*peer)}, fence: fence, metrics: s.metrics.upstream(o.Name)}
	u.seen.last = make(map[Partition]time.Time)
	for f := range familyCount {
		u.families[f] = generationOf("family", o.Identity, f.String())
	}
	return u
}

func (u *Upstream) family(f Family) Generation { return u.families[f] }

func (u *Upstream) uri(uri string) Generation { return generationOf("uri", u.opts.Identity, uri) }

// asker guards all that one credential may see: dropped when the server refuses it.
func (u *Upstream) asker(p Partition) Generation {
	return generationOf("asker", u.opts.Identity, string(p[:]))
}

// writes guards what a tools/call of the credential may have changed.
func (u *Upstream) writes(p Partition) Generation {
	return generationOf("writes", u.opts.Identity, string(p[:]))
}

func (u *Upstream) scope(p Partition) mcp.Scope {
	g := u.asker(p)
	var s mcp.Scope
	copy(s[:], g[:])
	return s
}

// credentials are those that had a 2xx answer of the server's lately: only they are given public entries, so that others
// meet the server's 401, which starts OAuth.
type credentials struct {
	mu   sync.Mutex
	last map[Partition]time.Time
}

const (
	credentialLife = 10 * time.Minute
	maxCredentials = 10_000
)

func (c *credentials) accepted(p Partition, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for some, at := range c.last {
		if len(c.last) < maxCredentials && now.Sub(at) < credentialLife {
			break
		}
		delete(c.last, some)
	}
	c.last[p] = now
}

func (c *credentials) refused(p Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, p)
}

func (c *credentials) known(p Partition, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.last[p]
	return ok && now.Sub(at) < credentialLife
}

// identity is who the server says it is. Another one at the same address makes everything old.
type identity struct {
	mu   sync.Mutex
	info string
}

// changed notes a serverInfo and reports whether it is another one than before.
func (i *identity) changed(info []byte) bool {
	if len(info) == 0 {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	was := i.info
	i.info = string(info)
	return was != "" && was != i.info
}

// PurgeAll makes everything of the upstream old, or what one family holds.
func (u *Upstream) PurgeAll(ctx context.Context) error {
	return u.store.bump(ctx, u.families[:])
}

// Purge makes the answers of one method old. The error says that the method has none.
func (u *Upstream) Purge(ctx context.Context, method string) error {
	m := mcp.MethodOf([]byte(method))
	if !mayCache(m) && m != mcp.MethodToolsCall {
		return fmt.Errorf("answers of %q are never cached", method)
	}
	return u.store.bump(ctx, []Generation{u.family(familyOf(m))})
}

// failed reports whether a call came back with what a stale answer may stand in for: the server or the way to it is in
// trouble. A refusal of the agent's own is none.
func failed(res *mcp.Result, err error) bool {
	if err == nil {
		return res.Status == http.StatusTooManyRequests || res.Status >= http.StatusInternalServerError
	}
	var f *mcp.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Code {
	case mcp.CodeOverloaded, mcp.CodeBadGateway, mcp.CodeUnavailable, mcp.CodeDeadlinePassed:
		return f.Reason != mcp.ReasonDraining
	}
	return false
}
