package config

import (
	"net"
	"net/url"
	"slices"
	"strconv"

	"github.com/google/jsonschema-go/jsonschema"
)

// listenAt is an address of Config.Listen and where it is written.
type listenAt struct {
	by *decoder
	at key
	address
}

// defaultListen is where agents look.
func defaultListen() []Listen {
	return []Listen{{Address: "127.0.0.1:7300"}, {Address: "[::1]:7300", Optional: true}}
}

// addresses is one address to listen on, or a list of them.
func (l *loader) addresses() kind[[]Listen] {
	read := func(d *decoder, at key, n *node, into *[]Listen) {
		*into = nil
		one := func(at key, n *node) {
			if s, ok := d.text(at, n); ok {
				l.addListen(d, at, s)
			}
		}
		if n.kind != kindList {
			one(at, n)
			return
		}
		d.items(at, n, one)
		if len(n.items) == 0 {
			d.fault(at, "must have an address")
		}
	}
	return kind[[]Listen]{"host:port, or a list of them", read, func() *jsonschema.Schema {
		list := &jsonschema.Schema{Type: "array", Items: ofType("string")(), MinItems: jsonschema.Ptr(1)}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{ofType("string")(), list}}
	}}
}

// String returns the address, and whether it may be missing.
func (l Listen) String() string {
	if l.Optional {
		return l.Address + " (where it exists)"
	}
	return l.Address
}

func (l *loader) addListen(d *decoder, at key, s string) {
	if a, why := parseAddress(s); d.accepts(at, why) {
		l.config.Listen = append(l.config.Listen, Listen{Address: s})
		l.listens = append(l.listens, listenAt{d, at, a})
	}
}

// listenFlags puts the addresses of the command line in the place of the file's.
func (l *loader) listenFlags() {
	if len(l.sources.Listen) == 0 {
		return
	}
	l.config.Listen, l.listens = nil, nil
	for _, s := range l.sources.Listen {
		l.addListen(l.flags, key{path: "--listen"}, s)
	}
}

// checkListen checks what the addresses say together. exposed: they must be loopback addresses.
func (l *loader) checkListen(c check, exposed bool) {
	if len(l.listens) == 0 { // those by default have their place in the checks, too
		for _, on := range l.config.Listen {
			a, _ := parseAddress(on.Address)
			l.listens = append(l.listens, listenAt{c.d, c.at(), a})
		}
	}
	for i, a := range l.listens {
		if slices.ContainsFunc(l.listens[:i], func(b listenAt) bool { return a.meets(b.address) }) {
			a.by.fault(a.at, "%s is listened on already", a)
		}
		a.checkLoopback(exposed)
	}
}

func (a listenAt) checkLoopback(exposed bool) {
	if exposed && !a.loopback() {
		a.by.fault(a.at, "%s is not a loopback address: set %s (generate makes one)", a, tokenKey)
	}
}

// checkMetrics checks the address of /metrics beside the others.
func (l *loader) checkMetrics(c check, exposed bool) {
	a, why := parseAddress(l.config.Metrics.Listen)
	if why != "" {
		return // none
	}
	for _, b := range l.listens {
		if a.meets(b.address) {
			c.fault("must not be an address of listen (%s); leave it out and /metrics is there", b)
			break
		}
	}
	listenAt{c.d, c.at(), a}.checkLoopback(exposed)
}

// hostPort takes an address that can be listened on.
func hostPort(s string) (same, why string) {
	_, why = parseAddress(s)
	return s, why
}

// checkLoops refuses an upstream that is the daemon itself.
func (l *loader) checkLoops() {
	for _, e := range l.endpoints {
		if own, ok := l.ownAddress(e.u); ok {
			e.by.fault(e.at, "is the daemon's own address (%s); name the server itself", own)
		}
	}
}

// ownAddress returns the address of the daemon that a URL leads to, if there is one. u may be nil.
func (l *loader) ownAddress(u *url.URL) (string, bool) {
	if u == nil {
		return "", false
	}
	a := urlAddress(u)
	for _, b := range l.listens {
		if a.reaches(b.address) {
			return b.String(), true
		}
	}
	return "", false
}

func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }
