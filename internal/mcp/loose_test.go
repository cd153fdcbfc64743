package mcp_test

import (
	"reflect"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

// noUnicode are contents of JSON strings that are no Unicode, by name.
var noUnicode = map[string]string{
	"a lone high surrogate":              `cut \ud83d`,
	"a lone high surrogate, upper case":  `\uD83D cut`,
	"a lone low surrogate":               `\ude00`,
	"a pair reversed":                    `\ude00\ud83d`,
	"two high surrogates":                `\ud83d\ud83d`,
	"a high surrogate, then a pair":      `\ud83d\ud83d\ude00`,
	"a pair, then a low surrogate":       `\ud83d\ude00\ude00`,
	"a high surrogate, then a letter":    `\ud83d\u0061`,
	"a high surrogate, then an escape":   `\ud83d\n`,
	"a high surrogate, then a backslash": `\ud83d\\ude00`,
	"Latin-1":                            "caf\xe9",
	"Windows-1252":                       "\x93quoted\x94",
	"an overlong slash":                  "\xc0\xaf",
	"an overlong NUL":                    "\xc0\x80",
	"UTF-8 cut off at the end":           "cut \xe4\xb8",
	"UTF-8 cut off by an escape":         "\xc3\\u00a9",
	"a continuation byte by itself":      "a\x80b",
	"a surrogate as UTF-8":               "\xed\xa0\xbd",
	"a pair of surrogates as UTF-8":      "\xed\xa0\xbd\xed\xb8\x80",
	"past the last code point":           "\xf5\x80\x80\x80",
	"0xff behind much ASCII":             strings.Repeat("x", 100) + "\xff",
}

// TestScanReadsOnInStringsThatAreNoUnicode puts each of noUnicode at each place where a string can be.
func TestScanReadsOnInStringsThatAreNoUnicode(t *testing.T) {
	const call, answer = mcp.KindRequest, mcp.KindResult
	for _, place := range []struct {
		name, doc string // * is the place
		kind      mcp.Kind
		method    mcp.Method
	}{
		{"an argument", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":"*"}}}`, call, mcp.MethodToolsCall},
		{"an argument's name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"*":1}}}`, call, mcp.MethodToolsCall},
		{"the tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"*"}}`, call, mcp.MethodToolsCall},
		{"the uri", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///*"}}`, call, mcp.MethodResourcesRead},
		{"a name in params", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"*":1}}`, call, mcp.MethodPing},
		{"an id", `{"jsonrpc":"2.0","id":"*","method":"ping"}`, call, mcp.MethodPing},
		{"the method", `{"jsonrpc":"2.0","id":1,"method":"tools/call*"}`, call, mcp.MethodOther},
		{"a value in _meta", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":"*"}}}`, call, mcp.MethodPing},
		{"a name in _meta", `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"*":1}}}`, call, mcp.MethodPing},
		{"an element of params", `{"jsonrpc":"2.0","id":1,"method":"ping","params":[["*"]]}`, call, mcp.MethodPing},
		{"a reason", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"*"}}`, mcp.KindNotification, mcp.MethodCancelled},
		{"a text", `{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"*"}]}}`, answer, mcp.MethodNone},
		{"a whole result", `{"jsonrpc":"2.0","id":1,"result":"*"}`, answer, mcp.MethodNone},
		{"an answer's id", `{"jsonrpc":"2.0","id":"*","result":{}}`, answer, mcp.MethodNone},
		{"an error's message", `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"*"}}`, mcp.KindError, mcp.MethodNone},
		{"a name in an error's data", `{"jsonrpc":"2.0","id":1,"error":{"code":1,"data":{"*":1}}}`, mcp.KindError, mcp.MethodNone},
		{"an array", `[{"jsonrpc":"2.0","id":1,"method":"*"}]`, mcp.KindBatch, mcp.MethodNone},
	} {
		for name, bad := range noUnicode {
			t.Run(place.name+"/"+name, func(t *testing.T) {
				doc := strings.Replace(place.doc, "*", bad, 1)
				var m mcp.Message
				if err := mcp.Scan([]byte(doc), &m); err != nil {
					t.Fatalf("%q: %v", doc, err)
				}
				if m.Kind != place.kind || m.Method != place.method || !m.Loose || m.Ambiguous {
					t.Errorf("%q: got kind %d, method %v, loose %v, ambiguous %v", doc, m.Kind, m.Method, m.Loose, m.Ambiguous)
				}
				if got := string(m.Whole.Of([]byte(doc))); got != doc {
					t.Errorf("%q: whole message %q", doc, got)
				}
			})
		}
		var m mcp.Message
		for _, good := range []string{``, `\ud83d\ude00`, `\\ud83d`, `\ufffd`, "\ufffd", `\uffff`, "\uffff", "\ufeff", `\ufeff`, `\u0000`} {
			doc := strings.Replace(place.doc, "*", good, 1)
			if err := mcp.Scan([]byte(doc), &m); err != nil || m.Loose {
				t.Errorf("%s: %q: loose %v, %v", place.name, doc, m.Loose, err)
			}
		}
	}
}

// TestScanNotesWhatIsLoose has every other form of a loose message, and what it is taken for.
func TestScanNotesWhatIsLoose(t *testing.T) {
	type fields = map[string]string
	const bom = "\ufeff"
	for _, tt := range []struct {
		name, doc string
		kind      mcp.Kind
		method    mcp.Method
		want      fields
	}{
		{"mark before a request", bom + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, mcp.KindRequest, mcp.MethodPing, fields{"ID": `1`, "MethodName": `"ping"`}},
		{"mark and space before a request", bom + "\r\n" + `{"jsonrpc":"2.0","id":1,"method":"ping"}`, mcp.KindRequest, mcp.MethodPing, fields{"ID": `1`, "MethodName": `"ping"`}},
		{"mark before a notification", bom + `{"jsonrpc":"2.0","method":"notifications/initialized"}`, mcp.KindNotification, mcp.MethodInitialized, fields{"MethodName": `"notifications/initialized"`}},
		{"mark before a result", bom + `{"jsonrpc":"2.0","id":1,"result":{"isError":true}}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `1`, "Result": `{"isError":true}`, "IsError": `true`}},
		{"mark before an error", bom + `{"jsonrpc":"2.0","id":1,"error":{"code":5}}`, mcp.KindError, mcp.MethodNone, fields{"ID": `1`, "Error": `{"code":5}`, "ErrorCode": `5`}},
		{"mark before an array", bom + ` [1]`, mcp.KindBatch, mcp.MethodNone, fields{}},

		{"params null of a request", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}`, mcp.KindRequest, mcp.MethodToolsList, fields{"ID": `1`, "MethodName": `"tools/list"`, "Params": `null`}},
		{"params null, first", `{"params":null,"method":"tools/list","id":1,"jsonrpc":"2.0"}`, mcp.KindRequest, mcp.MethodToolsList, fields{"ID": `1`, "MethodName": `"tools/list"`, "Params": `null`}},
		{"params null of a notification", `{"jsonrpc":"2.0","method":"notifications/initialized","params":null}`, mcp.KindNotification, mcp.MethodInitialized, fields{"MethodName": `"notifications/initialized"`, "Params": `null`}},
		{"params null and id null", `{"jsonrpc":"2.0","id":null,"method":"ping","params":null}`, mcp.KindRequest, mcp.MethodPing, fields{"ID": `null`, "MethodName": `"ping"`, "Params": `null`}},

		{"error null behind a result", `{"jsonrpc":"2.0","id":1,"result":{"isError":true},"error":null}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `1`, "Result": `{"isError":true}`, "IsError": `true`}},
		{"error null before a result", `{"error":null,"result":[],"id":"a","jsonrpc":"2.0"}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `"a"`, "Result": `[]`}},
		{"result null before an error", `{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":-1}}`, mcp.KindError, mcp.MethodNone, fields{"ID": `1`, "Error": `{"code":-1}`, "ErrorCode": `-1`}},
		{"result null behind an error", `{"jsonrpc":"2.0","error":{"code":-1},"result":null}`, mcp.KindError, mcp.MethodNone, fields{"Error": `{"code":-1}`, "ErrorCode": `-1`}},
		{"result and error null", `{"jsonrpc":"2.0","id":1,"result":null,"error":null}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `1`, "Result": `null`}},
		{"error and result null", `{"jsonrpc":"2.0","id":1,"error":null,"result":null}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `1`, "Result": `null`}},

		{"an id alone", `{"jsonrpc":"2.0","id":1}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `1`}},
		{"an id alone, a string", ` { "id" : "a" , "jsonrpc" : "2.0" } `, mcp.KindResult, mcp.MethodNone, fields{"ID": `"a"`}},
		{"an id alone, null", `{"jsonrpc":"2.0","id":null}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `null`}},
		{"an id alone behind a mark", bom + `{"jsonrpc":"2.0","id":0}`, mcp.KindResult, mcp.MethodNone, fields{"ID": `0`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m mcp.Message
			if err := mcp.Scan([]byte(tt.doc), &m); err != nil {
				t.Fatal(err)
			}
			if m.Kind != tt.kind || m.Method != tt.method || !m.Loose || m.Ambiguous {
				t.Errorf("got kind %d, method %v, loose %v, ambiguous %v", m.Kind, m.Method, m.Loose, m.Ambiguous)
			}
			if got := spans(&m, tt.doc); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got spans\n%v\nwant\n%v", got, tt.want)
			}
			if got, want := string(m.Whole.Of([]byte(tt.doc))), strings.TrimSpace(strings.TrimPrefix(tt.doc, bom)); got != want {
				t.Errorf("whole message %q", got)
			}
		})
	}
}

