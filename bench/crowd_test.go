//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// crowd is how a crowd of agents fared: how long each call took, sorted.
type crowd []time.Duration

// callCrowd makes calls over connections of its own, as many on each, one after the other.
func callCrowd(b *testing.B, addr, path string, connections, calls int) crowd {
	b.Helper()
	took := make([]crowd, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() { took[i], errs[i] = callOneByOne(addr, path, i, calls) })
	}
	wg.Wait()
	var all crowd
	for i := range took {
		if errs[i] != nil {
			b.Fatal(errs[i])
		}
		all = append(all, took[i]...)
	}
	slices.Sort(all)
	return all
}

// callOneByOne makes calls over one connection. Any answer in a 200 with the call's id will do.
func callOneByOne(addr, path string, connection, calls int) (took crowd, err error) {
	conn, err := net.DialTimeout("tcp4", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	request, at := requestText(addr, path)
	br := bufio.NewReaderSize(conn, 16<<10)
	for n := range calls {
		id := request[at : at+idWidth]
		copy(id, fmt.Sprintf("%d", int64(1e9)+int64(connection)<<16+int64(n)))
		begun := time.Now()
		if err := conn.SetDeadline(begun.Add(time.Minute)); err != nil {
			return nil, err
		}
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		if err := readAnswer(br, id); err != nil {
			return nil, fmt.Errorf("call %s: %w", id, err)
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// at returns the percentile in µs.
func (c crowd) at(percentile int) float64 {
	return float64(c[len(c)*percentile/100].Nanoseconds()) / 1e3
}

// stick has agents call a server that does not answer, until leave is called, which waits for them.
func stick(addr, path string, agents int) (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range agents {
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp4", addr, 10*time.Second)
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			request, _ := requestText(addr, path)
			if _, err := conn.Write(request); err == nil {
				<-ctx.Done()
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// middle returns the median.
func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
