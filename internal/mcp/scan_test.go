package mcp_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

// spans returns the texts of all spans of m that are there, by field name, but for Whole.
func spans(m *mcp.Message, doc string) map[string]string {
	found := map[string]string{}
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		span, ok := v.Field(i).Interface().(mcp.Span)
		if name := v.Type().Field(i).Name; ok && span.Present() && name != "Whole" {
			found[name] = string(span.Of([]byte(doc)))
		}
	}
	return found
}

func TestScanFindsKindsAndSpans(t *testing.T) {
	type fields = map[string]string
	tests := []struct {
		name   string
		doc    string
		kind   mcp.Kind
		method mcp.Method
		want   fields
	}{
		{"request", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, mcp.KindRequest, mcp.MethodToolsList,
			fields{"ID": `1`, "MethodName": `"tools/list"`}},
		{"white space", " \t\r\n{ \"jsonrpc\" : \"2.0\" ,\n\"id\"\t: \"a\" , \"method\":\"ping\" , \"params\" : [ 1 , 2 ] } \n", mcp.KindRequest, mcp.MethodPing,
			fields{"ID": `"a"`, "MethodName": `"ping"`, "Params": `[ 1 , 2 ]`}},
		{"id past 2^53", `{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}`, mcp.KindRequest, mcp.MethodPing,
			fields{"ID": `9007199254740993`, "MethodName": `"ping"`}},
		{"id 1.0", `{"jsonrpc":"2.0","id":1.0,"method":"ping"}`, mcp.KindRequest, mcp.MethodPing,
			fields{"ID": `1.0`, "MethodName": `"ping"`}},
		{"id null", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, mcp.KindRequest, mcp.MethodPing,
			fields{"ID": `null`, "MethodName": `"ping"`}},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":"r"}}`, mcp.KindNotification, mcp.MethodCancelled,
			fields{"MethodName": `"notifications/cancelled"`, "Params": `{"requestId":"x","reason":"r"}`, "RequestID": `"x"`}},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"Tools/list"}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `"Tools/list"`}},
		{"empty method", `{"jsonrpc":"2.0","id":1,"method":""}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `""`}},
		{"a method of escapes", `{"jsonrpc":"2.0","id":1,"method":"` + escapeAll("resources/templates/list") + `"}`, mcp.KindRequest, mcp.MethodResourcesTemplatesList,
			fields{"ID": `1`, "MethodName": `"` + escapeAll("resources/templates/list") + `"`}},
		{"a long method of escapes", `{"jsonrpc":"2.0","id":1,"method":"` + escapeAll(strings.Repeat("ping", 30)) + `"}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `"` + escapeAll(strings.Repeat("ping", 30)) + `"`}},
		{"names of escapes", `{"\u006asonrpc":"2\u002e0","\u0069d":1,"\u006dethod":"tools\/call","p\u0061rams":{"n\u0061me":"n","\u005fmeta":{"io.modelcontextprotocol\/logLevel":"info"}}}`, mcp.KindRequest, mcp.MethodToolsCall,
			fields{"ID": `1`, "MethodName": `"tools\/call"`, "Params": `{"n\u0061me":"n","\u005fmeta":{"io.modelcontextprotocol\/logLevel":"info"}}`,
				"Name": `"n"`, "Meta": `{"io.modelcontextprotocol\/logLevel":"info"}`, "LogLevel": `"info"`}},
		{"params", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"n","uri":2,"cursor":"","requestId":3,"inputResponses":{},"requestState":"s","task":{"ttl":1},"arguments":{"name":"inner","_meta":{"progressToken":9}}}}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `"x"`, "Name": `"n"`, "URI": `2`, "Cursor": `""`, "RequestID": `3`, "InputResponses": `{}`, "RequestState": `"s"`, "Task": `{"ttl":1}`,
				"Params": `{"name":"n","uri":2,"cursor":"","requestId":3,"inputResponses":{},"requestState":"s","task":{"ttl":1},"arguments":{"name":"inner","_meta":{"progressToken":9}}}`}},
		{"_meta", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/logLevel":"debug","progressToken":7,"other":1}}}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `"x"`, "ProtocolVersion": `"2026-07-28"`, "ClientCapabilities": `{}`, "ClientInfo": `{"name":"c"}`, "LogLevel": `"debug"`, "ProgressToken": `7`,
				"Meta":   `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/logLevel":"debug","progressToken":7,"other":1}`,
				"Params": `{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/logLevel":"debug","progressToken":7,"other":1}}`}},
		{"_meta that is no object", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":[{"progressToken":7}]}}`, mcp.KindRequest, mcp.MethodOther,
			fields{"ID": `1`, "MethodName": `"x"`, "Params": `{"_meta":[{"progressToken":7}]}`, "Meta": `[{"progressToken":7}]`}},
		{"result", `{"jsonrpc":"2.0","id":"7","result":{"tools":[],"resultType":"complete","ttlMs":1e3,"cacheScope":"public","isError":false,"name":"not params"}}`, mcp.KindResult, mcp.MethodNone,
			fields{"ID": `"7"`, "Result": `{"tools":[],"resultType":"complete","ttlMs":1e3,"cacheScope":"public","isError":false,"name":"not params"}`,
				"ResultType": `"complete"`, "TTL": `1e3`, "CacheScope": `"public"`, "IsError": `false`}},
		{"_meta of a result", `{"jsonrpc":"2.0","id":7,"result":{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"},"io.modelcontextprotocol/clientInfo":1}}}`, mcp.KindResult, mcp.MethodNone,
			fields{"ID": `7`, "Result": `{"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"},"io.modelcontextprotocol/clientInfo":1}}`,
				"ResultMeta": `{"io.modelcontextprotocol/serverInfo":{"name":"s"},"io.modelcontextprotocol/clientInfo":1}`, "ServerInfo": `{"name":"s"}`}},
		{"result that is no object", `{"jsonrpc":"2.0","id":7,"result":"ttlMs"}`, mcp.KindResult, mcp.MethodNone,
			fields{"ID": `7`, "Result": `"ttlMs"`}},
		{"error", `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no","data":{"code":1}}}`, mcp.KindError, mcp.MethodNone,
			fields{"ID": `7`, "Error": `{"code":-32601,"message":"no","data":{"code":1}}`, "ErrorCode": `-32601`}},
		{"error without id", `{"jsonrpc":"2.0","error":{}}`, mcp.KindError, mcp.MethodNone, fields{"Error": `{}`}},
		{"error with null", `{"jsonrpc":"2.0","id":null,"error":{}}`, mcp.KindError, mcp.MethodNone, fields{"ID": `null`, "Error": `{}`}},
		{"batch", ` [{"id":1},2] `, mcp.KindBatch, mcp.MethodNone, fields{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mcp.Message{Ambiguous: true, Cursor: mcp.Span{Start: 1, End: 2}} // Scan empties it
			if err := mcp.Scan([]byte(tt.doc), &m); err != nil {
				t.Fatal(err)
			}
			if m.Kind != tt.kind || m.Method != tt.method || m.Ambiguous {
				t.Errorf("got kind %d, method %v, ambiguous %v", m.Kind, m.Method, m.Ambiguous)
			}
			if got := string(m.Whole.Of([]byte(tt.doc))); got != strings.TrimSpace(tt.doc) {
				t.Errorf("whole message %q", got)
			}
			if got := spans(&m, tt.doc); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got spans\n%v\nwant\n%v", got, tt.want)
			}
		})
	}
}

