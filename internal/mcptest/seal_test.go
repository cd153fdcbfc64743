package mcptest_test

import (
	"testing"

	"fluentd-perf/internal/mcptest"
)

// TestSeal holds a seal to depend on the key and on where each part ends.
func TestSeal(t *testing.T) {
	t.Parallel()
	seal := mcptest.Seal("key", "ab", "c")
	if len(seal) != 16 || seal != mcptest.Seal("key", "ab", "c") {
		t.Errorf("%q, then %q", seal, mcptest.Seal("key", "ab", "c"))
	}
	for _, other := range []string{mcptest.Seal("yek", "ab", "c"), mcptest.Seal("key", "a", "bc"), mcptest.Seal("key", "abc")} {
		if other == seal {
			t.Errorf("another seal is %q too", other)
		}
	}
}
