package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// Partition is a credential: an HMAC over the headers by which a server could tell callers apart. The zero Partition is
// the public one.
type Partition [32]byte

// inert are the headers of a request that say nothing of who asks. The list is closed; operators add to it.
var inert = map[string]bool{
	"Accept": true, "Accept-Language": true, "Content-Type": true, "Content-Length": true, "User-Agent": true,
	"Origin": true, "Referer": true, "Dnt": true, "Priority": true, "Cache-Control": true, "Pragma": true,
	"Traceparent": true, "Tracestate": true, "Baggage": true, "X-Request-Id": true, "X-Correlation-Id": true,
	"Mcp-Protocol-Version": true, "Mcp-Method": true, "Mcp-Name": true, "Mcp-Session-Id": true, "Last-Event-Id": true,
	"Accept-Encoding": true, // always the daemon's own
}

// Secret is the key of a daemon, or of several that share their tiers: partitions, seals and names of stored things
// depend on it.
type Secret struct {
	inner, outer [64]byte // the HMAC pads (RFC 2104), so that a hash needs no state of its own
	id           string
	raw          []byte
}

// NewSecret makes a Secret of at least 16 bytes of key.
func NewSecret(key []byte) *Secret {
	s := &Secret{raw: slices.Clone(key)}
	block := key
	if len(block) > len(s.inner) {
		sum := sha256.Sum256(block)
		block = sum[:]
	}
	copy(s.inner[:], block)
	copy(s.outer[:], block)
	for i := range s.inner {
		s.inner[i] ^= 0x36
		s.outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append([]byte("fluentd-perf partition key id\x00"), key...))
	s.id = hex.EncodeToString(sum[:4])
	return s
}

// ID is a short name of the key that tells nothing of it: it stands in the names of stored keys and channels.
func (s *Secret) ID() string { return s.id }

// mac returns HMAC-SHA256 of buf[64:], whose first 64 bytes are room for the inner pad. It does not allocate.
func (s *Secret) mac(buf []byte) [32]byte {
	copy(buf, s.inner[:])
	var outer [96]byte
	copy(outer[:], s.outer[:])
	sum := sha256.Sum256(buf)
	copy(outer[64:], sum[:])
	return sha256.Sum256(outer[:])
}

// partitioner turns headers into partitions.
type partitioner struct {
	secret *Secret
	inert  map[string]bool // the operator's, canonical
	list   []byte          // the same as a part of what a partition is made of
}

// bearing are the headers that can bear a credential.
var bearing = map[string]bool{"Authorization": true, "Cookie": true, "X-Api-Key": true, "Api-Key": true}

// of returns the partition of a request with these headers and this query, as they go upstream. An unknown header counts
// as identity, and so does the query.
func (p *partitioner) of(h http.Header, query string, buf []byte) (Partition, []byte) {
	buf = p.appendIdentity(append(buf[:0], p.secret.inner[:]...), h, query)
	return p.secret.mac(buf), buf
}

// bearer is of for what is dropped: made of what can bear a credential and of nothing else, it is one for all partitions that
// a credential has. Too coarse is safe there.
func (p *partitioner) bearer(h http.Header, query string, buf []byte) (Partition, []byte) {
	buf = append(append(buf[:0], p.secret.inner[:]...), "bearer"...)
	buf = appendFields(appendQuery(buf, query), h, func(name string) bool { return bearing[name] && !p.inert[name] })
	return p.secret.mac(buf), buf
}

// appendIdentity appends the headers that say who asks, and which ones the operator says do not: what was kept under
// another list was kept for others.
func (p *partitioner) appendIdentity(buf []byte, h http.Header, query string) []byte {
	return appendFields(appendQuery(append(buf, p.list...), query), h, p.isIdentity)
}

func appendQuery(buf []byte, query string) []byte {
	if query == "" {
		return buf
	}
	return appendPart(buf, "?"+query) // no header has such a name
}

// appendFields appends those headers that count, in one order.
func appendFields(buf []byte, h http.Header, counts func(name string) bool) []byte {
	var room [24]string
	names := room[:0]
	for name := range h {
		if counts(name) && len(h[name]) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		buf = appendPart(buf, name)
		buf = binary.AppendUvarint(buf, uint64(len(h[name])))
		for _, v := range h[name] {
			buf = appendPart(buf, v)
		}
	}
	return buf
}

// newPartitioner makes a partitioner with the operator's inert headers.
func newPartitioner(secret *Secret, headers []string) partitioner {
	p := partitioner{secret: secret, inert: make(map[string]bool, len(headers))}
	for _, name := range headers {
		p.inert[textproto.CanonicalMIMEHeaderKey(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.inert)) {
		p.list = appendPart(p.list, "inert "+name) // no header has such a name
	}
	return p
}

func (p *partitioner) isIdentity(name string) bool {
	return !inert[name] && !strings.HasPrefix(name, "Sec-") && !isParam(name) && !p.inert[name]
}

// isParam reports whether a header repeats a parameter of a tool's: it is a part of what is asked (see scope).
func isParam(name string) bool { return strings.HasPrefix(name, "Mcp-Param-") }

// appendPart appends a string or bytes behind their length, so that no two lists of parts look alike.
func appendPart[T string | []byte](buf []byte, part T) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(part)))
	return append(buf, part...)
}