// escapeAll writes each byte of s as an escape.
func escapeAll(s string) string {
	const digits = "0123456789aBcDeF"
	var b strings.Builder
	for i := range len(s) {
		b.WriteString(`\u00` + digits[s[i]>>4:s[i]>>4+1] + digits[s[i]&15:s[i]&15+1])
	}
	return b.String()
}

func TestScanMarksTheAmbiguous(t *testing.T) {
	tests := []struct {
		name, doc string
		field     string // that must have the value "first", if not ""
	}{
		{"name in params", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"first","name":"second"}}`, "Name"},
		{"name by escapes", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"n\u0061me":"first","name":"second"}}`, "Name"},
		{"equal values", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"uri":"first","uri":"first"}}`, "URI"},
		{"_meta", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{},"_meta":{"progressToken":1}}}`, ""},
		{"in _meta", `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":"first","progressToken":2}}}`, "ProgressToken"},
		{"_meta of a result", `{"jsonrpc":"2.0","id":1,"result":{"_meta":{},"_meta":{}}}`, ""},
		{"in a result's _meta", `{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/serverInfo":"first","io.modelcontextprotocol/serverInfo":2}}}`, "ServerInfo"},
		{"in result", `{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"first","ttlMs":1,"cacheScope":"public"}}`, "CacheScope"},
		{"in error", `{"jsonrpc":"2.0","id":1,"error":{"code":"first","code":2}}`, "ErrorCode"},
		{"unknown in the envelope", `{"jsonrpc":"2.0","id":1,"method":"x","extra":{}}`, ""},
		{"unknown in the envelope, twice", `{"jsonrpc":"2.0","id":1,"method":"x","extra":1,"extra":2}`, ""},
		{"another case in the envelope", `{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}`, ""},
		{"params beside a result", `{"jsonrpc":"2.0","id":1,"result":{},"params":{}}`, ""},
		{"params beside an error", `{"jsonrpc":"2.0","id":1,"error":{},"params":[]}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m mcp.Message
			if err := mcp.Scan([]byte(tt.doc), &m); err != nil {
				t.Fatal(err)
			}
			if !m.Ambiguous {
				t.Error("not ambiguous")
			}
			found := spans(&m, tt.doc)
			if tt.field != "" && found[tt.field] != `"first"` {
				t.Errorf("%s is %s", tt.field, found[tt.field])
			}
			if tt.name == "_meta" && found["ProgressToken"] != "" {
				t.Error("looked into the second _meta")
			}
		})
	}
}

func TestScanIgnoresWhatPolicyDoesNotNeed(t *testing.T) {
	for _, doc := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"name":1,"name":2},"other":1,"other":2}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"Name":"a","name":"b","ttlMs":1,"ttlMs":2}}`,
		`{"jsonrpc":"2.0","id":1,"result":{"name":1,"name":2,"_meta":{"progressToken":1,"progressToken":2}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":[{"name":1},{"name":2}]}`,
	} {
		var m mcp.Message
		if err := mcp.Scan([]byte(doc), &m); err != nil || m.Ambiguous {
			t.Errorf("%s: ambiguous %v, %v", doc, m.Ambiguous, err)
		}
	}
}

