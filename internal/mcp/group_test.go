package mcp

import (
	"math"
	"testing"
	"time"
)

// TestGroups: every method has the group that METRICS.md says.
func TestGroups(t *testing.T) {
	want := map[Method]Group{
		MethodInitialize: GroupHandshake, MethodServerDiscover: GroupHandshake, MethodPing: GroupHandshake,
		MethodToolsList: GroupList, MethodPromptsList: GroupList, MethodResourcesList: GroupList, MethodResourcesTemplatesList: GroupList,
		MethodResourcesRead: GroupRead, MethodPromptsGet: GroupRead, MethodCompletionComplete: GroupRead,
		MethodToolsCall: GroupCall,
	}
	for m := range methodCount {
		group, ok := want[m]
		if !ok {
			group = GroupOther
		}
		if got := m.Group(); got != group {
			t.Errorf("%s: %s, want %s", m, got, group)
		}
	}
}

// TestRecentTimes: a server that becomes slow is known as slow after some answers, and each group by itself.
func TestRecentTimes(t *testing.T) {
	var r RecentTimes
	if r.Seconds(GroupList) != 0 {
		t.Error("something is known of no answer")
	}
	r.Observe(GroupList, 100*time.Millisecond)
	if got := r.Seconds(GroupList); got != 0.1 {
		t.Errorf("after one answer: %v", got)
	}
	r.Observe(GroupList, 900*time.Millisecond)
	if got := r.Seconds(GroupList); math.Abs(got-0.2) > 1e-9 {
		t.Errorf("after the first slow one: %v", got)
	}
	for range 40 {
		r.Observe(GroupList, 900*time.Millisecond)
	}
	if got := r.Seconds(GroupList); got < 0.89 || got > 0.9 || r.Seconds(GroupCall) != 0 {
		t.Errorf("after forty: %v, and of calls %v", got, r.Seconds(GroupCall))
	}
}
