package cache_test

import (
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/worker"
)

// TestLateWriteRevivesNothing has everybody's entry be written by a trip whose result is never received, and arrive after a
// private answer to the same request withdrew it: the trip of the daemon that withdraws, or of another one.
func TestLateWriteRevivesNothing(t *testing.T) {
	for _, what := range []string{"tools/list", "resources/read file:///x"} {
		for _, owner := range []string{"own", "another's"} {
			t.Run(owner+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testLateWrite(t, what, owner == "own") })
			})
		}
	}
}

func testLateWrite(t *testing.T, what string, own bool) {
	disk, server := newRigDisk(), &rigServer{ttl: time.Minute, scope: "public", says: "everybody's"}
	tiers := []*rigTier{newRigTier("redis", disk), newRigTier("redis", disk)}
	daemons := make([]*rig, 2)
	for i, tier := range tiers {
		one := slow(tier)
		one.Shared = true
		daemons[i] = newRig(t, rigOptions{server: server, tiers: []worker.Options{one}})
		defer daemons[i].close(time.Second)
		daemons[i].want("a", "prompts/list", "everybody's", "fwd=miss stored") // a is known
		synctest.Wait()
	}
	writer, other := tiers[0], daemons[0]
	if !own {
		other = daemons[1]
		other.want("a", what, "everybody's", "fwd=miss stored")
		after(11 * time.Minute) // that one is over
		daemons[0].ask("a", "prompts/list")
		daemons[1].ask("a", "prompts/list")
		synctest.Wait()
	}
	writer.set(func() { writer.fate = always(rigLate, "write") })
	daemons[0].want("a", what, "everybody's", "fwd=miss stored")
	after(3 * time.Second)
	writer.set(func() { writer.fate = nil })
	server.set(func() { server.scope, server.says = "private", "b's" })
	other.want("b", what, "b's", "fwd=miss stored")
	after(3 * time.Second)
	if len(writer.late) != 1 {
		t.Fatalf("%d writes are late", len(writer.late))
	}
	writer.late[0]()
	server.set(func() { server.says = "a's" })
	for _, d := range daemons {
		d.forget()
		if told := d.ask("a", what); told.says != "a's" {
			t.Errorf("told %+v", told)
		}
	}
}
