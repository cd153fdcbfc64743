//go:build !race

package cache_test

import (
	"context"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// allocStage is a stage whose server answers each call with the same bytes, with no more than a Result and its header: at once,
// or when answer is closed.
func allocStage(tb testing.TB, members string, answer <-chan struct{}) (*cache.Store, *cache.Stage) {
	tb.Helper()
	store, err := cache.NewStore(cache.StoreOptions{
		State: cache.MemoryState([]byte("0123456789abcdef")), Buffers: new(mcp.BufferPool),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = store.Close(context.Background()) })
	pattern := *rulesWhole(http.StatusOK, `{"jsonrpc":"2.0","id":1,"result":{"tools":[],`+members+`}}`)
	contentType := pattern.Header.Get("Content-Type")
	o := cache.StageOptions{Name: "docs", Identity: "https://docs.example.com/mcp"}
	var stop context.CancelFunc
	o.Base, stop = context.WithCancel(context.Background())
	tb.Cleanup(stop)
	return store, store.Stage(o, mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		if answer != nil {
			<-answer
		}
		res := pattern
		res.Header = header.List{{Name: "Content-Type", Value: contentType}}
		return &res, nil
	}))
}

// allocMiss is a request that the server is asked each time.
type allocMiss struct {
	name, members string
	ask           rulesAsk
	status        string
	outdated      bool // what memory has of it is out of date each time
}

var allocMisses = []allocMiss{
	{name: "not kept", members: `"ttlMs":0`, ask: rulesModern("tools/list"), status: "fwd=miss"},
	{name: "a page", members: `"ttlMs":0`, ask: rulesModern("tools/list").with(`"cursor":"2"`), status: "fwd=miss"},
	{name: "never kept", members: `"x":1`, ask: rulesModern("prompts/get").with(`"name":"a"`), status: "fwd=bypass"},
	{
		name: "private", members: `"ttlMs":9000,"cacheScope":"private"`, ask: rulesModern("tools/list"),
		status: "fwd=miss; stored", outdated: true,
	},
	{
		name: "public", members: `"ttlMs":9000,"cacheScope":"public"`, ask: rulesModern("tools/list"),
		status: "fwd=miss; stored", outdated: true,
	},
}

// maxMissAllocs is how much more than a call that is none of the cache's a miss may cost, the flight that nobody joins included.
const maxMissAllocs = 12

// TestMissAllocations holds the price.
func TestMissAllocations(t *testing.T) {
	for _, miss := range allocMisses {
		t.Run(miss.name, func(t *testing.T) {
			store, u := allocStage(t, miss.members, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			relayed, missed := rulesModern("ping").call(t), miss.ask.call(t)
			relay := testing.AllocsPerRun(1000, func() { allocCall(t, ctx, u, relayed, "fwd=bypass") })
			got := testing.AllocsPerRun(1000, func() {
				allocCall(t, ctx, u, missed, miss.status)
				if miss.outdated {
					store.Listener().Lost()
				}
			})
			t.Logf("%v allocations, %v of a relay", got, relay)
			if got > relay+maxMissAllocs {
				t.Errorf("%v allocations, at most %d more than the %v of a relay", got, maxMissAllocs, relay)
			}
		})
	}
}

// allocCall makes a call, which is answered with that Cache-Status.
func allocCall(tb testing.TB, ctx context.Context, u *cache.Stage, c *mcp.Call, status string) {
	res, err := u.Call(ctx, c)
	if err != nil || strings.TrimPrefix(res.Header.Get("Cache-Status"), "fluentd-perf; ") != status {
		tb.Errorf("%v, %+v, want %s", err, res, status)
		return
	}
	_ = res.Close()
}

// maxFollowerAllocs is what one caller more may cost in a flight, from its call to its answer.
const maxFollowerAllocs = 6

// TestFollowerAllocations holds the price, which is the difference between a flight of many and one of more.
func TestFollowerAllocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, id := range []string{"1", "2"} {
		t.Run("id "+id, func(t *testing.T) {
			few, many := 50, 450
			followed(t, many, id) // what stays is made
			got := float64(followed(t, many, id)-followed(t, few, id)) / float64(many-few)
			t.Logf("%.2f allocations", got)
			if got > maxFollowerAllocs+.5 { // a list of all that grows
				t.Errorf("%.2f allocations, at most %d", got, maxFollowerAllocs)
			}
		})
	}
}

// followed returns what a call allocates that so many others follow, under that id, whose goroutines are there before.
func followed(t *testing.T, n int, id string) (mallocs uint64) {
	synctest.Test(t, func(t *testing.T) {
		answer, begin := make(chan struct{}), make(chan struct{})
		store, u := allocStage(t, `"ttlMs":0`, answer)
		defer store.Close(t.Context())
		var all sync.WaitGroup
		for range n {
			c := rulesModern("tools/list").under(id).call(t)
			all.Go(func() {
				select {
				case <-begin:
				case <-answer:
				}
				allocCall(t, t.Context(), u, c, "fwd=miss; collapsed")
			})
		}
		all.Go(func() { allocCall(t, t.Context(), u, rulesModern("tools/list").call(t), "fwd=miss") })
		synctest.Wait()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		close(begin)
		synctest.Wait()
		close(answer)
		all.Wait()
		runtime.ReadMemStats(&after)
		mallocs = after.Mallocs - before.Mallocs
	})
	return mallocs
}
