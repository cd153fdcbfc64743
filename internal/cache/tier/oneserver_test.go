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
