package scenario

import (
	"math"
	"math/rand/v2"
	"sort"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
)

// coalesceMs is how long a call of a burst takes at the server.
const coalesceMs = 50

// toolCall is a call of one of the scripted server's tools, of which every byte of the answer is known.
func toolCall(tool string) loadgen.Kind {
	k := loadgen.ToolCall(tool, fastserver.Arguments(loadgen.KeyMark))
	k.Result = fastserver.Result(tool, loadgen.KeyMark)
	return k
}

// waitCall is a call that takes so many milliseconds at the scripted server.
func waitCall(ms int) loadgen.Kind {
	k := loadgen.ToolCall(fastserver.Wait, fastserver.WaitArguments(loadgen.KeyMark, ms))
	k.Result = fastserver.Result(fastserver.Wait, loadgen.KeyMark)
	return k
}

// progressCall is a call that is answered by a stream with an event before the answer.
func progressCall() loadgen.Kind {
	k := toolCall(fastserver.Progress)
	k.Progress = true
	return k
}

// listCall asks the scripted server for its tools.
func listCall() loadgen.Kind {
	k := loadgen.List()
	k.Result = fastserver.ListResult(loadgen.TTLMark)
	return k
}

// plainCall is a call of plain JSON-RPC; above 0 it is an array of so many.
func plainCall(array int) loadgen.Kind {
	k := loadgen.Kind{Name: "call", Method: fastserver.Small, Params: `"key":"` + loadgen.KeyMark + `"`, Result: fastserver.Result(fastserver.Small, loadgen.KeyMark), Array: array}
	if array > 0 {
		k.Name = "array"
	}
	return k
}

// mix is the work that the targets speak of: in ten calls five of 200 B, two of 10 KB, two lists and one with progress. All but the
// lists are unique, so that at most the lists are hits.
func mix() *loadgen.Work {
	first := loadgen.NewKeys()
	kinds := [10]int{0, 1, 0, 2, 0, 3, 0, 1, 0, 2}
	return &loadgen.Work{
		Kinds: []loadgen.Kind{toolCall(fastserver.Small), toolCall(fastserver.Large), listCall(), progressCall()},
		Pick:  func(n int64) (int, int64) { return kinds[n%10], first + n },
	}
}

// repeated is a call of each of so many keys in turn.
func repeated(k loadgen.Kind, keys int64) *loadgen.Work {
	first := loadgen.NewKeys()
	return &loadgen.Work{Kinds: []loadgen.Kind{k}, Pick: func(n int64) (int, int64) { return 0, first + n%keys }}
}

// sameInBurst is calls of which those of one burst have the same key.
func sameInBurst(k loadgen.Kind, size int64) *loadgen.Work {
	first := loadgen.NewKeys()
	return &loadgen.Work{Kinds: []loadgen.Kind{k}, Pick: func(n int64) (int, int64) { return 0, first + n/size }}
}

// zipf is calls of which the key at place i is made as often as 1/i^exponent says. The nth call is the same in every run.
func zipf(k loadgen.Kind, keys int, exponent float64) *loadgen.Work {
	sums, sum := make([]float64, keys), 0.0
	for i := range sums {
		sum += 1 / math.Pow(float64(i+1), exponent)
		sums[i] = sum
	}
	first := loadgen.NewKeys()
	return &loadgen.Work{Kinds: []loadgen.Kind{k}, Pick: func(n int64) (int, int64) {
		at := rand.New(rand.NewPCG(1, uint64(n))).Float64() * sum
		return 0, first + int64(sort.SearchFloat64s(sums, at))
	}}
}
