//go:build !linux

package loadgen

import (
	"context"
	"time"
)

// sleepExactly is sleepUntil.
func sleepExactly(ctx context.Context, at time.Time) error { return sleepUntil(ctx, at) }
