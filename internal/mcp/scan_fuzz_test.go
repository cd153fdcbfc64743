package mcp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"fluentd-perf/internal/mcp"
)

// entry is a member of an object, as jsontext sees it.
type entry struct {
	name string
	at   mcp.Span
}

// isJSON reports whether doc is one JSON value in the eyes of jsontext.
func isJSON(doc []byte) bool {
	return jsontext.Value(doc).IsValid(jsontext.AllowDuplicateNames(true))
}

// escapes matches a pair of surrogates, any other surrogate (the group), and any other escape.
var escapes = regexp.MustCompile(`(?s)\\u[dD][89abAB][[:xdigit:]]{2}\\u[dD][c-fC-F][[:xdigit:]]{2}|(\\u[dD][89a-fA-F][[:xdigit:]]{2})|\\.`)

// tidied returns a copy of doc of the same length in which what makes strings no Unicode is replaced: halves of surrogate
// pairs by \ufffd, bytes that are not UTF-8 by question marks.
func tidied(doc []byte) []byte {
	tidy := bytes.Clone(doc)
	for i := 0; i < len(tidy); {
		r, n := utf8.DecodeRune(tidy[i:])
		if r == utf8.RuneError && n == 1 {
			tidy[i] = '?'
		}
		i += n
	}
	for _, at := range escapes.FindAllSubmatchIndex(tidy, -1) {
		if at[2] >= 0 {
			copy(tidy[at[2]:at[3]], `\ufffd`)
		}
	}
	return tidy
}

// unmarked returns doc with spaces for a byte order mark.
func unmarked(doc []byte) []byte {
	rest, ok := bytes.CutPrefix(doc, []byte("\ufeff"))
	if !ok {
		return doc
	}
	return append([]byte("   "), rest...)
}

// entries returns the members of the valid object doc[at], nil if it is something else.
func entries(doc []byte, at mcp.Span) []entry {
	d := jsontext.NewDecoder(bytes.NewReader(at.Of(doc)), jsontext.AllowDuplicateNames(true))
	if start, err := d.ReadToken(); err != nil || start.Kind() != '{' {
		return nil
	}
	var found []entry
	for d.PeekKind() == '"' {
		name, _ := d.ReadToken()
		text := name.String()
		value, err := d.ReadValue()
		if err != nil {
			panic(err)
		}
		end := int64(at.Start) + d.InputOffset()
		found = append(found, entry{text, mcp.Span{Start: uint32(end - int64(len(value))), End: uint32(end)}})
	}
	return found
}

// sort puts the entries where their names say, and returns the names that are there twice.
func sort(found []entry, places map[string]*mcp.Span) (twice, unknown map[string]bool) {
	twice, unknown = map[string]bool{}, map[string]bool{}
	for _, e := range found {
		switch place := places[e.name]; {
		case place == nil:
			unknown[e.name] = true
		case place.Present():
			twice[e.name] = true
		default:
			*place = e.at
		}
	}
	return twice, unknown
}

