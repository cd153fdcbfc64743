package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// address is a parsed host:port, or a Unix socket.
type address struct {
	host string // lower case; "" for every address
	port uint16 // 0 for a Unix socket
	unix string // the path of a Unix socket, or ""
}

// parseAddress parses host:port, or says what is wrong with it.
func parseAddress(s string) (a address, why string) {
	host, port, err := net.SplitHostPort(s)
	number, bad := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return address{}, "must be host:port, such as 127.0.0.1:7300, not " + shown(s)
	case bad != nil:
		return address{}, "must have a port from 0 to 65535, not " + shown(port)
	case host != "" && !isHost(host):
		return address{}, "must have an IP address or a host name, not " + shown(host)
	}
	return address{host: plainHost(host), port: uint16(number)}, ""
}

// hostPort takes an address that can be listened on.
func hostPort(s string) (same, why string) {
	_, why = parseAddress(s)
	return s, why
}

// urlAddress returns the address of an http or https URL whose port was checked.
func urlAddress(u *url.URL) address {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = map[string]uint64{"http": 80, "https": 443}[u.Scheme]
	}
	return address{host: plainHost(u.Hostname()), port: uint16(port)}
}

// plainHost writes a host in the one way in which hosts are compared.
func plainHost(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return strings.ToLower(host)
}

// hostLabels is a name of a host, of up to 253 bytes.
var hostLabels = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*$`)

func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || len(s) <= 253 && hostLabels.MatchString(s)
}

// isPort reports whether a URL with that port can be connected to.
func isPort(s string) bool {
	v, err := strconv.ParseUint(s, 10, 16)
	return err == nil && v > 0
}

func (a address) String() string {
	if a.unix != "" {
		return unixPrefix + a.unix
	}
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

func (a address) unspecified() bool {
	ip, _ := netip.ParseAddr(a.host)
	return a.host == "" || ip.IsUnspecified()
}

func (a address) loopback() bool {
	ip, _ := netip.ParseAddr(a.host)
	return a.host == "localhost" || ip.IsLoopback()
}

// meets reports whether both cannot be listened on at once.
func (a address) meets(b address) bool {
	if a.unix != "" || b.unix != "" {
		return a.unix == b.unix
	}
	return a.port == b.port && a.port != 0 && (a.host == b.host || a.unspecified() || b.unspecified())
}

// reaches reports whether a connection to a, which is no Unix socket, ends at a listener on b.
func (a address) reaches(b address) bool {
	local := a.loopback() || a.unspecified()
	return a.port == b.port && a.port != 0 && (a.host == b.host || local && b.unspecified() || a.host == "localhost" && b.loopback())
}

// listenAt is an address of Config.Listen and where it is written.
type listenAt struct {
	at key
	address
}

// unixPrefix stands before the path of a Unix socket.
const unixPrefix = "unix:"

// maxSocket is the length of the path of a Unix socket, in bytes, on every system.
const maxSocket = 103

func wrongSocket(path string) (why string) {
	switch {
	case !filepath.IsAbs(path) || strings.HasSuffix(path, "/") || strings.ContainsFunc(path, isControl):
		return "must be unix: and the absolute path of a socket, not " + shown(unixPrefix+path)
	case len(path) > maxSocket:
		return fmt.Sprintf("must have a path of %d bytes at most", maxSocket)
	}
	return ""
}

// defaultListen is where agents look.
func defaultListen() []Listen {
	return []Listen{{Address: "127.0.0.1:7300"}, {Address: "[::1]:7300", Optional: true}}
}

// addresses is one address to listen on, or a list of them.
func (l *loader) addresses() kind[[]Listen] {
	return kind[[]Listen]{"host:port or unix:PATH, or a list of them", func(at key, n *yaml.Node, into *[]Listen) {
		*into = nil
		one := func(at key, n *yaml.Node) {
			if s, ok := at.text(n); ok {
				l.addListen(at, s)
			}
		}
		switch {
		case shapeOf(n) != isList:
			one(at, n)
		case len(n.Content) == 0:
			at.fault("must have an address")
		default:
			at.items(n, one)
		}
	}, func(s *jsonschema.Schema) {
		list := &jsonschema.Schema{Type: "array", Items: made(ofType("string")), MinItems: jsonschema.Ptr(1)}
		s.AnyOf = []*jsonschema.Schema{made(ofType("string")), list}
	}}
}

func (l *loader) addListen(at key, s string) {
	on := Listen{Address: s}
	a, why := parseAddress(s)
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		on = Listen{Unix: filepath.Clean(path)}
		a, why = address{unix: on.Unix}, wrongSocket(path)
	}
	if at.accepts(why) {
		l.config.Listen = append(l.config.Listen, on)
		l.listens = append(l.listens, listenAt{at, a})
	}
}

// listenFlags puts the addresses of the command line in the place of the file's.
func (l *loader) listenFlags() {
	if len(l.sources.Listen) > 0 {
		l.config.Listen, l.listens = nil, nil
	}
	for _, s := range l.sources.Listen {
		l.addListen(key{by: l.flags, path: "--listen"}, s)
	}
}

// checkListen checks what the addresses say together. exposed: they must be loopback addresses.
func (l *loader) checkListen(c check, exposed bool) {
	for i, on := range l.config.Listen {
		if i == len(l.listens) { // those by default have their place in the checks, too
			a, _ := parseAddress(on.Address)
			l.listens = append(l.listens, listenAt{c.key, a})
		}
		a := l.listens[i]
		if slices.ContainsFunc(l.listens[:i], func(b listenAt) bool { return a.meets(b.address) }) {
			a.at.fault("%s is listened on already", a)
		}
		a.checkLoopback(exposed)
	}
}

func (a listenAt) checkLoopback(exposed bool) {
	if exposed && a.unix == "" && !a.loopback() {
		a.at.fault("%s is not a loopback address: set %s (generate makes one)", a, tokenKey)
	}
}

// checkMetrics checks the address of /metrics beside the others.
func (l *loader) checkMetrics(c check, exposed bool) {
	a, why := parseAddress(l.config.Metrics.Listen)
	if why != "" {
		return // none
	}
	if i := slices.IndexFunc(l.listens, func(b listenAt) bool { return a.meets(b.address) }); i >= 0 {
		c.fault("must not be an address of listen (%s); leave it out and /metrics is there", l.listens[i])
	}
	listenAt{c.key, a}.checkLoopback(exposed)
}

// ownAddress returns the address of the daemon that a URL leads to, or "".
func (l *loader) ownAddress(u *url.URL) string {
	for _, b := range l.listens {
		if urlAddress(u).reaches(b.address) {
			return b.String()
		}
	}
	return ""
}
