package config

import (
	"net"
	"net/url"
	"slices"
	"strconv"
)

// listenAt is an address of Config.Listen and where it is written.
type listenAt struct {
	by *decoder
	at key
	address
}

// listen reads one address or a list of them.
func (l *loader) listen(d *decoder) reader {
	return func(at key, n *node) {
		l.config.Listen = nil
		if n.kind != kindList {
			l.listenOn(d)(at, n)
			return
		}
		d.list(l.listenOn(d))(at, n)
		if len(n.items) == 0 {
			d.fault(at, "must have an address")
		}
	}
}

func (l *loader) listenOn(d *decoder) reader {
	return func(at key, n *node) {
		if s, ok := d.text(at, n); ok {
			l.addListen(d, at, s)
		}
	}
}

func (l *loader) addListen(d *decoder, at key, s string) {
	if a, ok := d.readAddress(at, s); ok {
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

// checkAddresses checks what the addresses say together and with auth.token.
func (l *loader) checkAddresses() {
	l.addDefaults()
	for i, a := range l.listens {
		if slices.ContainsFunc(l.listens[:i], func(b listenAt) bool { return a.meets(b.address) }) {
			a.by.fault(a.at, "%s is listened on already", l.name(a))
		}
		l.checkLoopback(a)
	}
	l.checkMetrics()
}

// addDefaults gives the default addresses their place in the checks.
func (l *loader) addDefaults() {
	if len(l.listens) > 0 {
		return
	}
	for _, on := range l.config.Listen {
		if host, port, err := net.SplitHostPort(on.Address); err == nil {
			number, _ := strconv.ParseUint(port, 10, 16)
			l.listens = append(l.listens, listenAt{l.main, key{path: "listen"}, address{host, uint16(number)}})
		}
	}
}

func (l *loader) checkLoopback(a listenAt) {
	if !a.loopback() && !l.tokenAsk && l.main.sound(key{}, "auth") {
		a.by.fault(a.at, "%s is not a loopback address: set auth.token (generate makes one)", l.name(a))
	}
}

func (l *loader) name(a listenAt) string {
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

func (l *loader) checkMetrics() {
	s := l.config.Metrics.Listen
	if s == "" {
		return
	}
	at := l.main.at(key{}, "metrics", "listen")
	a, _ := l.main.readAddress(at, s) // sound, or it would not be here
	m := listenAt{l.main, at, a}
	for _, b := range l.listens {
		if a.meets(b.address) {
			l.main.fault(at, "must not be an address of listen (%s); leave it out and /metrics is there", l.name(b))
			break
		}
	}
	l.checkLoopback(m)
}

func (d *decoder) metricsListen(m *Metrics) reader {
	return func(at key, n *node) {
		s, ok := d.text(at, n)
		if !ok || s == "" {
			return
		}
		if _, ok := d.readAddress(at, s); ok {
			m.Listen = s
		}
	}
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
			return l.name(b), true
		}
	}
	return "", false
}