// reference does what Scan does, for valid JSON that is Unicode, in the slow and obvious way. It returns false for what is no message.
func reference(doc []byte) (m mcp.Message, ok bool) {
	start := len(doc) - len(bytes.TrimLeft(doc, " \t\r\n"))
	m.Whole = mcp.Span{Start: uint32(start), End: uint32(len(bytes.TrimRight(doc, " \t\r\n")))}
	text := m.Whole.Of(doc)
	if text[0] == '[' {
		m.Kind = mcp.KindBatch
		return m, depth(text) <= mcp.MaxDepth && len(bytes.Trim(text[1:len(text)-1], " \t\r\n")) > 0
	}
	var version mcp.Span
	twice, unknown := sort(entries(doc, m.Whole), map[string]*mcp.Span{
		"jsonrpc": &version, "id": &m.ID, "method": &m.MethodName, "params": &m.Params, "result": &m.Result, "error": &m.Error})
	m.Ambiguous = len(unknown) > 0
	inside := func(at mcp.Span, places map[string]*mcp.Span) {
		again, _ := sort(entries(doc, at), places)
		m.Ambiguous = m.Ambiguous || len(again) > 0
	}
	inside(m.Params, map[string]*mcp.Span{"name": &m.Name, "uri": &m.URI, "cursor": &m.Cursor, "_meta": &m.Meta, "requestId": &m.RequestID,
		"inputResponses": &m.InputResponses, "requestState": &m.RequestState, "task": &m.Task})
	const prefix = "io.modelcontextprotocol/"
	inside(m.Meta, map[string]*mcp.Span{prefix + "protocolVersion": &m.ProtocolVersion, prefix + "clientCapabilities": &m.ClientCapabilities,
		prefix + "clientInfo": &m.ClientInfo, prefix + "logLevel": &m.LogLevel, "progressToken": &m.ProgressToken})
	inside(m.Result, map[string]*mcp.Span{"resultType": &m.ResultType, "ttlMs": &m.TTL, "cacheScope": &m.CacheScope, "isError": &m.IsError,
		"_meta": &m.ResultMeta})
	inside(m.ResultMeta, map[string]*mcp.Span{prefix + "serverInfo": &m.ServerInfo})
	inside(m.Error, map[string]*mcp.Span{"code": &m.ErrorCode})

	kind := func(s mcp.Span) byte {
		if !s.Present() {
			return 0
		}
		return byte(jsontext.Value(s.Of(doc)).Kind())
	}
	if isNull := func(s mcp.Span) bool { return kind(s) == 'n' }; m.Result.Present() && m.Error.Present() {
		switch {
		case isNull(m.Error):
			m.Error, m.Loose = mcp.Span{}, true
		case isNull(m.Result):
			m.Result, m.Loose = mcp.Span{}, true
		}
	}
	m.Loose = m.Loose || kind(m.Params) == 'n'
	idAlone := m.ID.Present() && len(unknown) == 0 && !m.MethodName.Present() && !m.Params.Present() && !m.Result.Present() && !m.Error.Present()

	badID := !strings.ContainsRune("\x00\"0n", rune(kind(m.ID)))
	ok = !badID && len(twice) == 0 && depth(text) <= mcp.MaxDepth && kind(version) == '"' && decoded(version.Of(doc)) == "2.0" &&
		strings.ContainsRune("\x00n{[", rune(kind(m.Params)))
	switch hasResult, hasError := m.Result.Present(), m.Error.Present(); {
	case m.MethodName.Present():
		ok = ok && kind(m.MethodName) == '"' && !hasResult && !hasError
		m.Kind = mcp.KindNotification
		if m.ID.Present() {
			m.Kind = mcp.KindRequest
		}
		if ok {
			m.Method = mcp.MethodOf([]byte(decoded(m.MethodName.Of(doc))))
		}
	case idAlone:
		m.Kind, m.Loose = mcp.KindResult, true
	case hasResult:
		ok = ok && !hasError && m.ID.Present()
		m.Kind = mcp.KindResult
	default:
		ok = ok && kind(m.Error) == '{'
		m.Kind = mcp.KindError
	}
	m.Ambiguous = m.Ambiguous || m.Params.Present() && !m.MethodName.Present()
	if !ok {
		if badID || twice["id"] {
			m.ID = mcp.Span{}
		}
		m = mcp.Message{ID: m.ID}
	}
	return m, ok
}

