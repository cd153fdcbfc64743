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
)

const notExpanded = "cannot hold ${...}: only url, headers, auth.token and cache.partition_key can"

// text reads a string in which `${` stands for nothing.
func (d *decoder) text(at key, n *node) (string, bool) {
	s, ok := d.rawText(at, n)
	if ok && strings.Contains(s, "${") {
		d.fault(at, "%s", notExpanded)
		return "", false
	}
	return s, ok
}

// rawText reads a string. Numbers and words such as true are refused, because YAML may have understood something else
// than was meant.
func (d *decoder) rawText(at key, n *node) (string, bool) {
	wanted := "a string"
	if n.kind == kindNumber || n.kind == kindBoolean {
		wanted = "a string (put it in quotes)"
	}
	return n.text, d.is(at, n, kindText, wanted)
}

// onOff reads on or off, which YAML 1.1 takes for a boolean and YAML 1.2 does not. A boolean says the same.
func (d *decoder) onOff(into *bool) reader {
	return func(at key, n *node) {
		switch {
		case n.kind == kindBoolean:
			*into = strings.EqualFold(n.text, "true")
		case !d.is(at, n, kindText, "on or off"):
		case n.text != "on" && n.text != "off":
			d.fault(at, "must be on or off, not %s", shown(n.text))
		default:
			*into = n.text == "on"
		}
	}
}

// boolean reads true or false.
func (d *decoder) boolean(into *bool) reader {
	return func(at key, n *node) {
		if d.is(at, n, kindBoolean, "true or false") {
			*into = strings.EqualFold(n.text, "true")
		}
	}
}

// count reads a whole number from least to most.
func (d *decoder) count(into *int, least, most int) reader {
	return func(at key, n *node) {
		if !d.is(at, n, kindNumber, "a whole number") {
			return
		}
		v, err := strconv.Atoi(n.text)
		switch {
		case err != nil || strconv.Itoa(v) != n.text: // 010 is 8 to some
			d.fault(at, "must be a whole number from %d to %d", least, most)
		case inRange(d, at, v, least, most, strconv.Itoa):
			*into = v
		}
	}
}

// share reads a number from 0 to 1; without orZero, one above 0.
func (d *decoder) share(into *float64, orZero bool) reader {
	wanted := "a number above 0, 1 at most"
	if orZero {
		wanted = "a number from 0 to 1"
	}
	return func(at key, n *node) {
		if !d.is(at, n, kindNumber, wanted) {
			return
		}
		v, err := strconv.ParseFloat(n.text, 64)
		if err != nil || !(v >= 0 && v <= 1) || v == 0 && !orZero {
			d.fault(at, "must be %s", wanted)
			return
		}
		*into = v
	}
}

// inRange says so if v is not in [least, most].
func inRange[T cmp.Ordered](d *decoder, at key, v, least, most T, format func(T) string) bool {
	if v < least {
		d.fault(at, "must not be less than %s", format(least))
		return false
	}
	if v > most {
		d.fault(at, "must not be more than %s", format(most))
		return false
	}
	return true
}

const unitsOfTime = "with a unit, such as 500ms, 30s, 5m or 1h30m"

const (
	longest   = 365 * 24 * time.Hour // the upper bound of every duration: more is a slip of the pen
	aboveZero = time.Nanosecond      // the lower bound of a duration where 0 means nothing
)

// duration reads a time above 0.
func (d *decoder) duration(into *time.Duration) reader { return d.durationIn(into, aboveZero, longest) }

// durationOrZero reads a time or 0, where 0 means not at all.
func (d *decoder) durationOrZero(into *time.Duration) reader { return d.durationIn(into, 0, longest) }

// durationIn reads a time from least to most.
func (d *decoder) durationIn(into *time.Duration, least, most time.Duration) reader {
	return func(at key, n *node) {
		if n.kind != kindNumber && !d.is(at, n, kindText, "a duration "+unitsOfTime) {
			return
		}
		v, err := time.ParseDuration(n.text)
		switch {
		case err != nil && isNumber(n.text):
			d.fault(at, "must be a duration %s: %q has none", unitsOfTime, n.text)
		case err != nil:
			d.fault(at, "must be a duration %s, not %s", unitsOfTime, shown(n.text))
		case v < 0:
			d.fault(at, "must not be negative")
		case v == 0 && least > 0:
			d.fault(at, "must be above 0")
		case inRange(d, at, v, least, most, formatDuration):
			*into = v
		}
	}
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

// size reads a number of bytes from least to most.
func (d *decoder) size(into *int64, least, most int64) reader {
	return func(at key, n *node) {
		const wanted = "a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB)"
		if n.kind != kindNumber && !d.is(at, n, kindText, wanted) {
			return
		}
		v, ok := parseSize(n.text)
		switch {
		case !ok:
			d.fault(at, "must be %s", wanted)
		case inRange(d, at, v, least, most, formatSize):
			*into = v
		}
	}
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

// oneOf reads one of a few words.
func oneOf[T ~string](d *decoder, into *T, words ...T) reader {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	wanted := strings.Join(names, " or ")
	return func(at key, n *node) {
		if !d.is(at, n, kindText, wanted) {
			return
		}
		if !slices.Contains(names, n.text) {
			d.fault(at, "must be %s, not %s", wanted, shown(n.text))
			return
		}
		*into = T(n.text)
	}
}

// shown quotes a value that is no secret, as far as it can be read.
func shown(s string) string {
	const longest = 64
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
