package daemon

import "testing"

// TestStartedWithoutShell: who has a terminal has a shell; a service manager or a desktop has made other environments, or nobody says.
func TestStartedWithoutShell(t *testing.T) {
	for _, c := range []struct {
		environ  []string
		terminal bool
		parent   int
		want     bool
	}{
		{[]string{"PATH=/bin"}, true, 100, false},
		{[]string{"PATH=/bin"}, false, 100, false},
		{[]string{"PATH=/bin"}, false, 1, true},
		{[]string{"NOTIFY_SOCKET=/run/x"}, false, 100, true},
		{[]string{"INVOCATION_ID=abc"}, false, 100, true},
		{[]string{"INVOCATION_ID=abc", "DISPLAY=:0"}, true, 1, false},
		{[]string{"INVOCATION_ID="}, false, 100, false},
		{[]string{"XPC_SERVICE_NAME=0"}, false, 100, false},
		{[]string{"XPC_SERVICE_NAME=org.example"}, false, 100, true},
		{[]string{"DISPLAY=:0"}, false, 100, true},
		{[]string{"WAYLAND_DISPLAY=wayland-0"}, false, 100, true},
	} {
		if got := startedWithoutShell(c.environ, c.terminal, c.parent); got != c.want {
			t.Errorf("%q, terminal %v, child of %d: %v", c.environ, c.terminal, c.parent, got)
		}
	}
}