func decoded(token []byte) string {
	text, err := jsontext.AppendUnquote(nil, token)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// depth counts how deep the brackets of valid JSON are nested.
func depth(doc []byte) int {
	d := jsontext.NewDecoder(bytes.NewReader(doc), jsontext.AllowDuplicateNames(true))
	deepest := 0
	for {
		if _, err := d.ReadToken(); err != nil {
			return deepest
		}
		deepest = max(deepest, d.StackDepth())
	}
}

// agree checks Scan of doc against the reference, which sees doc without what is no Unicode and without its mark.
func agree(t *testing.T, doc []byte) {
	t.Helper()
	if bytes.Count(doc, []byte("["))+bytes.Count(doc, []byte("{")) > 9000 {
		return // jsontext refuses more than 10,000 levels
	}
	given := bytes.Clone(doc)
	var m mcp.Message
	err := mcp.Scan(doc, &m)
	var fault *mcp.ScanError
	if err != nil && !errors.As(err, &fault) {
		t.Fatalf("%q: error %v is no ScanError", doc, err)
	}
	if !bytes.Equal(doc, given) {
		t.Fatalf("%q: Scan wrote into it", given)
	}
	tidy := unmarked(tidied(doc))
	if !isJSON(tidy) {
		if fault == nil || fault.Invalid {
			t.Fatalf("%q: not JSON, got %v", doc, err)
		}
		if id := m.ID.Of(tidy); m != (mcp.Message{ID: m.ID}) || id != nil && !isJSON(id) {
			t.Fatalf("%q: not JSON, got message %+v", doc, m)
		}
		return
	}
	if !json.Valid(tidy) {
		t.Fatalf("%q: jsontext and encoding/json disagree", doc)
	}
	want, ok := mcp.Message{}, false
	if text := bytes.TrimLeft(tidy, " \t\r\n"); text[0] == '{' || text[0] == '[' {
		want, ok = reference(tidy)
		want.Loose = ok && (want.Loose || !bytes.Equal(tidy, doc))
	}
	switch {
	case ok && err != nil:
		t.Fatalf("%q: %v", doc, err)
	case !ok && (fault == nil || !fault.Invalid):
		t.Fatalf("%q: not a message, got %v", doc, err)
	case !ok && want.Kind == mcp.KindBatch:
		want = mcp.Message{}
	}
	if m != want {
		t.Fatalf("%q: got\n%+v\nwant\n%+v", doc, m, want)
	}
}

func FuzzScan(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 50 {
		f.Add(randomMessage(random))
	}
	f.Fuzz(agree)
}

// TestScanAgreesWithReference scans many messages made at random, a third of them damaged, some of them loose.
func TestScanAgreesWithReference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	kinds, loose := map[mcp.Kind]int{}, map[mcp.Kind]int{}
	for range 20_000 {
		doc := randomMessage(random)
		if random.IntN(3) == 0 {
			const junk = "{}[]\",:\\ \x00\xff1eu"
			doc[random.IntN(len(doc))] = junk[random.IntN(len(junk))]
		}
		agree(t, doc)
		var m mcp.Message
		_ = mcp.Scan(doc, &m)
		kinds[m.Kind]++
		if m.Loose {
			loose[m.Kind]++
		}
	}
	for kind := mcp.KindInvalid; kind <= mcp.KindBatch; kind++ {
		if kinds[kind]-loose[kind] < 50 || kind != mcp.KindInvalid && loose[kind] < 50 {
			t.Errorf("only %d messages of kind %d, %d of them loose", kinds[kind], kind, loose[kind])
		}
	}
}

// writer writes JSON at random.
type writer struct {
	*rand.Rand
	bytes.Buffer
}

func randomMessage(random *rand.Rand) []byte {
	w := writer{Rand: random}
	if w.IntN(20) == 0 {
		w.WriteString("\ufeff")
	}
	if w.IntN(10) == 0 {
		w.array(3)
		return w.Bytes()
	}
	w.space()
	w.object(0, "jsonrpc", "id", "method", "params", "result", "error", "extra", "Method")
	w.space()
	return w.Bytes()
}

func (w *writer) pick(of ...string) string { return of[w.IntN(len(of))] }

func (w *writer) space() { w.WriteString(w.pick("", "", "", "", " ", "\n\t", "\r\n ")) }

// text writes a string, some of its letters as escapes.
func (w *writer) text(s string) {
	w.WriteByte('"')
	for _, r := range s {
		if r < 0x80 && (w.IntN(40) == 0 || r == '"' || r == '\\') {
			w.WriteString(escapeAll(string(r)))
		} else {
			w.WriteRune(r)
		}
	}
	w.WriteByte('"')
}

// object writes some members of the names, in any order, now and then one twice. The envelope, at depth 0, gets what a
// message must have, most of the time.
func (w *writer) object(depth int, names ...string) {
	var chosen []string
	for _, name := range names {
		for w.IntN(3) == 0 {
			chosen = append(chosen, name)
		}
	}
	if depth == 0 && w.IntN(8) > 0 {
		chosen = [][]string{{"id", "method"}, {"id", "method", "params"}, {"method", "params"}, {"id", "result"}, {"id", "error"}, {"id"}, {"id", "result", "error"}}[w.IntN(7)]
		chosen = append(chosen, "jsonrpc")
		if w.IntN(8) == 0 {
			chosen = append(chosen, w.pick(names...))
		}
	}
	w.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	w.WriteByte('{')
	w.space()
	for i, name := range chosen {
		if i > 0 {
			w.WriteByte(',')
			w.space()
		}
		w.text(name)
		w.space()
		w.WriteByte(':')
		w.space()
		w.value(name, depth+1)
		w.space()
	}
	w.WriteByte('}')
}

