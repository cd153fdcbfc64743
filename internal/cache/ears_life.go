package cache

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// earKind is a kind of request that a server may refuse without refusing the others.
type earKind uint8

const (
	earDiscover earKind = iota // server/discover
	earLists                   // subscriptions/listen for lists
	earURIs                    // subscriptions/listen for resources
	earKinds
)

var earKindNames = [earKinds]string{
	earDiscover: "server/discover", earLists: "subscriptions/listen for lists", earURIs: "subscriptions/listen for resources",
}

// earOutcome is what became of one try.
type earOutcome uint8

const (
	earDone     earOutcome = iota // it need not be tried again
	earAgain                      // to be tried again at once
	earBroken                     // no answer, or the stream has ended: to be tried again after a pause
	earDeclined                   // the server does not want it
)

// earLife is the time for which one partition is listened for: from an answer that was stored until the partition has had
// no request for earIdle, is refused, or the daemon ends.
type earLife struct {
	e      *ears
	ear    *ear
	asker  Partition
	ctx    context.Context
	cancel context.CancelFunc

	modern atomic.Pointer[earModern] // nil: not begun. Set under ears.mu
}

func newEarLife(e *ears, own *ear, asker Partition) *earLife {
	l := &earLife{e: e, ear: own, asker: asker}
	l.ctx, l.cancel = context.WithCancel(e.o.Life)
	return l
}

// keep closes the life when its partition has been idle.
func (l *earLife) keep() {
	defer l.e.closeLife(l)
	for {
		rest := earIdle - time.Duration(l.e.now()-l.ear.last.Load())
		if rest <= 0 || !l.pause(rest) {
			return
		}
	}
}

// pause waits. It returns false as soon as the life has ended.
func (l *earLife) pause(d time.Duration) bool {
	if d <= 0 {
		return l.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return l.ctx.Err() == nil
	case <-l.ctx.Done():
		return false
	}
}

// hold tries again and again, until try is done or the life ends. Pauses grow while tries fail, and begin anew when a
// stream has stood for as long as the longest of them.
func (l *earLife) hold(k earKind, try func() earOutcome) {
	fails := 0
	for l.pause(l.patience(k)) {
		began := time.Now()
		outcome := try()
		if outcome != earBroken || time.Since(began) >= maxEarPause {
			fails = 0
		}
		switch outcome {
		case earDone:
			return
		case earDeclined:
			l.decline(k)
		case earBroken:
			if !l.pause(earPause(fails)) {
				return
			}
			fails++
		}
	}
}

const (
	minEarPause = time.Second
	maxEarPause = 30 * time.Second
)

// earPause returns how long to wait after so many failures in a row before: at most 2, 4, 8, 16 and then maxEarPause
// seconds, and at least half of that, by chance, so that many daemons do not come back to a server all at once.
func earPause(fails int) time.Duration {
	most := min(2*minEarPause<<min(fails, 10), maxEarPause)
	return most/2 + rand.N(most/2+1)
}

// patience returns how long the server is not to be asked.
func (l *earLife) patience(k earKind) time.Duration {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	return time.Duration(l.ear.declined[k] - l.e.now())
}

func (l *earLife) decline(k earKind) {
	if l.ctx.Err() != nil {
		return // it was this side that ended it
	}
	l.e.mu.Lock()
	l.ear.declined[k] = l.e.now() + int64(earDecline)
	l.e.mu.Unlock()
	l.e.log.Info("the server does not let the daemon listen for changes: cached answers live by their TTL",
		slog.String("request", earKindNames[k]), slog.String("again_after", earDecline.String()))
}