// TestScanForgetsWhatWasLoose scans a strict message after a loose one, and checks that a refused one is not loose.
func TestScanForgetsWhatWasLoose(t *testing.T) {
	var m mcp.Message
	for _, doc := range []string{`{"jsonrpc":"2.0","id":1}`, `{"jsonrpc":"2.0","id":1,"method":"ping","params":["\ud800"]}`} {
		if err := mcp.Scan([]byte(doc), &m); err != nil || !m.Loose {
			t.Fatalf("%s: loose %v, %v", doc, m.Loose, err)
		}
		if err := mcp.Scan([]byte(smallRequest), &m); err != nil || m.Loose {
			t.Errorf("after %s: loose %v, %v", doc, m.Loose, err)
		}
	}
	refused(t, `{"jsonrpc":"2.0","id":1,"method":5,"params":["\ud800"]}`, true, `1`)
	refused(t, "\xef\xbb\xbf"+`{"jsonrpc":"2.0","id":"\ud800","params":null}`, true, `"\ud800"`)
	refused(t, "\xef\xbb\xbf"+`{"jsonrpc":"2.0","id":1,`, false, `1`)
}

// TestScanTakesParamsNullBesideAResultForBoth has a message that is loose and ambiguous.
func TestScanTakesParamsNullBesideAResultForBoth(t *testing.T) {
	var m mcp.Message
	if err := mcp.Scan([]byte(`{"jsonrpc":"2.0","id":1,"result":{},"params":null}`), &m); err != nil || !m.Loose || !m.Ambiguous {
		t.Errorf("loose %v, ambiguous %v, %v", m.Loose, m.Ambiguous, err)
	}
}

