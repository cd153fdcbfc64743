package cache

import (
	"bytes"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// askNamed is ask for a server that speaks JSON-RPC 2.0 and no MCP: of its methods the cache knows what the operator says,
// and nothing of what MCP says of names, `_meta`, results or notifications holds.
func (u *Upstream) askNamed(c *mcp.Call, asker Partition) *question {
	m := &c.Message
	if c.Era != mcp.EraPlain || !c.Regular() || !single(c.Header) || m.Params.End-m.Params.Start > maxParams {
		return nil
	}
	ttl, named := u.named(m.MethodName.Of(c.Body))
	if !named || ttl <= 0 {
		return nil
	}
	session := first(c.Header["Mcp-Session-Id"]) // it says who asks, if only to this server
	raw := u.rawKey(c, asker, session)
	if q := u.questions.get(raw); q != nil {
		return q
	}
	q := u.newNamed(c, asker, session, ttl)
	if q != nil {
		u.questions.put(raw, q)
	}
	return q
}

// named returns the operator's TTL for a method, given as its token; false where there is none. It does not allocate for
// names as they are mostly written.
func (u *Upstream) named(token []byte) (time.Duration, bool) {
	if len(token) < 2 {
		return 0, false
	}
	if raw := token[1 : len(token)-1]; bytes.IndexByte(raw, '\\') < 0 {
		ttl, ok := u.opts.TTL[string(raw)]
		return ttl, ok
	}
	name, ok := mcp.Text(token)
	if !ok {
		return 0, false
	}
	ttl, ok := u.opts.TTL[name]
	return ttl, ok
}

// newNamed is newQuestion for such a call. It is nil where params have no canonical form.
func (u *Upstream) newNamed(c *mcp.Call, asker Partition, session string, ttl time.Duration) *question {
	name, ok := mcp.Text(c.Message.MethodName.Of(c.Body))
	if !ok {
		return nil
	}
	params, err := canonicalPlain(c.Message.Params.Of(c.Body))
	if err != nil {
		return nil
	}
	q := &question{
		method: mcp.MethodOther, name: name, family: FamilyOther, plain: true, own: true, asker: asker, bearer: u.store.bearer(c),
		keeps: true, shares: true, override: true, ttl: ttl,
	}
	s := scope{plain: true, upstream: u.opts.Identity, version: c.Version, partition: asker, session: session, params: appendFields(nil, c.Header, isParam)}
	public := []tier.Generation{u.family(FamilyOther), u.methodOf(name)}
	private := append(append(make([]tier.Generation, 0, tier.MaxGuards), public...), u.asker(q.bearer))
	q.pair = pairOf(s, name, params, private, public)
	return q
}

// methodOf guards the answers to one method of a server without MCP.
func (u *Upstream) methodOf(name string) tier.Generation {
	return generationOf("method", u.opts.Identity, name)
}
