package tier

import (
	"errors"
	"testing"
)

// TestOneServerCutBeforeItStands has a connection come from another server before or after the link stands, or not at all.
func TestOneServerCutBeforeItStands(t *testing.T) {
	for name, test := range map[string]struct {
		before, after string // the server of a connection that is made before or after Stand
		stood, stands bool
		cuts          int
	}{
		"nobody else":                 {"a", "a", true, true, 0},
		"a server that does not say":  {"", "", true, true, 0},
		"another before":              {"b", "a", false, false, 1},
		"another before, another yet": {"b", "c", false, false, 1},
		"another after":               {"a", "b", true, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var o OneServer
			cuts := 0
			o.Linked("a", func() {
				if o.Stands() {
					t.Error("it stands while it is cut")
				}
				cuts++
			})
			if err := o.Admit(test.before); (err == nil) != (test.stood) || err != nil && !errors.Is(err, ErrOtherServer) {
				t.Errorf("before: %v", err)
			}
			if o.Stands() {
				t.Error("it stands before anybody said so")
			}
			if got := o.Stand(); got != test.stood {
				t.Errorf("Stand: %t", got)
			}
			_ = o.Admit(test.after) // without a link any server will do
			if got := o.Stands(); got != test.stands || cuts != test.cuts {
				t.Errorf("it stands: %t, after %d cuts", got, cuts)
			}
			o.Unlinked()
			if o.Stands() || o.Stand() {
				t.Error("it stands after its end")
			}
		})
	}
}

// TestOneServerMoves holds when a new link is at another server than some connection was: what was told there while no link
// stood has to be told again.
func TestOneServerMoves(t *testing.T) {
	for name, test := range map[string]struct {
		calls []string // the servers of connections that are made without a link
		link  string
		moved bool
	}{
		"the first link":               {nil, "a", false},
		"calls before it, at the same": {[]string{"a"}, "a", false},
		"calls before it, elsewhere":   {[]string{"b"}, "a", true},
		"calls at two":                 {[]string{"a", "b"}, "a", true},
	} {
		t.Run(name, func(t *testing.T) {
			var o OneServer
			for _, id := range test.calls {
				if err := o.Admit(id); err != nil {
					t.Fatal(err)
				}
			}
			epoch := o.Epoch()
			if got := o.Linked(test.link, func() {}); got != test.moved || (o.Epoch() != epoch) != test.moved {
				t.Errorf("moved: %t, want %t; connections from before are used: %t", got, test.moved, o.Epoch() == epoch)
			}
			o.Unlinked()
			if o.Linked(test.link, func() {}) {
				t.Error("a link at the same server again has moved")
			}
			o.Unlinked()
			if !o.Linked("c", func() {}) {
				t.Error("a link at another server has not moved")
			}
		})
	}
}
