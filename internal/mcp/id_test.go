package mcp_test

import (
	"math/big"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
)

func TestSameID(t *testing.T) {
	zeros := strings.Repeat("0", 40)
	same := [][]string{
		{`1`, `1.0`, `1e0`, `10e-1`, `0.1e1`, `0.01E+2`, `1.000`, `100e-2`},
		{`-1`, `-1.0`, `-10e-1`},
		{`0`, `-0`, `0.0`, `0e5`, `-0.000e-9`, `0e99999999999999999`},
		{`12`, `1.2e1`, `120e-1`, `0.12e2`},
		{`120`, `1.2e2`, `12e1`},
		{`1.02`, `102e-2`, `0.102e1`, `0.00102e3`},
		{`9007199254740992`}, {`9007199254740993`, `9007199254740993.0`, `9.007199254740993e15`},
		{`1` + zeros, `1e40`, `1e+0040`, `0.1e41`}, {`1` + zeros + `1`},
		{`1e-40`, `0.` + zeros[:39] + `1`},
		{`1e99999999999999999`, `10e99999999999999998`, `1e+0099999999999999999`},
		{`1e999999999999999999`}, {`10e999999999999999998`}, {`1e-999999999999999999`}, {`0e999999999999999999`},
		{`"1"`, `"\u0031"`},
		{`""`}, {`"a"`, `"\u0061"`}, {`"A"`, `"\u0041"`}, {`"ab"`, `"\u0061b"`, `"a\u0062"`}, {`"abc"`},
		{`"\/"`, `"/"`}, {`"\n"`, `"\u000a"`, `"\u000A"`}, {`"\\n"`, `"\u005cn"`}, {`"\b\f\r\t\""`, `"\u0008\u000c\u000d\u0009\u0022"`},
		{`"é"`, `"\u00e9"`}, {`"世"`, `"\u4e16"`}, {`"😀"`, `"\ud83d\ude00"`, `"\uD83D\uDE00"`}, {"\"e\u0301\""},
		{`null`}, {`"null"`},
	}
	for i, group := range same {
		for _, a := range group {
			for j, other := range same {
				for _, b := range other {
					if got := mcp.SameID([]byte(a), []byte(b)); got != (i == j) {
						t.Errorf("SameID(%s, %s) = %v", a, b, got)
					}
				}
			}
		}
	}
}

func TestSameIDRefusesWhatIsNoID(t *testing.T) {
	if mcp.SameID(nil, nil) || mcp.SameID([]byte(`1`), nil) || mcp.SameID(nil, []byte(`1`)) {
		t.Error("no id is the same as an id")
	}
	for _, pair := range [][2]string{{`1`, `1 `}, {`1`, `01`}, {`1`, `1.`}, {`1`, `1e`}, {`"a"`, `"\u0061`}, {`"a"`, `"\x61"`}, {`"\"`, `"\u0022"`}, {`"`, `"\`}, {`[1]`, `[1.0]`}, {`-`, `-0`}} {
		if mcp.SameID([]byte(pair[0]), []byte(pair[1])) || mcp.SameID([]byte(pair[1]), []byte(pair[0])) {
			t.Errorf("SameID(%s, %s)", pair[0], pair[1])
		}
	}
}

// FuzzSameID compares numbers with math/big, strings with jsontext. What is no Unicode is the same byte for byte only.
func FuzzSameID(f *testing.F) {
	for _, pair := range [][2]string{{`1`, `1.0`}, {`0.10e2`, `10`}, {`-0`, `0`}, {`1e-3`, `0.001`}, {`"a"`, `"\u0061"`}, {`"\ud83d\ude00"`, `"😀"`}, {`null`, `null`}, {`1`, `"1"`}, {`"\ud83d"`, `"\uD83D"`}, {"\"\xff\"", "\"\ufffd\""}} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 300 || len(b) > 300 {
			return
		}
		if !isJSON(a) || !isJSON(b) {
			if mcp.SameID(a, b) != (len(a) > 0 && string(a) == string(b)) {
				t.Errorf("SameID(%q, %q)", a, b)
			}
			return
		}
		want := string(a) == string(b)
		switch number := "-0123456789"; {
		case a[0] == '"' && b[0] == '"' && a[len(a)-1] == '"' && b[len(b)-1] == '"':
			want = decoded(a) == decoded(b)
		case strings.IndexByte(number, a[0]) >= 0 && strings.IndexByte(number, b[0]) >= 0:
			x, y := rational(a), rational(b)
			if x == nil || y == nil {
				return
			}
			want = x.Cmp(y) == 0
		}
		if got := mcp.SameID(a, b); got != want && a[len(a)-1] > ' ' && b[len(b)-1] > ' ' {
			t.Errorf("SameID(%s, %s) = %v", a, b, got)
		}
	})
}

// rational returns a number's value, nil if its exponent is large.
func rational(token []byte) *big.Rat {
	if _, exp, ok := strings.Cut(strings.ToLower(string(token)), "e"); ok && len(strings.TrimLeft(exp, "+-0")) > 3 {
		return nil
	}
	r, _ := new(big.Rat).SetString(string(token))
	return r
}
