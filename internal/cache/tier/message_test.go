package tier_test

import (
	"slices"
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// TestMessages: what another daemon sent is read, one's own says nothing, and nothing else is a message.
func TestMessages(t *testing.T) {
	one, two := tier.NewSender(), tier.NewSender()
	generations := []tier.Generation{{1}, {15: 9}, {}}
	message := one.Message(generations)
	if got, ok := two.Parse(message); !ok || !slices.Equal(got, generations) {
		t.Errorf("another's: %v, %v", got, ok)
	}
	if got, ok := one.Parse(message); !ok || got != nil {
		t.Errorf("its own: %v, %v", got, ok)
	}
	for _, bad := range [][]byte{nil, message[:1], message[:9], message[1:], message[:len(message)-1], append([]byte{2}, message[1:]...), append(message, 0)} {
		for _, s := range []tier.Sender{one, two} {
			if got, ok := s.Parse(bad); ok {
				t.Errorf("%x was read as %v", bad, got)
			}
		}
	}
}
