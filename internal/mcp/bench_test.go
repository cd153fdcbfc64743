package mcp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"fluentd-perf/internal/mcp"
)

// smallRequest is a tools/call of about 200 bytes, as agents send it.
const smallRequest = `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"search_files","arguments":{"path":"/srv/data","pattern":"*.go","limit":50},"_meta":{"progressToken":"7d1f0c7e-1f3c","trace":"00-4bf9"}}}`

// largeResult is a tools/list answer of about 17 KB.
var largeResult = func() string {
	tools := make([]string, 40)
	for i := range tools {
		tools[i] = fmt.Sprintf(`{"name":"tool_%02d","title":"Tool number %d","description":"Reads what lies at the given path and returns it as text, line by line.\nLarge files are cut.","inputSchema":{"type":"object","properties":{"path":{"type":"string","description":"the \"path\" to read"},"limit":{"type":"integer","minimum":0,"maximum":10000},"follow":{"type":"boolean","default":false}},"required":["path"]}}`, i, i)
	}
	return `{"jsonrpc":"2.0","id":3,"result":{"tools":[` + strings.Join(tools, ",") + `],"ttlMs":60000,"cacheScope":"public","resultType":"complete"}}`
}()

// largeText is a tools/call answer of about 1 MB: text of lines with some quotes, as a JSON string.
var largeText = func() string {
	const line = `The server reads \"the file\" that lies at the given path and gives back all of its text, cut off where it is too long.\n`
	return `{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"` + strings.Repeat(line, 1<<20/len(line)) + `"}],"isError":false}}`
}()

func BenchmarkScan(b *testing.B) {
	text := strings.Repeat("Grüße, 世界! ", 1000)
	for _, c := range []struct{ name, doc string }{
		{"200B", smallRequest},
		{"17KB", largeResult},
		{"1MB", largeText},
		{"1MB_base64", `{"jsonrpc":"2.0","id":3,"result":{"contents":[{"uri":"a:b","blob":"` + strings.Repeat("QmFzZTY0IG9mIG5vIG1lYW5pbmcu", 1<<20/28) + `"}]}}`},
		{"text", `{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"` + strings.Repeat("plain words of no meaning ", 700) + `"}]}}`},
		{"unicode", `{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"` + text + `"}]}}`},
	} {
		doc := []byte(c.doc)
		run := func(name string, f func() bool) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(doc)))
				b.ReportAllocs()
				for b.Loop() {
					if !f() {
						b.Fatal("refused")
					}
				}
			})
		}
		run("Scan", func() bool { var m mcp.Message; return mcp.Scan(doc, &m) == nil })
		run("json.Valid", func() bool { return json.Valid(doc) })
		run("jsontext", func() bool { return jsontext.Value(doc).IsValid() })
	}
}

func BenchmarkMember(b *testing.B) {
	doc := []byte(`{"resource":"https://example.com/mcp","authorization_servers":["https://auth.example.com"],"scopes_supported":["read","write"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mcp.Member(doc, "resource"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSameID(b *testing.B) {
	for _, pair := range [][2]string{{`17`, `17`}, {`17`, `18`}, {`"7d1f0c7e-1f3c"`, `"7d1f0c7e-1f3d"`}, {`1.0`, `1`}, {`"\u0061"`, `"a"`}} {
		x, y := []byte(pair[0]), []byte(pair[1])
		b.Run(pair[0]+"_"+pair[1], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mcp.SameID(x, y)
			}
		})
	}
}

// endless starts over where its reader ends.
type endless struct{ *bytes.Reader }

func (e endless) Read(p []byte) (int, error) {
	if e.Len() == 0 {
		e.Seek(0, io.SeekStart)
	}
	return e.Reader.Read(p)
}

func BenchmarkEventReader(b *testing.B) {
	message := "event: message\ndata: " + smallRequest + "\n\n"
	large := "event: message\ndata: " + strings.Repeat(strings.TrimSpace(largeResult), 64) + "\n\n"
	for _, c := range []struct {
		name, event string
		reads       int // events a Read
	}{
		{"200B", message, 1}, {"200B_by_20", message, 20}, {"two_lines", "data: {\ndata: }\n\n", 1}, {"comment", ": ping\n\n", 1}, {"1MB", large, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			var pool mcp.BufferPool
			stream := []byte(strings.Repeat(c.event, c.reads))
			r := mcp.NewEventReader(endless{bytes.NewReader(stream)}, &pool, 16<<20)
			defer r.Close()
			b.SetBytes(int64(len(c.event)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLineReader(b *testing.B) {
	var pool mcp.BufferPool
	r := mcp.NewLineReader(endless{bytes.NewReader([]byte(smallRequest + "\n"))}, &pool, 16<<20)
	defer r.Close()
	b.SetBytes(int64(len(smallRequest) + 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBufferPool(b *testing.B) {
	var pool mcp.BufferPool
	b.ReportAllocs()
	for b.Loop() {
		pool.Put(pool.Get(1 << 10))
	}
}
