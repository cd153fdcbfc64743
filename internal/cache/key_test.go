package cache

import "testing"

func TestCanonical(t *testing.T) {
	equal := [][2]string{
		{`{"a":1,"b":2}`, ` { "b" : 2 , "a" : 1 } `},
		{`{"name":"x","_meta":{"traceparent":"1"}}`, `{"name":"x"}`},
		{`{"name":"x","_meta":{"io.modelcontextprotocol/clientInfo":{}}}`, `{"\u006eame":"\u0078"}`},
		{`{"_meta":{}}`, ``}, {`{}`, ``},
	}
	for _, e := range equal {
		a, errA := canonical([]byte(e[0]))
		b, errB := canonical([]byte(e[1]))
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s and %s: %s, %s (%v, %v)", e[0], e[1], a, b, errA, errB)
		}
	}
	differ := [][2]string{
		{`{"id":9007199254740993}`, `{"id":9007199254740992}`}, {`{"a":1}`, `{"a":1.0}`}, {`{"a":["b","c"]}`, `{"a":["bc"]}`},
		{`{"a":null}`, `{}`}, {`{"a":"1"}`, `{"a":1}`}, {`{"A":1}`, `{"a":1}`}, {`{"_meta":{"x":1}}`, `{}`}, {`{"a":1e-7}`, `{"a":0}`},
	}
	for _, d := range differ {
		a, errA := canonical([]byte(d[0]))
		b, errB := canonical([]byte(d[1]))
		if errA != nil || errB != nil || string(a) == string(b) {
			t.Errorf("%s and %s are both %s (%v, %v)", d[0], d[1], a, errA, errB)
		}
	}
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `[]`, `{"_meta":{"x":1,"x":2}}`} {
		if c, err := canonical([]byte(bad)); err == nil {
			t.Errorf("%s has the form %s", bad, c)
		}
	}
}
