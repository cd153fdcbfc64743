package loadgen

import (
	"context"
	"sync"
	"time"
)

// Limiter keeps requests apart. It is for servers that nobody has given leave to load.
type Limiter struct {
	apart time.Duration
	mu    sync.Mutex // guards next
	next  time.Time  // when the next request may go
}

// NewLimiter returns one that lets so many requests go a second, evenly.
func NewLimiter(perSecond float64) *Limiter {
	return &Limiter{apart: time.Duration(float64(time.Second) / perSecond)}
}

// Wait returns when the caller's request may go, or with ctx's error. A nil Limiter lets all go.
func (l *Limiter) Wait(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	at := l.next
	if at.Before(now) {
		at = now
	}
	l.next = at.Add(l.apart)
	l.mu.Unlock()
	return sleepUntil(ctx, at)
}

// sleepUntil returns at a time, or with ctx's error before it.
func sleepUntil(ctx context.Context, at time.Time) error {
	left := time.Until(at)
	if left <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
