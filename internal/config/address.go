package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// address is a parsed host:port.
type address struct {
	host string // lower case; "" for every address
	port uint16
}

// parseAddress parses host:port, or says what is wrong with it.
func parseAddress(s string) (a address, why string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return address{}, "must be host:port, such as 127.0.0.1:7300, not " + shown(s)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return address{}, "must have a port from 0 to 65535, not " + shown(port)
	}
	if host != "" && !isHost(host) {
		return address{}, "must have an IP address or a host name, not " + shown(host)
	}
	return address{plainHost(host), uint16(number)}, ""
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

func (a address) unspecified() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "" || err == nil && ip.IsUnspecified()
}

func (a address) loopback() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "localhost" || err == nil && ip.IsLoopback()
}

// meets reports whether both cannot be listened on at once.
func (a address) meets(b address) bool {
	return a.port == b.port && a.port != 0 && (a.host == b.host || a.unspecified() || b.unspecified())
}

// reaches reports whether a connection to a ends at a listener on b.
func (a address) reaches(b address) bool {
	if a.port != b.port || a.port == 0 {
		return false
	}
	local := a.loopback() || a.unspecified()
	return a.host == b.host || local && b.unspecified() || a.host == "localhost" && b.loopback()
}

func urlAddress(u *url.URL) address {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	number, _ := strconv.ParseUint(port, 10, 16) // parseEndpoint took it
	return address{plainHost(u.Hostname()), uint16(number)}
}
