package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcFloor is how much garbage may gather before it is collected, in bytes. The daemon's own heap is a few megabytes, so
	// that Go's default, as much garbage as there is heap, collects every few hundred requests.
	gcFloor = 32 << 20
	// gcEvery is how often the setting follows the heap.
	gcEvery = 2 * time.Second
)

// tuneGC keeps the collector from running more often than gcFloor asks, until done is closed. A GOGC in the environment is
// the operator's word and stays. With a heap above the floor the default holds again: streams cost memory enough.
func tuneGC(done <-chan struct{}) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for set := 100; ; {
		metrics.Read(live)
		if wanted := gcPercent(live[0].Value.Uint64()); wanted < set*9/10 || wanted > set*11/10 {
			debug.SetGCPercent(wanted)
			set = wanted
		}
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}

// gcPercent returns the GOGC with which gcFloor bytes of garbage gather on a live heap, from 100 to 1600.
func gcPercent(live uint64) int {
	const least, most = 100, 1600
	if live == 0 {
		return most
	}
	return int(min(max(gcFloor*100/live, least), most))
}
