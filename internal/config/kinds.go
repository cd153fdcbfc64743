package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// kind is how values of one sort are read and described. How they are written goes by T: textOf.
type kind[T any] struct {
	what string // what may stand there, "whole number from 1 to 9"
	// read says every fault. What is in into stays where there is one.
	read   func(at key, n *yaml.Node, into *T)
	schema func(*jsonschema.Schema)
}

// scalar makes a kind of plain values. wanted is said where the value is of none of the shapes; parse says what is wrong.
func scalar[T any](what, wanted string, parse func(s string) (v T, why string), schema func(*jsonschema.Schema), shapes ...shape) kind[T] {
	return kind[T]{what, func(at key, n *yaml.Node, into *T) {
		if at.is(n, wanted, shapes...) {
			if v, why := parse(n.Value); at.accepts(why) {
				*into = v
			}
		}
	}, schema}
}

// numeric is the schema of numbers, which may be written as texts of a pattern, too.
func numeric[T int | int64 | float64](lower, upper T, pattern string, types ...string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) {
		s.Minimum, s.Maximum, s.Pattern = jsonschema.Ptr(float64(lower)), jsonschema.Ptr(float64(upper)), pattern
		if s.Types = types; len(types) == 1 {
			s.Type, s.Types = types[0], nil
		}
	}
}

// outOfRange says that v is not in [lower, upper], or "".
func outOfRange[T cmp.Ordered](v, lower, upper T) string {
	switch {
	case v < lower:
		return "must not be less than " + textOf(lower)
	case v > upper:
		return "must not be more than " + textOf(upper)
	}
	return ""
}

// count is a whole number.
func count(lower, upper int) kind[int] {
	what := fmt.Sprintf("whole number from %d to %d", lower, upper)
	return scalar(what, "a whole number", func(s string) (int, string) {
		v, err := strconv.Atoi(s)
		if err != nil || strconv.Itoa(v) != s { // 010 is 8 to some
			return 0, "must be a " + what
		}
		return v, outOfRange(v, lower, upper)
	}, numeric(lower, upper, "", "integer"), isNumber)
}

// share is a part of a whole, 0 or above it.
func share(orNone bool) kind[float64] {
	what := "number above 0, 1 at most"
	if orNone {
		what = "number from 0 to 1"
	}
	return scalar(what, "a "+what, func(s string) (float64, string) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= 0 && v <= 1) || v == 0 && !orNone {
			return 0, "must be a " + what
		}
		return v, ""
	}, numeric(0.0, 1, "", "number"), isNumber)
}

const (
	longest   = 365 * 24 * time.Hour // the upper bound of every duration: more is a mistake
	aboveZero = time.Nanosecond      // the lower bound of a duration where 0 means nothing
)

