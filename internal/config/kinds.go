package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// kind is how values of one sort are read and described. How they are written goes by T: textOf.
type kind[T any] struct {
	what string // what may stand there, "whole number from 1 to 9"
	// read says every fault. What is in into stays where there is one.
	read   func(d *decoder, at key, n *node, into *T)
	schema func() *jsonschema.Schema
}

// scalar makes a kind of plain values. wanted is said where the value is of none of the shapes; parse says what is wrong.
func scalar[T any](what, wanted string, parse func(s string) (v T, why string), schema func() *jsonschema.Schema, shapes ...nodeKind) kind[T] {
	read := func(d *decoder, at key, n *node, into *T) {
		if !d.is(at, n, wanted, shapes...) {
			return
		}
		v, why := parse(n.text)
		if d.accepts(at, why) {
			*into = v
		}
	}
	return kind[T]{what, read, schema}
}

// outOfRange says that v is not in [least, most], or "".
func outOfRange[T cmp.Ordered](v, least, most T) string {
	switch {
	case v < least:
		return "must not be less than " + textOf(least)
	case v > most:
		return "must not be more than " + textOf(most)
	}
	return ""
}

// count is a whole number.
func count(least, most int) kind[int] {
	what := fmt.Sprintf("whole number from %d to %d", least, most)
	parse := func(s string) (int, string) {
		v, err := strconv.Atoi(s)
		if err != nil || strconv.Itoa(v) != s { // 010 is 8 to some
			return 0, "must be a " + what
		}
		return v, outOfRange(v, least, most)
	}
	return scalar(what, "a whole number", parse, func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(float64(least)), Maximum: jsonschema.Ptr(float64(most))}
	}, kindNumber)
}

// share is a part of a whole, 0 or above it.
func share(orNone bool) kind[float64] {
	what := "number above 0, 1 at most"
	if orNone {
		what = "number from 0 to 1"
	}
	parse := func(s string) (float64, string) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= 1) || v == 0 && !orNone {
			return 0, "must be a " + what
		}
		return v, ""
	}
	return scalar(what, "a "+what, parse, func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "number", Minimum: jsonschema.Ptr(0.0), Maximum: jsonschema.Ptr(1.0)}
	}, kindNumber)
}

const (
	longest   = 365 * 24 * time.Hour // the upper bound of every duration: more is a mistake
	aboveZero = time.Nanosecond      // the lower bound of a duration where 0 means nothing
)

// duration is a time; where least is 0, none.
func duration(least, most time.Duration) kind[time.Duration] {
	const wanted = "a duration with a unit, such as 500ms, 30s, 5m or 1h30m"
	const units = `([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)`
	what := "duration from " + textOf(least)
	if least == aboveZero {
		what = "duration above 0"
	}
	if most < longest {
		what += " to " + textOf(most)
	}
	return scalar(what, wanted, func(s string) (time.Duration, string) {
		v, err := time.ParseDuration(s)
		switch {
		case err != nil && isNumber(s):
			return 0, fmt.Sprintf("must be %s: %q has none", wanted, s)
		case err != nil:
			return 0, "must be " + wanted + ", not " + shown(s)
		case v < 0:
			return 0, "must not be negative"
		case v == 0 && least > 0:
			return 0, "must be above 0"
		}
		return v, outOfRange(v, least, most)
	}, func() *jsonschema.Schema {
		zero := jsonschema.Ptr(0.0) // the one number that is a duration; where none is allowed, the text says so
		return &jsonschema.Schema{Types: []string{"string", "integer"}, Pattern: `^\+?((` + units + `)+|0)$`, Minimum: zero, Maximum: zero}
	}, kindText, kindNumber)
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// sizeUnits, the largest binary ones first, which is how sizes are written.
var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// size is a number of bytes.
func size(least, most int64) kind[int64] {
	const wanted = "a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB)"
	parse := func(s string) (int64, string) {
		v, ok := parseSize(s)
		if !ok {
			return 0, "must be " + wanted
		}
		return v, outOfRange(v, least, most)
	}
	return scalar("size from "+textOf(least)+" to "+textOf(most), wanted, parse, func() *jsonschema.Schema {
		least, most := float64(least), float64(most)
		return &jsonschema.Schema{
			Types: []string{"string", "integer"}, Pattern: "^[1-9][0-9]*(B|[kMG]B|[KMG]iB)?$", Minimum: &least, Maximum: &most,
		}
	}, kindText, kindNumber)
}

func parseSize(s string) (int64, bool) {
	unit := int64(1)
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = number, u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange): // v is the nearest there is
		return v, true
	case strconv.FormatInt(v, 10) != s: // not a number, or with a sign or zeros in front
		return 0, false
	case v > math.MaxInt64/unit:
		return math.MaxInt64, true
	case v < math.MinInt64/unit:
		return math.MinInt64, true
	}
	return v * unit, true
}

// boolean is true or false.
var boolean = scalar("true or false", "true or false", func(s string) (bool, string) {
	return strings.EqualFold(s, "true"), ""
}, ofType("boolean"), kindBoolean)

