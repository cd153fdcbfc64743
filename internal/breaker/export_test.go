package breaker

import "time"

// AllowWithin is Allow with another deadline for a probe. It returns 0 where the call is not allowed.
func (b *Breaker) AllowWithin(within time.Duration) (ticket uint64) { return b.allow(within, false) }
