//go:build !race

// What one goroutine does with bytes: the race detector would find nothing, and take ten times as long.

package cache

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// TestKeysOfRandomParams does what FuzzKey does, with params that are made to be nearly equal, which a fuzzer seldom finds.
func TestKeysOfRandomParams(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := &paramsMaker{random: rand.New(rand.NewPCG(seed, 1))}
	u := keyStage(t)
	equal := 0
	for range 10_000 {
		v := g.object(3)
		a := g.spell(v)
		if g.random.IntN(2) == 0 {
			v = g.change(v)
		}
		b := g.spell(v)
		checkKeys(t, u, []byte(a), []byte(b))
		refA, _ := refParams([]byte(a))
		refB, _ := refParams([]byte(b))
		if reflect.DeepEqual(refA, refB) {
			equal++
		}
	}
	if equal < 2_500 || equal > 9_500 {
		t.Errorf("%d of 10000 pairs are equal: that is no test", equal)
	}
}

// TestPlainKeysOfRandomParams does the same with calls without MCP that are made to be nearly equal.
func TestPlainKeysOfRandomParams(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	g := &paramsMaker{random: rand.New(rand.NewPCG(seed, 3))}
	u := plainStage(t)
	equal := 0
	for range 10_000 {
		method, params := keyNames[g.random.IntN(len(keyNames))], g.plain()
		methodB, paramsB := method, params
		switch g.random.IntN(8) {
		case 0:
			methodB = keyNames[g.random.IntN(len(keyNames))]
		case 1:
			paramsB = g.plain()
		case 2:
			paramsB = []any{params}
		case 3:
			if list, ok := params.([]any); ok && len(list) > 1 {
				paramsB = append(append([]any{}, list[1:]...), list[0])
			}
		}
		ma, a, mb, b := []byte(g.quote(method)), []byte(g.spell(params)), []byte(g.quote(methodB)), []byte(g.spell(paramsB))
		checkPlainKeys(t, u, ma, a, mb, b)
		refA, _ := refPlain(ma, a)
		if refB, _ := refPlain(mb, b); reflect.DeepEqual(refA, refB) {
			equal++
		}
	}
	if equal < 2_500 || equal > 9_500 {
		t.Errorf("%d of 10000 pairs are equal: that is no test", equal)
	}
}

// paramsMaker makes params, and writes the same ones in many ways.
type paramsMaker struct{ random *rand.Rand }

type rawNumber string

var keyNames = strings.Fields("a b A _meta cursor name uri traceparent io.modelcontextprotocol/clientInfo x é 😀 \uff61 ab")

func (g *paramsMaker) object(depth int) map[string]any {
	o := make(map[string]any)
	for range g.random.IntN(4) {
		o[keyNames[g.random.IntN(len(keyNames))]] = g.value(depth - 1)
	}
	return o
}

func (g *paramsMaker) value(depth int) any {
	numbers := []rawNumber{"0", "-0", "1", "1.0", "1e0", "1E+0", "10e-1", "9007199254740993", "9007199254740992", "0.1", "0.10"}
	switch n := g.random.IntN(8); {
	case n < 2 && depth > 0:
		return g.object(depth)
	case n == 2 && depth > 0:
		return []any{g.value(depth - 1), g.value(depth - 1)}
	case n == 3:
		return []any{nil, true, false, []any{}, map[string]any{}}[g.random.IntN(5)]
	case n < 6:
		return numbers[g.random.IntN(len(numbers))]
	}
	return []string{"", "a", "1", "/", "\"", "\\", "😀", "\u2028", "\x00", "é", "e\u0301", "true"}[g.random.IntN(12)]
}

// plain makes params by name or by position. Of a name that MCP knows there are not two: that is a matter of its own.
func (g *paramsMaker) plain() any {
	if g.random.IntN(2) == 0 {
		return g.object(3)
	}
	list := []any{}
	for range g.random.IntN(4) {
		list = append(list, g.value(2))
	}
	return list
}

// change changes one thing, mostly.
func (g *paramsMaker) change(v map[string]any) map[string]any {
	out := make(map[string]any)
	at := g.random.IntN(len(v) + 1)
	for name, value := range v {
		inner, isObject := value.(map[string]any)
		switch at--; {
		case at >= 0:
			out[name] = value
		case isObject && g.random.IntN(2) == 0:
			out[name] = g.change(inner)
		case g.random.IntN(3) > 0:
			out[name] = g.value(2)
		}
	}
	if at == 0 {
		out[keyNames[g.random.IntN(len(keyNames))]] = g.value(2)
	}
	return out
}

// spell writes a value in one of many ways.
func (g *paramsMaker) spell(v any) string {
	space := []string{"", "", " ", "\n\t"}[g.random.IntN(4)]
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for name, value := range v { // in any order
			members = append(members, space+g.quote(name)+space+":"+g.spell(value))
		}
		return space + "{" + strings.Join(members, ",") + space + "}"
	case []any:
		var all []string
		for _, value := range v {
			all = append(all, g.spell(value))
		}
		return "[" + space + strings.Join(all, space+",") + "]"
	case string:
		return g.quote(v)
	case rawNumber:
		return string(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}

func (g *paramsMaker) quote(s string) string {
	out := `"`
	for _, r := range s {
		switch n := g.random.IntN(4); {
		case n == 0 && r < 0x10000:
			out += fmt.Sprintf(`\u%04x`, r)
		case n == 1 && r < 0x10000:
			out += fmt.Sprintf(`\u%04X`, r)
		case n == 0:
			out += fmt.Sprintf(`\u%04x\u%04X`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		case r == '"' || r == '\\' || r == '/' && n == 1:
			out += `\` + string(r)
		case r < 0x20:
			out += fmt.Sprintf(`\u%04x`, r)
		default:
			out += string(r)
		}
	}
	return out + `"`
}
