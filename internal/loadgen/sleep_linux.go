package loadgen

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// coarse is the time before the end of a wait that the runtime's timers are trusted with: where nothing else is to be done they are
// late by up to a millisecond, since epoll counts in such.
const coarse = 2 * time.Millisecond

// sleepExactly is sleepUntil to about a tenth of a millisecond, at the price of a system call that keeps a thread.
func sleepExactly(ctx context.Context, at time.Time) error {
	if err := sleepUntil(ctx, at.Add(-coarse)); err != nil {
		return err
	}
	for {
		left := time.Until(at)
		if left <= 0 {
			return ctx.Err()
		}
		t := unix.NsecToTimespec(int64(left))
		if err := unix.Nanosleep(&t, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return sleepUntil(ctx, at)
		}
	}
}
