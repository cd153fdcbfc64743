package harness

import (
	"runtime"
	"testing"
)

// TestFreePort: a port is one test's until that has ended.
func TestFreePort(t *testing.T) {
	var first string
	t.Run("a test", func(t *testing.T) {
		first = FreePort(t)
		if _, ok := takePort(first); ok && runtime.GOOS == "linux" {
			t.Error("another test was given the same port")
		}
	})
	giveBack, ok := takePort(first)
	if !ok {
		t.Fatal("a port is taken whose test has ended")
	}
	giveBack()
}
