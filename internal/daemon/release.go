package daemon

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// What a burst leaves is given back to the system when it is over: garbage, for which the collector would not look before 32 MiB of it
// have gathered (ballast.go) or two minutes have passed, and pages of the program's file that were read once.
const (
	releasePause = 10 * time.Second // between two looks
	releaseLeast = 4 << 20          // bytes that were allocated since the last release: else there is little to give back
	releaseQuiet = 2 << 20          // bytes that are allocated between two looks where a burst goes on, at least

	// releaseStart is how long after the start the pages of the program's file go that it has read: two thirds of what the daemon has then,
	// most of it never needed again. A first burst may come before the first look that finds it quiet.
	releaseStart = time.Second
)

// releaser gives memory back.
type releaser struct {
	allocated func() uint64 // bytes, since the start
	release   func()

	before   uint64 // allocated at the last look
	released uint64 // and at the last release
}

// look gives back what there is, if nothing goes on. It is called once in a releasePause.
func (r *releaser) look() {
	now := r.allocated()
	isQuiet := now-r.before < releaseQuiet
	r.before = now
	if !isQuiet || now-r.released < releaseLeast {
		return
	}
	r.release()
	r.released = now
}

// releaseMemory begins to give back what bursts leave, the start of the daemon being the first, and returns what ends that.
func releaseMemory() (stop func()) {
	r := &releaser{allocated: allocatedBytes, release: func() {
		debug.FreeOSMemory()
		giveBackFiles() // after it: the collector reads much of the program
	}}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		started := time.NewTimer(releaseStart)
		defer started.Stop()
		tick := time.NewTicker(releasePause)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-started.C:
				giveBackFiles()
			case <-tick.C:
				r.look()
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

func allocatedBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