func TestScanRefusesInvalidMessages(t *testing.T) {
	deep := func(n int, around string) string {
		return strings.Replace(around, "*", strings.Repeat("[", n)+strings.Repeat("]", n), 1)
	}
	tests := []struct {
		name, doc string
		id        string // what an error can be addressed to
	}{
		{"empty array", ` [ ] `, ``},
		{"string", `"jsonrpc"`, ``},
		{"number", `-0.5e+7`, ``},
		{"null", `null`, ``},
		{"true", `true`, ``},
		{"false", `false`, ``},
		{"empty object", `{}`, ``},
		{"no version", `{"id":1,"method":"x"}`, `1`},
		{"version 1.0", `{"jsonrpc":"1.0","id":1,"method":"x"}`, `1`},
		{"version 2", `{"jsonrpc":2.0,"id":1,"method":"x"}`, `1`},
		{"only jsonrpc", `{"jsonrpc":"2.0"}`, ``},
		{"an id that is none, alone", `{"jsonrpc":"2.0","id":{}}`, ``},
		{"an id twice, alone", `{"jsonrpc":"2.0","id":5,"id":5}`, ``},
		{"an id without version", `{"id":5}`, `5`},
		{"an id and params", `{"jsonrpc":"2.0","id":5,"params":{}}`, `5`},
		{"an id and params null", `{"jsonrpc":"2.0","id":5,"params":null}`, `5`},
		{"an id and what others take for a method", `{"jsonrpc":"2.0","id":5,"Method":"tools/call"}`, `5`},
		{"an id and what nobody knows", `{"jsonrpc":"2.0","id":5,"x\ud800":1}`, `5`},
		{"params null alone", `{"jsonrpc":"2.0","params":null}`, ``},
		{"method of a number", `{"jsonrpc":"2.0","method":1,"id":"i"}`, `"i"`},
		{"method null", `{"jsonrpc":"2.0","method":null,"id":"i"}`, `"i"`},
		{"id of an object", `{"jsonrpc":"2.0","id":{},"method":"x"}`, ``},
		{"id of an array", `{"jsonrpc":"2.0","id":[1],"method":"x"}`, ``},
		{"id true", `{"jsonrpc":"2.0","id":true,"method":"x"}`, ``},
		{"id false", `{"jsonrpc":"2.0","id":false,"result":{}}`, ``},
		{"params of a string", `{"jsonrpc":"2.0","id":1,"method":"x","params":"y"}`, `1`},
		{"params true", `{"jsonrpc":"2.0","id":1,"method":"x","params":true}`, `1`},
		{"result and error", `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, `1`},
		{"method and result", `{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`, `1`},
		{"method and error", `{"jsonrpc":"2.0","id":1,"method":"x","error":{}}`, `1`},
		{"result without id", `{"jsonrpc":"2.0","result":{}}`, ``},
		{"error of a string", `{"jsonrpc":"2.0","id":1,"error":"no"}`, `1`},
		{"error null", `{"jsonrpc":"2.0","id":1,"error":null}`, `1`},
		{"error null without id", `{"jsonrpc":"2.0","error":null}`, ``},
		{"error null beside a result without id", `{"jsonrpc":"2.0","result":{},"error":null}`, ``},
		{"error null twice", `{"jsonrpc":"2.0","id":1,"result":{},"error":null,"error":null}`, `1`},
		{"error false beside a result", `{"jsonrpc":"2.0","id":1,"result":{},"error":false}`, `1`},
		{"result null beside an error of a string", `{"jsonrpc":"2.0","id":1,"result":null,"error":"no"}`, `1`},
		{"result null beside a method", `{"jsonrpc":"2.0","id":1,"method":"x","result":null}`, `1`},
		{"error null beside a method", `{"jsonrpc":"2.0","id":1,"method":"x","error":null}`, `1`},
		{"a mark before an empty array", "\xef\xbb\xbf[]", ``},
		{"a mark before a string", "\xef\xbb\xbf\"x\"", ``},
		{"jsonrpc twice", `{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"x"}`, `1`},
		{"method twice", `{"jsonrpc":"2.0","id":1,"method":"x","method":"x"}`, `1`},
		{"method twice, by escapes", `{"jsonrpc":"2.0","method":"x","\u006dethod":"y","id":1}`, `1`},
		{"params twice", `{"jsonrpc":"2.0","method":"x","params":{},"params":{},"id":1}`, `1`},
		{"result twice", `{"jsonrpc":"2.0","result":{},"result":{},"id":1}`, `1`},
		{"error twice", `{"jsonrpc":"2.0","error":{},"error":{},"id":1}`, `1`},
		{"id twice", `{"jsonrpc":"2.0","id":1,"method":"x","id":1}`, ``},
		{"two faults, then the id", `{"jsonrpc":3,"method":"x","method":"x","params":null,"id":"late"}`, `"late"`},
		{"too deep", deep(mcp.MaxDepth-1, `{"jsonrpc":"2.0","method":"x","params":[*],"id":"late"}`), `"late"`},
		{"too deep in params", deep(mcp.MaxDepth-1, `{"jsonrpc":"2.0","method":"x","params":{"a":*},"id":"late"}`), `"late"`},
		{"too deep in _meta", deep(mcp.MaxDepth-2, `{"jsonrpc":"2.0","method":"x","params":{"_meta":{"a":*}},"id":"late"}`), `"late"`},
		{"much too deep", deep(100_000, `{"jsonrpc":"2.0","id":1,"method":"x","params":*}`), `1`},
		{"much too deep, twice", deep(3000, deep(2000, `{"jsonrpc":"2.0","id":1,"method":"x","params":[*,*]}`)), `1`},
		{"a batch too deep", deep(mcp.MaxDepth, `[*]`), ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			refused(t, tt.doc, true, tt.id)
		})
	}
}

// refused checks that Scan refuses doc, and that m is empty but for the id.
func refused(t *testing.T, doc string, invalid bool, id string) {
	t.Helper()
	m := mcp.Message{Kind: mcp.KindRequest, Cursor: mcp.Span{Start: 1, End: 2}}
	err := mcp.Scan([]byte(doc), &m)
	var fault *mcp.ScanError
	if !errors.As(err, &fault) {
		t.Fatalf("%s: got error %v", brief(doc), err)
	}
	if fault.Invalid != invalid || fault.Offset < 0 || fault.Offset > len(doc) || fault.What == "" || fault.Error() == "" {
		t.Errorf("%s: got %+v", brief(doc), fault)
	}
	if got := string(m.ID.Of([]byte(doc))); got != id {
		t.Errorf("%s: id %q, want %q", brief(doc), got, id)
	}
	if m != (mcp.Message{ID: m.ID}) {
		t.Errorf("%s: the message is not empty: %+v", brief(doc), m)
	}
}

func brief(doc string) string {
	if len(doc) > 200 {
		return doc[:100] + "..." + doc[len(doc)-100:]
	}
	return doc
}

func TestScanReadsUpToMaxDepth(t *testing.T) {
	n := mcp.MaxDepth
	for name, doc := range map[string]string{
		"arrays":  `{"jsonrpc":"2.0","id":1,"method":"x","params":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`,
		"objects": `{"jsonrpc":"2.0","id":1,"method":"x","params":` + strings.Repeat(`{"a":`, n-1) + "1" + strings.Repeat("}", n-1) + `}`,
		"_meta":   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a":` + strings.Repeat("[", n-3) + strings.Repeat("]", n-3) + `}}}`,
		"batch":   strings.Repeat("[", n) + "1" + strings.Repeat("]", n),
	} {
		var m mcp.Message
		if err := mcp.Scan([]byte(doc), &m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScanKeepsKindsApartAtEveryDepth closes each of many nested arrays and objects by its own end, then one by the other's.
func TestScanKeepsKindsApartAtEveryDepth(t *testing.T) {
	for _, n := range []int{1, 2, 63, 64, 65, 127, 128, 129, 500, 1024, 1025, 1088, 1089, 1090, 3000} {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		var open strings.Builder
		ends := make([]byte, n)
		for i := range n {
			if random.IntN(2) == 0 {
				open.WriteString("[")
				ends[n-1-i] = ']'
			} else {
				open.WriteString(`{"":`)
				ends[n-1-i] = '}'
			}
		}
		var m mcp.Message
		doc := open.String() + "0" + string(ends)
		isJSON := func() bool {
			var fault *mcp.ScanError
			return !errors.As(mcp.Scan([]byte(doc), &m), &fault) || fault.Invalid
		}
		if !isJSON() {
			t.Errorf("depth %d: refused %s", n, doc)
		}
		wrong := random.IntN(n)
		ends[wrong] ^= ']' ^ '}'
		doc = open.String() + "0" + string(ends)
		if isJSON() {
			t.Errorf("depth %d: accepted a wrong end at %d", n, wrong)
		}
	}
}

func TestScanRefusesWhatIsNotJSON(t *testing.T) {
	const start, end = `{"jsonrpc":"2.0","id":1,"method":"x","params":[`, `]}`
	for _, value := range []string{
		``, `,`, `1,`, `,1`, `1 2`, `[`, `]`, `{`, `}`, `(`, `:`, `[1}`, `{"a":1]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `{a:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `[1,]`, `{'a':1}`,
		`tru`, `trux`, `True`, `falsee`, `nul`, `nan`, `NaN`, `Infinity`, `undefined`,
		`-`, `+1`, `01`, `-01`, `1.`, `.5`, `1.e1`, `1e`, `1e+`, `1E-`, `0x10`, `1_000`, `--1`, `1-`, `1e1.5`,
		`"`, `"a`, `"\"`, `"\x"`, `"\u12"`, `"\u123g"`, `"\u 123"`, `"\U0041"`, `"\'"`, `"\`, `"\u`, `"\u004`,
		"\"\x00\"", "\"\x1f\"", "\"a\nb\"", "\"a\tb\"", "\"aaaaaaaaaaa\rbbbbbbbbb\"",
		`"\uD83D\uDE0"`, `"\ud800\u"`, `"\ud800\x"`, `"\udc00`, "\"\xff", "\"\xe2\x82", "\"\xff\n\"", "\"\\\xff\"", "\"\\u00\xff0\"", "\xff", "1\xff", "tru\xe9",
		"{\"a\nb\":1}", "{\xff:1}", "{\"\xff\"}", "\xef\xbb\xbf1", "\u00a01", "\v1", "\f1", "/**/1", "//\n1", "\x00", "1\x00",
	} {
		if value == `` { // [] is right
			continue
		}
		refused(t, start+value+end, false, `1`)
	}
	whole := start + `"\u00e9",{"a":[true,false,null,-1.5e-7]}` + end
	var m mcp.Message
	if err := mcp.Scan([]byte(whole), &m); err != nil {
		t.Fatal(err)
	}
	for i := range whole { // each beginning of it
		err := mcp.Scan([]byte(whole[:i]), &m)
		if fault, ok := err.(*mcp.ScanError); !ok || fault.Invalid || fault.Offset > i {
			t.Fatalf("%s: got %v", whole[:i], err)
		}
	}
	for _, doc := range []string{"", " ", "{}{}", "{} x", "[1]]", "[1],", "1 2", "{}\x00", `{,}`, `{]`, `[}`, `{"a":1]`,
		"\xef\xbb\xbf", "\xef\xbb\xbf\xef\xbb\xbf{}", " \xef\xbb\xbf{}", "\xef\xbb{}", "\xfe\xff\x00{\x00}", "\xff\xfe{\x00}\x00", "{}\xef\xbb\xbf", "{\xef\xbb\xbf}", "[\xef\xbb\xbf1]", "{}\xff"} {
		refused(t, doc, false, ``)
	}
}

func TestScanTakesAllOfJSON(t *testing.T) {
	for _, value := range []string{
		`0`, `-0`, `10`, `-1.50`, `1e5`, `1E+05`, `0e0`, `0.0e-0`, `123456789012345678901234567890.5e-999`, `true`, `false`, `null`, `{}`, `[]`, `{ }`, "[\n]", `{"":{}}`, `{"a":1,"a":2}`, `[[],{}]`,
		`""`, `" "`, `"!"`, `"#"`, `"\"\\\/\b\f\n\r\t"`, `"\u0000\uFfFf\uD7FF\ue000"`, `"\ud83d\ude00"`, `"\udbff\udfff"`, "\"\u007f\u0080\u07ff\u0800\uffff\U0010ffff\"", "\"aaaaaaa\u00e9\"", `"seven..\\"`, `"aaaaaaaa"`,
	} {
		doc := `{"jsonrpc":"2.0","id":1,"result":` + value + `}`
		var m mcp.Message
		if err := mcp.Scan([]byte(doc), &m); err != nil {
			t.Errorf("%s: %v", value, err)
		} else if got := string(m.Result.Of([]byte(doc))); got != value {
			t.Errorf("%s: got %s", value, got)
		}
	}
}

// TestScanSeesEveryByteOfAString puts each byte at each place of a string of each length, where it is read alone or as
// one of several. By itself a byte past ASCII is no UTF-8.
func TestScanSeesEveryByteOfAString(t *testing.T) {
	lengths := []int{31, 32, 33, 39, 40, 41, 63, 64, 65, 72}
	for length := range 20 {
		lengths = append(lengths, length)
	}
	for _, length := range lengths {
		for place := range length {
			for c := range 256 {
				text := []byte(strings.Repeat("x", length))
				text[place] = byte(c)
				doc := append(append([]byte(`["`), text...), `"]`...)
				wrong := c < ' ' || c == '"' || c == '\\' // what follows is no more string, or no escape
				var m mcp.Message
				if err := mcp.Scan(doc, &m); (err != nil) != wrong || m.Loose != (c >= 0x80) {
					t.Fatalf("%q: loose %v, %v", doc, m.Loose, err)
				}
			}
		}
	}
}