func (w *writer) array(depth int) {
	w.WriteByte('[')
	for i := range w.IntN(4) {
		if i > 0 {
			w.WriteByte(',')
		}
		w.space()
		w.value("", depth+1)
		w.space()
	}
	w.WriteByte(']')
}

// value writes a value that fits the name, most of the time.
func (w *writer) value(name string, depth int) {
	if w.IntN(20) == 0 {
		name = ""
	}
	if (name == "params" || name == "result" || name == "error") && w.IntN(3) == 0 {
		w.WriteString("null")
		return
	}
	const prefix = "io.modelcontextprotocol/"
	switch name {
	case "jsonrpc":
		w.text("2.0")
	case "id":
		w.WriteString(w.pick(`1`, `1.0`, `"a"`, `null`, `9007199254740993`, `"\u00e9"`, `"\udc00"`))
	case "method":
		w.text(w.pick("tools/list", "tools/call", "notifications/cancelled", "initialize", "nobody/knows", ""))
	case "params":
		w.object(depth, "name", "uri", "cursor", "_meta", "requestId", "inputResponses", "requestState", "task", "arguments")
	case "_meta":
		w.object(depth, prefix+"protocolVersion", prefix+"clientCapabilities", prefix+"clientInfo", prefix+"logLevel", prefix+"serverInfo", "progressToken", "x")
	case "result":
		w.object(depth, "resultType", "ttlMs", "cacheScope", "isError", "_meta", "content")
	case "error":
		w.object(depth, "code", "message", "data")
	default:
		w.anything(depth)
	}
}

func (w *writer) anything(depth int) {
	switch n := w.IntN(10); {
	case n == 0 && depth < 6:
		w.array(depth)
	case n == 1 && depth < 6:
		w.object(depth, "name", "ttlMs", "", "ключ")
	case n < 5:
		w.text(w.pick("", "x", "twelve bytes", "grüße", strings.Repeat("世界", 5), "a\u007fb", strings.Repeat("words ", w.IntN(30))+strings.Repeat("世", w.IntN(3))+"\\"+strings.Repeat("\"", w.IntN(2))))
	case n == 5 && w.IntN(8) == 0:
		w.WriteString(w.pick(`"\ud800"`, `"\ud83d\ud83d\ude00"`, "\"caf\xe9\"", "\"\xe4\xb8\"", "\"\\\\\xc0\xaf\""))
	default:
		w.WriteString(w.pick(`0`, `-1`, `1.5e-7`, `1E9`, `true`, `false`, `null`, `"\ud83d\ude00"`, `"\\\"\/\b\f\n\r\t"`, `{}`, `[]`))
	}
}

func TestTidied(t *testing.T) {
	for given, want := range map[string]string{
		`a\ud83d\ude00\n`: `a\ud83d\ude00\n`, `\ud83d`: `\ufffd`, `\uDE00\uD83D`: `\ufffd\ufffd`, `\ud83d\ud83d\ude00`: `\ufffd\ud83d\ude00`,
		`\Ud83d`: `\Ud83d`, `\\ud83d\\\ud83d`: `\\ud83d\\\ufffd`, `\ue000`: `\ue000`, "é\xe9\xe4\xb8\"\ufffd": "é???\"\ufffd", "\\\xff": `\?`,
	} {
		if got := string(tidied([]byte(given))); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

func TestReferenceFindsExactBytes(t *testing.T) { // else it could agree with anything
	doc := []byte(` {"id" : 1.0 , "a":[ 1 ] } `)
	want := []entry{{"id", mcp.Span{Start: 9, End: 12}}, {"a", mcp.Span{Start: 19, End: 24}}}
	got := entries(doc, mcp.Span{Start: 1, End: uint32(len(doc) - 1)})
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
}