// duration is a time; where lower is 0, none.
func duration(lower, upper time.Duration) kind[time.Duration] {
	const wanted = "a duration with a unit, such as 500ms, 30s, 5m or 1h30m"
	const units = `([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)`
	what := "duration from " + textOf(lower)
	if lower == aboveZero {
		what = "duration above 0"
	}
	if upper < longest {
		what += " to " + textOf(upper)
	}
	return scalar(what, wanted, func(s string) (time.Duration, string) {
		v, err := time.ParseDuration(s)
		_, notNumber := strconv.ParseFloat(s, 64)
		switch {
		case err != nil && notNumber == nil:
			return 0, fmt.Sprintf("must be %s: %q has none", wanted, s)
		case err != nil:
			return 0, "must be " + wanted + ", not " + shown(s)
		case v < 0:
			return 0, "must not be negative"
		case v == 0 && lower > 0:
			return 0, "must be above 0"
		}
		return v, outOfRange(v, lower, upper)
	}, numeric(0, 0, `^\+?((`+units+`)+|0)$`, "string", "integer"), isText, isNumber) // 0 is the one number; where it may not be, the text says so
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
func size(lower, upper int64) kind[int64] {
	const wanted = "a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB)"
	return scalar("size from "+textOf(lower)+" to "+textOf(upper), wanted, func(s string) (int64, string) {
		v, ok := parseSize(s)
		if !ok {
			return 0, "must be " + wanted
		}
		return v, outOfRange(v, lower, upper)
	}, numeric(lower, upper, "^[1-9][0-9]*(B|[kMG]B|[KMG]iB)?$", "string", "integer"), isText, isNumber)
}

// parseSize returns the nearest size that there is.
func parseSize(s string) (int64, bool) {
	unit := int64(1)
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			s, unit = number, u.bytes
			break
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if !errors.Is(err, strconv.ErrRange) && strconv.FormatInt(v, 10) != s {
		return 0, false // not a number, or with a sign or zeros in front
	}
	return max(min(v, math.MaxInt64/unit), math.MinInt64/unit) * unit, true
}

// boolean is true or false.
var boolean = scalar("true or false", "true or false", func(s string) (bool, string) {
	return strings.EqualFold(s, "true"), ""
}, ofType("boolean"), isBoolean)

// onOff is on or off, which YAML 1.1 takes for a boolean and YAML 1.2 does not. A boolean says the same.
var onOff = scalar("on or off", "on or off", func(s string) (on bool, why string) {
	switch strings.ToLower(s) {
	case "on", "true":
		return true, ""
	case "off", "false":
		return false, ""
	}
	return false, "must be on or off, not " + shown(s)
}, enum[any]("on", "off", true, false), isText, isBoolean)

// oneOf is one of a few words.
func oneOf[T ~string](words ...T) kind[T] {
	what := strings.Join(texts(words, func(w T) string { return string(w) }), " or ")
	return scalar(what, what, func(s string) (T, string) {
		if !slices.Contains(words, T(s)) {
			return "", "must be " + what + ", not " + shown(s)
		}
		return T(s), ""
	}, enum(words...), isText)
}

func enum[T any](values ...T) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) {
		for _, v := range values {
			s.Enum = append(s.Enum, v)
		}
	}
}

// textParser turns a text into the form that is kept, or says what is wrong with it.
type textParser func(s string) (kept, why string)

// plain is a text without `${...}`, or nothing.
func plain(what string, parse textParser) kind[string] {
	return text(what, key.text, func(s, _ string, into *string) (why string) {
		if s != "" {
			*into, why = parse(s)
		}
		return why
	})
}

// expanded is a text in which `${...}` stands for what may not be shown. parse takes its value, and how it is written, or says
// what is wrong.
func expanded[T any](what string, parse func(value, written string, into *T) (why string)) kind[T] {
	return text(what, key.expandYAML, parse)
}

func text[T any](what string, read func(key, *yaml.Node) (string, bool), parse func(value, written string, into *T) (why string)) kind[T] {
	return kind[T]{what, func(at key, n *yaml.Node, into *T) {
		if s, ok := read(at, n); ok {
			at.accepts(parse(s, n.Value, into))
		}
	}, ofType("string")}
}

// list is a list of texts, none of which is kept twice. twice is added to what is said of one that would be.
func list(what string, parse textParser, twice string) kind[[]string] {
	one := text(what, key.text, func(s, _ string, into *string) (why string) {
		*into, why = parse(s)
		return why
	})
	return kind[[]string]{"list of " + what, func(at key, n *yaml.Node, into *[]string) {
		at.items(n, func(at key, n *yaml.Node) {
			var kept string
			one.read(at, n, &kept)
			switch {
			case !at.sound():
			case slices.Contains(*into, kept):
				at.fault("is given twice%s", twice)
			default:
				*into = append(*into, kept)
			}
		})
	}, func(s *jsonschema.Schema) {
		s.Type, s.UniqueItems = "array", true
		s.Items = &jsonschema.Schema{Type: "string", MinLength: jsonschema.Ptr(1)}
	}}
}

// times are durations by name.
func times(names string, parse textParser, of kind[time.Duration]) kind[map[string]time.Duration] {
	return kind[map[string]time.Duration]{of.what + " for each of " + names, func(at key, n *yaml.Node, into *map[string]time.Duration) {
		at.each(n, func(name string, at key, n *yaml.Node) {
			ttl := time.Duration(-1)
			if _, why := parse(name); at.accepts(why) {
				of.read(at, n, &ttl)
			}
			if at.sound() {
				(*into)[name] = ttl
			}
		})
	}, mappingOf(of.schema)}
}

// mappingOf is the schema of values by name.
func mappingOf(of func(*jsonschema.Schema)) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.Type, s.AdditionalProperties = "object", made(of) }
}