// TestElementsOfALooseArray tells the loose elements from the others.
func TestElementsOfALooseArray(t *testing.T) {
	doc := []byte(`[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2},{"jsonrpc":"2.0","id":3,"result":"` +
		"\xff" + `"},{"jsonrpc":"2.0","id":4,"method":"x","params":null},{"jsonrpc":"2.0","id":5,"method":"\ud800"},{"jsonrpc":"2.0","id":6,"method":"ping"}]`)
	elements, err := mcp.Elements(nil, doc, 10)
	if err != nil {
		t.Fatal(err)
	}
	var loose []bool
	for _, at := range elements {
		var m mcp.Message
		if err := mcp.Scan(at.Of(doc), &m); err != nil {
			t.Fatal(err)
		}
		loose = append(loose, m.Loose)
	}
	if want := []bool{false, true, true, true, true, false}; !reflect.DeepEqual(loose, want) {
		t.Errorf("got %v, want %v", loose, want)
	}
}

// TestTokensThatAreNoUnicode has them be no text, no other id, and no member's name.
func TestTokensThatAreNoUnicode(t *testing.T) {
	for name, bad := range noUnicode {
		token := []byte(`"` + bad + `"`)
		if got, ok := mcp.Text(token); ok || got != "" {
			t.Errorf("%s: text %q", name, got)
		}
		if mcp.TextIs(token, bad) || mcp.TextIs(token, "\ufffd") {
			t.Errorf("%s: is a text", name)
		}
		if !mcp.SameID(token, token) {
			t.Errorf("%s: another id than itself", name)
		}
		other := []byte(`"\u0041` + bad + `"`)
		if mcp.SameID(token, other) || mcp.SameID(other, []byte(`"A`+bad+`"`)) || mcp.SameID(token, []byte(`"\ufffd"`)) {
			t.Errorf("%s: the same as another id", name)
		}
		doc := []byte(`{` + string(token) + `:1,"a":` + string(token) + `,` + string(token) + `:2}`)
		if at, err := mcp.Member(doc, "a"); err != nil || string(at.Of(doc)) != string(token) {
			t.Errorf("%s: member %q, %v", name, at.Of(doc), err)
		}
		if at, err := mcp.Member(doc, bad); err != nil || at.Present() {
			t.Errorf("%s: found by its name: %q, %v", name, at.Of(doc), err)
		}
	}
}
