package mcp

import (
	"math"
	"sync/atomic"
	"time"
)

// Group is what call times are counted by: the label `kind` of the two duration histograms. Methods of a group take about
// the same time, so that a mean of it means something.
type Group uint8

// The groups.
const (
	GroupHit       Group = iota // answered by the cache or by another call's answer, whatever the method
	GroupHandshake              // initialize, server/discover, ping
	GroupList                   // tools/list, prompts/list, resources/list, resources/templates/list
	GroupRead                   // resources/read, prompts/get, completion/complete
	GroupCall                   // tools/call
	GroupOther                  // the rest, and what is no request
	GroupCount
)

var groupNames = [GroupCount]string{"hit", "handshake", "list", "read", "call", "other"}

// String returns the label's value.
func (g Group) String() string { return groupNames[g] }

// Group returns the method's group, never GroupHit.
func (m Method) Group() Group {
	switch m {
	case MethodInitialize, MethodServerDiscover, MethodPing:
		return GroupHandshake
	case MethodToolsList, MethodPromptsList, MethodResourcesList, MethodResourcesTemplatesList:
		return GroupList
	case MethodResourcesRead, MethodPromptsGet, MethodCompletionComplete:
		return GroupRead
	case MethodToolsCall:
		return GroupCall
	}
	return GroupOther
}

// RecentTimes is how long one server has taken lately, by group: a mean in which each answer weighs an eighth of what is
// left. The zero value knows nothing. It is safe for concurrent use.
type RecentTimes [GroupCount]atomic.Uint64 // of each the bits of a float64, in seconds; 0: no answer yet

// Observe takes in the time of one answer.
func (t *RecentTimes) Observe(g Group, took time.Duration) {
	for {
		old := t[g].Load()
		mean := took.Seconds()
		if old != 0 {
			mean = math.Float64frombits(old)*7/8 + mean/8
		}
		if t[g].CompareAndSwap(old, math.Float64bits(mean)) {
			return
		}
	}
}

// Seconds returns the group's mean, 0 where there was no answer yet.
func (t *RecentTimes) Seconds(g Group) float64 { return math.Float64frombits(t[g].Load()) }
