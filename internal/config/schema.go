package config

import (
	"maps"
	"math"
	"time"
)

// schema is the whole YAML file.
func (l *loader) schema(d *decoder) keys {
	c := l.config
	return keys{
		"listen":    l.listen(d),
		"upstreams": l.upstreams(d),
		"auth":      d.mapping(keys{"token": l.token(d)}),
		"hosts":     d.list(d.host(&c.Hosts)),
		"origins":   d.list(d.origin(&c.Origins)),
		"metrics":   d.mapping(keys{"listen": d.metricsListen(&c.Metrics)}),
		"cache":     d.cache(&c.Cache),
		"admin":     d.mapping(keys{"group": d.group(&c.Admin.Group)}),
		"errors":    oneOf(d, &c.Errors, ErrorsJSONRPC, ErrorsHTTP),
		"drain":     d.durationOrZero(&c.Drain),
		"limits":    d.limits(&c.Limits),
		"rpc":       d.rpc(&c.RPC),
	}
}

// limits reads the bounds of the whole daemon. What is held together has room for one body at least.
func (d *decoder) limits(l *Limits) reader {
	read := d.mapping(keys{
		"body":        d.size(&l.Body, leastSize, mostSize),
		"check_body":  d.size(&l.CheckBody, leastSize, mostSize),
		"event":       d.size(&l.Event, leastSize, mostSize),
		"buffered":    d.size(&l.Buffered, leastSize, mostBuffered),
		"in_flight":   d.count(&l.InFlight, 1, mostCalls),
		"max_streams": d.count(&l.MaxStreams, 1, 1_000_000),
	})
	return func(at key, n *node) {
		read(at, n)
		switch {
		case !d.given(at, "buffered"):
			l.Buffered = max(l.Buffered, l.Body)
		case d.sound(at, "buffered") && d.sound(at, "body") && l.Buffered < l.Body:
			d.fault(d.at(at, "buffered"), "must not be less than body (%s)", formatSize(l.Body))
		}
	}
}

// The range of the limits on messages. Offsets into a message are 32 bits wide.
const (
	leastSize = 1 << 10
	mostSize  = 1 << 30

	mostBuffered = 64 << 30
)

// upstreams reads the mapping of names to upstreams.
func (l *loader) upstreams(d *decoder) reader {
	return func(at key, n *node) {
		l.unknown = l.unknown || n.kind != kindMapping
		d.each(at, n, func(name string, at key, n *node) {
			before := len(d.faults)
			l.claim(d, at, name)
			u := defaultUpstream(name)
			d.upstream(at, n, &u)
			l.add(d, d.addressKeys(at, &u), u, before)
		})
	}
}

func (d *decoder) upstream(at key, n *node, u *Upstream) {
	known := d.settings(u)
	known["url"] = d.url(u)
	known["urls"] = d.urls(u)
	known["headers"] = d.headers(u, d.expandYAML)
	d.mapping(known)(at, n)
	switch url, urls := d.given(at, "url"), d.given(at, "urls"); {
	case url && urls:
		d.fault(d.at(at, "urls"), "is given beside url: put all into urls")
	case n.kind == kindMapping && !url && !urls:
		d.fault(at, "url is missing")
	}
	d.checkUpstream(at, u)
}

// settings are the keys of an upstream that an entry of a servers file may have too.
func (d *decoder) settings(u *Upstream) keys {
	known := keys{
		"transport":       oneOf(d, &u.Transport, TransportHTTP, TransportSSE),
		"oauth":           oneOf(d, &u.OAuth, OAuthRewrite, OAuthPassthrough),
		"forward_cookies": d.boolean(&u.ForwardCookies),
		"streams":         d.mapping(keys{"reopen": d.durationOrZero(&u.Streams.Reopen)}),
		"pool": d.mapping(keys{
			"max_connections": d.count(&u.Pool.MaxConnections, 1, math.MaxUint16),
			"max_idle":        d.count(&u.Pool.MaxIdle, 1, math.MaxUint16),
			"idle_timeout":    d.duration(&u.Pool.IdleTimeout),
			"max_age":         d.duration(&u.Pool.MaxAge),
			"wait_timeout":    d.duration(&u.Pool.WaitTimeout),
		}),
		"timeouts": d.mapping(keys{
			"connect":    d.duration(&u.Timeouts.Connect),
			"handshake":  d.duration(&u.Timeouts.Handshake),
			"first_byte": d.duration(&u.Timeouts.FirstByte),
			"call":       d.duration(&u.Timeouts.Call),
			"idle":       d.duration(&u.Timeouts.Idle),
		}),
		"cache":    d.upstreamCache(&u.Cache),
		"coalesce": d.mapping(keys{"tools": d.list(d.pattern(&u.Coalesce.Tools))}),
	}
	maps.Copy(known, d.resilience(u))
	return known
}

// checkUpstream checks what the settings below at say together. A default gives way to a limit that was set.
func (d *decoder) checkUpstream(at key, u *Upstream) {
	d.checkPool(at, &u.Pool)
	d.checkTimeouts(at, &u.Timeouts)
	d.checkProtocol(at, u)
	d.checkRetry(at, u)
	d.checkUpstreamCache(d.at(at, "cache"), u)
	if u.Transport != TransportSSE {
		return
	}
	if d.given(at, "streams", "reopen") {
		d.fault(d.at(at, "streams", "reopen"), "means nothing with transport sse, whose sessions end with their stream")
	}
	d.refuse(at, "means nothing with transport sse, which is only relayed", "cache", "coalesce", "batch", "sessions", "urls")
	d.refuse(d.at(at, "retry"), "means nothing with transport sse, which is only relayed", "tools", "hedge")
}

func (d *decoder) checkPool(at key, p *Pool) {
	if !d.given(at, "pool", "max_idle") {
		p.MaxIdle = p.MaxConnections
		return
	}
	sound := d.sound(at, "pool", "max_idle") && d.sound(at, "pool", "max_connections")
	if sound && p.MaxIdle > p.MaxConnections {
		d.fault(d.at(at, "pool", "max_idle"), "must not be above max_connections (%d)", p.MaxConnections)
	}
}

func (d *decoder) checkTimeouts(at key, t *Timeouts) {
	if !d.sound(at, "timeouts", "call") {
		return
	}
	for _, w := range []struct {
		name  string
		value *time.Duration
	}{{"connect", &t.Connect}, {"handshake", &t.Handshake}, {"first_byte", &t.FirstByte}, {"idle", &t.Idle}} {
		switch {
		case !d.given(at, "timeouts", w.name):
			*w.value = min(*w.value, t.Call)
		case d.sound(at, "timeouts", w.name) && *w.value > t.Call:
			d.fault(d.at(at, "timeouts", w.name), "must not be above call (%s)", formatDuration(t.Call))
		}
	}
}
