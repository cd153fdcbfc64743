package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// partition says whose a call is, as an HMAC: over all headers by which a server could tell principals apart (partitioner.of), or
// over those that can bear a credential (partitioner.credential). The zero partition is everybody's.
type partition [32]byte

// anyone stands in the place of a partition where the server cannot tell one from another. It is no HMAC, and not the zero
// partition, whose entries need a server's "public".
var anyone = partition{1}

// inert are the headers of a request that say nothing of who calls. The list is closed; operators add to it.
var inert = map[string]bool{
	"Accept": true, "Accept-Language": true, "Content-Type": true, "Content-Length": true, "User-Agent": true,
	"Origin": true, "Referer": true, "Dnt": true, "Priority": true, "Cache-Control": true, "Pragma": true,
	"Traceparent": true, "Tracestate": true, "Baggage": true, "X-Request-Id": true, "X-Correlation-Id": true,
	"Mcp-Protocol-Version": true, "Mcp-Method": true, "Mcp-Name": true, "Mcp-Session-Id": true, "Last-Event-Id": true,
	"Accept-Encoding": true, // always the daemon's own
}

// secret is the key of a daemon, or of several that share their tiers: partitions, seals and names of stored things
// depend on it.
type secret struct {
	inner, outer [64]byte // the HMAC pads (RFC 2104), so that a hash needs no state of its own
	id           string
	raw          []byte
}

// newSecret makes a secret of at least 16 bytes of key.
func newSecret(key []byte) *secret {
	s := &secret{raw: slices.Clone(key)}
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

// mac returns HMAC-SHA256 of buf[64:], whose first 64 bytes are room for the inner pad. It does not allocate.
func (s *secret) mac(buf []byte) [32]byte {
	copy(buf, s.inner[:])
	var outer [96]byte
	copy(outer[:], s.outer[:])
	sum := sha256.Sum256(buf)
	copy(outer[64:], sum[:])
	return sha256.Sum256(outer[:])
}

// partitioner turns headers into partitions.
type partitioner struct {
	secret *secret
	inert  map[string]bool // the operator's, canonical
	list   []byte          // the same as a part of what a partition is made of
}

// credentialHeaders are the headers that can bear a credential.
var credentialHeaders = map[string]bool{"Authorization": true, "Cookie": true, "X-Api-Key": true, "Api-Key": true}

// of returns the partition of a request with these headers and this query, as they go upstream. An unknown header counts
// as identity, and so does the query.
func (p *partitioner) of(h header.List, query string, buf []byte) (partition, []byte) {
	buf = p.appendIdentity(append(buf[:0], p.secret.inner[:]...), h, query)
	return p.secret.mac(buf), buf
}

// credential is of for invalidations: made of what can bear a credential and of nothing else, it is the same for all partitions of a
// credential. To invalidate too much is safe.
func (p *partitioner) credential(h header.List, query string, buf []byte) (partition, []byte) {
	buf = append(append(buf[:0], p.secret.inner[:]...), "bearer"...)
	buf = appendFields(appendQuery(buf, query), h, func(name string) bool { return credentialHeaders[name] && !p.inert[name] })
	return p.secret.mac(buf), buf
}

// appendIdentity appends the headers that say who calls, and the operator's list of those that do not: what was kept under another
// list was kept for other principals.
func (p *partitioner) appendIdentity(buf []byte, h header.List, query string) []byte {
	return appendFields(appendQuery(append(buf, p.list...), query), h, p.isIdentity)
}

func appendQuery(buf []byte, query string) []byte {
	if query == "" {
		return buf
	}
	return appendPart(buf, "?"+query) // no header has such a name
}

// appendFields appends those headers that count: in the order of their names, which are canonical, each with its values in theirs.
func appendFields(buf []byte, h header.List, counts func(name string) bool) []byte {
	var room [24]header.Field
	fields := room[:0]
	for _, f := range h {
		if f.Name = textproto.CanonicalMIMEHeaderKey(f.Name); counts(f.Name) {
			fields = append(fields, f)
		}
	}
	slices.SortStableFunc(fields, func(a, b header.Field) int { return strings.Compare(a.Name, b.Name) })
	for len(fields) > 0 {
		n := 1
		for n < len(fields) && fields[n].Name == fields[0].Name {
			n++
		}
		buf = appendPart(buf, fields[0].Name)
		buf = binary.AppendUvarint(buf, uint64(n))
		for _, f := range fields[:n] {
			buf = appendPart(buf, f.Value)
		}
		fields = fields[n:]
	}
	return buf
}

// newPartitioner makes a partitioner with the operator's inert headers.
func newPartitioner(secret *secret, headers []string) partitioner {
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

// isParam reports whether a header repeats a parameter of a tool: it is a part of the key (see keyInput).
func isParam(name string) bool { return mcp.IsParamHeader(name) }

// appendPart appends a string or bytes behind their length, so that no two lists of parts look alike.
func appendPart[T string | []byte](buf []byte, part T) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(part)))
	return append(buf, part...)
}
