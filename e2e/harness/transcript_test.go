package harness

import "testing"

func TestSteady(t *testing.T) {
	got := Steady([]string{
		`{"url":"http://127.0.0.1:7300/mcp/up","session":"2525354b-a9b9-44c0-abff-0f50773aa4be"}`,
		`{"a":"11111111-a9b9-44c0-abff-0f50773aa4be","b":"2525354b-a9b9-44c0-abff-0f50773aa4be","at":"2026-11-23T18:39:04.872Z"}`,
		`{"id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","task":"4836464477f4b122b4d5fdef554c823e","text":"at 6:39:04 PM"}`,
		`{"blob":"YXQgNjozOTowNCBQTQ=="}`,
		`{"blob":"aGVsbG8="}`,
	}, "http://127.0.0.1:7300/mcp/up")
	want := []string{
		`{"url":"<url>","session":"<uuid 1>"}`,
		`{"a":"<uuid 2>","b":"<uuid 1>","at":"<time>"}`,
		`{"id":"<id 1>","task":"<hex 1>","text":"at <clock>"}`,
		`{"blob":"at <clock>"}`,
		`{"blob":"aGVsbG8="}`,
	}
	Diff(t, want, got)
}

func TestAsDirect(t *testing.T) {
	direct := []string{`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 text/event-stream session","POST tools/list -> 200 text/event-stream session"]}`}
	for through, same := range map[string]bool{
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:          true,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 text/event-stream session cached","POST tools/list -> 200 text/event-stream session"]}`: true,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 400 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:          false,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json cached"]}`:                                                             false,
		`{"scenario":"a","http":["POST ping -> 200 application/json","POST tools/list -> 200 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:           false,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json","POST tools/list -> 200 text/event-stream session"]}`:                 false,
	} {
		if want, got := asDirect(direct, []string{through}); (got[0] == want[0]) != same {
			t.Errorf("the same: %v, of %s", !same, through)
		}
	}
}
