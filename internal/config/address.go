package config

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// address is a parsed host:port.
type address struct {
	host string // lower case; "" for every address
	port uint16
}

// readAddress parses host:port and says what is wrong with it.
func (d *decoder) readAddress(at key, s string) (address, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		d.fault(at, "must be host:port, such as 127.0.0.1:7300, not %s", shown(s))
		return address{}, false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		d.fault(at, "must have a port from 0 to 65535, not %s", shown(port))
		return address{}, false
	}
	if host != "" && !isHost(host) {
		d.fault(at, "must have an IP address or a host name, not %s", shown(host))
		return address{}, false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return address{strings.ToLower(host), uint16(number)}, true
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return len(s) <= 253
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
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
	number, _ := strconv.ParseUint(port, 10, 16)
	host := strings.ToLower(u.Hostname())
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return address{host, uint16(number)}
}
