package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

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
