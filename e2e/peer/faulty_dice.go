package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// spoil is what becomes of one request, or of its answer.
type spoil string

// The ways to spoil a request. Each failure comes in two forms: nothing was done, and the work was done and the answer lost.
const (
	whole      spoil = ""
	cutBefore  spoil = "cut-before"  // the connection ends, nothing was done
	cutAfter   spoil = "cut-after"   // the work was done, no byte of the answer
	cutMiddle  spoil = "cut-middle"  // the work was done, half of the answer
	busyBefore spoil = "busy-before" // 503, nothing was done
	busyAfter  spoil = "busy-after"  // 503, the work was done
	slowBefore spoil = "slow-before" // the work is done late
	slowAfter  spoil = "slow-after"  // the answer comes late
	odd        spoil = "odd"         // plain: an array's answers missing, twice, to unknown ids
	lose       spoil = "lose"        // all sessions are forgotten, once
)

// dice say how requests are spoilt, and how many of them.
type dice struct {
	mu     sync.Mutex // guards the following
	orders orders
}

// orders are what is posted to /fault. The zero value heals.
type orders struct {
	Spoil spoil
	Share float64 // of the requests, 0 to 1
	Ms    int     // how late, in milliseconds
}

// fault takes orders.
func (f *faulty) fault(w http.ResponseWriter, r *http.Request) {
	var o orders
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if o.Spoil == lose {
		f.sessions.lose()
		o = orders{}
	}
	f.dice.mu.Lock()
	f.dice.orders = o
	f.dice.mu.Unlock()
	_, _ = io.WriteString(w, "ok")
}

// roll says what becomes of the next request.
func (d *dice) roll() spoil {
	d.mu.Lock()
	defer d.mu.Unlock()
	if rand.Float64() < d.orders.Share {
		return d.orders.Spoil
	}
	return whole
}

func (d *dice) late() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.orders.Ms) * time.Millisecond
}

// before spoils a request before anything was done for it, and reports whether that is the end of it.
func (f *faulty) before(s spoil, w http.ResponseWriter) bool {
	switch s {
	case cutBefore:
		panic(http.ErrAbortHandler)
	case busyBefore:
		send(w, f.busy())
		return true
	case slowBefore:
		pause(f.dice.late())
	}
	return false
}

// after sends what was answered, spoilt.
func (f *faulty) after(s spoil, w http.ResponseWriter, a answer) {
	switch s {
	case cutAfter:
		panic(http.ErrAbortHandler)
	case busyAfter:
		a = f.busy()
	case slowAfter:
		pause(f.dice.late())
	case cutMiddle:
		if a.body == "" {
			panic(http.ErrAbortHandler)
		}
		if a.content == "application/json" {
			w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		}
		a.body = a.body[:len(a.body)/2]
		send(w, a)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	send(w, a)
}

// busy is a 503 of this server's own. One in two says when to come again.
func (f *faulty) busy() answer {
	a := text(http.StatusServiceUnavailable, "busy "+f.seal("busy"))
	if rand.IntN(2) == 0 {
		a.header = map[string]string{"Retry-After": "1"}
	}
	return a
}

// pause waits. Nobody may cut it short: what an agent that has left wanted is done all the same.
func pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