// onOff is on or off, which YAML 1.1 takes for a boolean and YAML 1.2 does not. A boolean says the same.
var onOff = scalar("on or off", "on or off", func(s string) (bool, string) {
	switch strings.ToLower(s) {
	case "on", "true":
		return true, ""
	case "off", "false":
		return false, ""
	}
	return false, "must be on or off, not " + shown(s)
}, enum[any]("on", "off", true, false), kindText, kindBoolean)

// oneOf is one of a few words.
func oneOf[T ~string](words ...T) kind[T] {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	what := strings.Join(texts, " or ")
	return scalar(what, what, func(s string) (T, string) {
		if !slices.Contains(texts, s) {
			return "", "must be " + what + ", not " + shown(s)
		}
		return T(s), ""
	}, enum(texts...), kindText)
}

// textParser turns a text into the form that is kept, or says what is wrong with it.
type textParser func(s string) (kept, why string)

// plain is a text without `${...}`, or nothing.
func plain(what string, parse textParser) kind[string] {
	return kind[string]{what, func(d *decoder, at key, n *node, into *string) {
		s, ok := d.text(at, n)
		if !ok || s == "" {
			return
		}
		if kept, why := parse(s); d.accepts(at, why) {
			*into = kept
		}
	}, ofType("string")}
}

func enum[T any](values ...T) func() *jsonschema.Schema {
	return func() *jsonschema.Schema {
		s := &jsonschema.Schema{}
		for _, v := range values {
			s.Enum = append(s.Enum, v)
		}
		return s
	}
}

func ofType(name string) func() *jsonschema.Schema {
	return func() *jsonschema.Schema { return &jsonschema.Schema{Type: name} }
}

// list is a list of texts, none of which is kept twice. twice is added to what is said of one that would be.
func list(what string, parse textParser, twice string) kind[[]string] {
	read := func(d *decoder, at key, n *node, into *[]string) {
		d.items(at, n, func(at key, n *node) {
			s, ok := d.text(at, n)
			if !ok {
				return
			}
			switch kept, why := parse(s); {
			case !d.accepts(at, why):
			case slices.Contains(*into, kept):
				d.fault(at, "is given twice%s", twice)
			default:
				*into = append(*into, kept)
			}
		})
	}
	return kind[[]string]{"list of " + what, read, func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "string", MinLength: jsonschema.Ptr(1)}, UniqueItems: true}
	}}
}

// times are durations by name.
func times(names string, parse textParser, of kind[time.Duration]) kind[map[string]time.Duration] {
	read := func(d *decoder, at key, n *node, into *map[string]time.Duration) {
		d.each(at, n, func(name string, at key, n *node) {
			var ttl time.Duration
			if _, why := parse(name); !d.accepts(at, why) {
				return
			}
			if of.read(d, at, n, &ttl); d.sound(at) {
				(*into)[name] = ttl
			}
		})
	}
	return kind[map[string]time.Duration]{of.what + " for each of " + names, read, func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "object", AdditionalProperties: of.schema()}
	}}
}

// expanded is a text in which `${...}` stands for what may not be shown. parse takes its value, and how it is written, or says
// what is wrong.
func expanded[T any](what string, parse func(value, written string, into *T) (why string)) kind[T] {
	return kind[T]{what, func(d *decoder, at key, n *node, into *T) {
		if s, ok := d.expandYAML(at, n); ok {
			d.accepts(at, parse(s, n.text, into))
		}
	}, ofType("string")}
}

// textOf writes a value for people, without secrets; "" where there is nothing to say.
func textOf(v any) string {
	switch v := v.(type) {
	case []*url.URL, []Upstream: // which Upstream says itself
		return ""
	case int64:
		return formatSize(v)
	case time.Duration:
		return formatDuration(v)
	case []string:
		return joined(v, quoteMeta)
	case []Listen:
		return joined(v, Listen.String)
	case http.Header:
		return strings.Join(sortedKeys(v), ", ")
	case map[string]time.Duration:
		return joined(sortedKeys(v), func(name string) string { return quoteMeta(name) + " " + formatTTL(v[name]) })
	}
	return fmt.Sprint(v)
}

func joined[T any](list []T, text func(T) string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return strings.Join(texts, ", ")
}

// quoteMeta quotes a text that could not be told from its surroundings.
func quoteMeta(s string) string {
	if strings.ContainsAny(s, " ,;\"\\") || strings.ContainsFunc(s, isControl) {
		return strconv.Quote(s)
	}
	return s
}

func formatTTL(v time.Duration) string {
	if v == 0 {
		return "never"
	}
	return formatDuration(v)
}

// formatSize writes a size in the largest binary unit that divides it.
func formatSize(v int64) string {
	for _, u := range sizeUnits[:3] {
		if v >= u.bytes && v%u.bytes == 0 {
			return strconv.FormatInt(v/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(v, 10) + "B"
}

// formatDuration writes 30m for what Go writes 30m0s.
func formatDuration(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// shown quotes a value that is no secret, as far as it can be read.
func shown(s string) string {
	const longest = 64
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
