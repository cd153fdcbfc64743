package header_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
)

func list() header.List {
	return header.List{{Name: "Accept", Value: "a"}, {Name: "x-two", Value: "1"}, {Name: "Empty"}, {Name: "X-Two", Value: "2"}, {Name: "Last", Value: "z"}}
}

// TestLookUp finds fields by any case, the first one or all.
func TestLookUp(t *testing.T) {
	l := list()
	for name, want := range map[string]string{"accept": "a", "ACCEPT": "a", "X-TWO": "1", "empty": "", "none": "", "x_two": "", "": ""} {
		if got := l.Get(name); got != want {
			t.Errorf("Get(%q) is %q", name, got)
		}
		if has := name != "none" && name != "x_two" && name != ""; l.Has(name) != has {
			t.Errorf("Has(%q) is %v", name, !has)
		}
	}
	if got := slices.Collect(l.Values("X-two")); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("got %v", got)
	}
	for got := range l.Values("x-two") {
		if got != "1" {
			t.Errorf("got %q", got)
		}
		break
	}
	if header.EqualNames("a[", "a{") || header.EqualNames("@", "`") || header.EqualNames("\u212a", "k") {
		t.Error("what are no letters, or none of ASCII, are taken for equal")
	}
}

// TestFind counts the fields of a name beside the first value.
func TestFind(t *testing.T) {
	for name, want := range map[string]string{"accept": "a 1", "X-TWO": "1 2", "empty": " 1", "none": " 0"} {
		if value, fields := list().Find(name); fmt.Sprint(value, " ", fields) != want {
			t.Errorf("Find(%q) is %q, %d", name, value, fields)
		}
	}
}

// TestOf makes lists of maps: in the order of names, each with its values in theirs.
func TestOf(t *testing.T) {
	if got := text(header.Of(map[string][]string{"B": {"2", "1"}, "A": {"3"}, "C": {}})); got != "A=3 B=2 B=1" {
		t.Errorf("got %s", got)
	}
	if got := header.Of(nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// TestChanges holds what each change leaves, in order, and that a clone has memory of its own.
func TestChanges(t *testing.T) {
	for name, test := range map[string]struct {
		change func(l *header.List)
		want   string
	}{
		"add":          {func(l *header.List) { l.Add("X-two", "3") }, "Accept=a x-two=1 Empty= X-Two=2 Last=z X-two=3"},
		"set one":      {func(l *header.List) { l.Set("accept", "b") }, "accept=b x-two=1 Empty= X-Two=2 Last=z"},
		"set repeated": {func(l *header.List) { l.Set("X-TWO", "3") }, "Accept=a X-TWO=3 Empty= Last=z"},
		"set last":     {func(l *header.List) { l.Set("Last", "y") }, "Accept=a x-two=1 Empty= X-Two=2 Last=y"},
		"set new":      {func(l *header.List) { l.Set("New", "n") }, "Accept=a x-two=1 Empty= X-Two=2 Last=z New=n"},
		"del":          {func(l *header.List) { l.Del("X-two") }, "Accept=a Empty= Last=z"},
		"del none":     {func(l *header.List) { l.Del("none") }, "Accept=a x-two=1 Empty= X-Two=2 Last=z"},
		"drop":         {func(l *header.List) { l.Drop(func(f header.Field) bool { return f.Value < "a" }) }, "Accept=a Last=z"},
	} {
		before := list()
		l := before.Clone()
		test.change(&l)
		if got := text(l); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
		if text(before) != text(list()) {
			t.Errorf("%s: the list that was cloned is %s", name, text(before))
		}
	}
	var empty header.List
	empty.Set("A", "b")
	if empty.Del("a"); len(empty) != 0 {
		t.Errorf("got %v", empty)
	}
}

func text(l header.List) string {
	var fields []string
	for _, f := range l {
		fields = append(fields, f.Name+"="+f.Value)
	}
	return strings.Join(fields, " ")
}

func TestElements(t *testing.T) {
	for value, want := range map[string]string{"": "", "a": "a", " a ,\tb,, c d ,": "a|b|c d", ",": ""} {
		if got := strings.Join(slices.Collect(header.Elements(value)), "|"); got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

// TestValid tries each byte in a name and in a value.
func TestValid(t *testing.T) {
	const tokens = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for c := range 256 {
		b := string([]byte{'a', byte(c)})
		if want := c < 128 && strings.IndexByte(tokens, byte(c)) >= 0; header.ValidName(b) != want {
			t.Errorf("byte %#x in a name: %v", c, !want)
		}
		if want := c >= ' ' && c != 0x7f || c == '\t'; header.Valid("A", b) != want {
			t.Errorf("byte %#x in a value: %v", c, !want)
		}
	}
	if header.ValidName("") || !header.Valid("A", "") {
		t.Error("a name may not be empty, a value may")
	}
}

// TestLookUpAllocatesNothing: it is on the way of each call.
func TestLookUpAllocatesNothing(t *testing.T) {
	l := list()
	if got := testing.AllocsPerRun(100, func() {
		for v := range l.Values("x-two") {
			for range header.Elements(v) {
				_ = l.Get("last")
			}
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
