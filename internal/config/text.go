package config

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// textOf writes a value for people, without secrets; "" where there is nothing to say.
func textOf(v any) string {
	switch v := v.(type) {
	case []*url.URL, []Upstream: // which Upstream says itself
		return ""
	case int64:
		if v == 0 {
			return "none"
		}
		return formatSize(v)
	case time.Duration:
		return formatDuration(v)
	case []string:
		return joined(v, quoteMeta)
	case []Listen:
		return joined(v, Listen.String)
	case []User:
		return joined(v, User.String)
	case http.Header:
		return strings.Join(sortedKeys(v), ", ")
	case map[string]Secret:
		return joined(sortedKeys(v), quoteMeta)
	case map[string]time.Duration:
		return joined(sortedKeys(v), func(name string) string {
			if v[name] == 0 {
				return quoteMeta(name) + " never"
			}
			return quoteMeta(name) + " " + formatDuration(v[name])
		})
	}
	return fmt.Sprint(v)
}

// sortedKeys returns the keys of a map in their order.
func sortedKeys[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }

func texts[T any](list []T, text func(T) string) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = text(v)
	}
	return texts
}

func joined[T any](list []T, text func(T) string) string {
	return strings.Join(texts(list, text), ", ")
}

// quoteMeta quotes a text that could not be told from its surroundings.
func quoteMeta(s string) string {
	if strings.ContainsAny(s, " ,;\"\\") || strings.ContainsFunc(s, isControl) {
		return strconv.Quote(s)
	}
	return s
}

func isControl(r rune) bool { return r < ' ' || r == 0x7F }

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
func shown(s string) string { return strconv.Quote(cut(s)) }

// cut returns as much of a text as can be read.
func cut(s string) string {
	const longest = 64
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}
