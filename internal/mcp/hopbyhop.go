package mcp

import "fluentd-perf/internal/http1/header"

// IsHopByHop reports whether a header field ends at this hop (RFC 9110, 7.6.1), older kin included: in requests and answers alike.
// What is made anew for each hop (Host, Content-Length and the like) is beside it, in package proxy.
func IsHopByHop(name string) bool {
	if name == "" {
		return false
	}
	switch name[0] | 0x20 { // in lower case: most names begin with another letter
	case 'c':
		return header.EqualNames(name, "Connection")
	case 'k':
		return header.EqualNames(name, "Keep-Alive")
	case 'p':
		return header.EqualNames(name, "Proxy-Authenticate") || header.EqualNames(name, "Proxy-Authentication-Info") ||
			header.EqualNames(name, "Proxy-Authorization") || header.EqualNames(name, "Proxy-Connection")
	case 't':
		return header.EqualNames(name, "Te") || header.EqualNames(name, "Trailer") || header.EqualNames(name, "Transfer-Encoding")
	case 'u':
		return header.EqualNames(name, "Upgrade")
	}
	return false
}

// AppendConnectionNamed appends the names of fields that a Connection field names: they end at this hop, too.
func AppendConnectionNamed(names header.Names, value string) header.Names {
	for name := range header.Elements(value) {
		if !header.EqualNames(name, "keep-alive") && !header.EqualNames(name, "close") { // they name no field, or one that ends here anyway
			names = append(names, name)
		}
	}
	return names
}

// DropHopByHop takes off the fields that end at this hop, those that Connection names included, in one pass.
func DropHopByHop(l *header.List) {
	var named header.Names
	for _, f := range *l { // without Values, for which names would be on the heap
		if header.EqualNames(f.Name, "Connection") {
			named = AppendConnectionNamed(named, f.Value)
		}
	}
	l.Drop(func(f header.Field) bool { return IsHopByHop(f.Name) || named.Has(f.Name) })
}
