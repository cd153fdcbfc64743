package npx

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepairsPause: a repair that fails is tried again ever later, once an hour at last, however often the server is started; and at once
// the day after one that has not failed.
func TestRepairsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{})
		broken, tried := errors.New("the registry is away"), 0
		start := func(of string) error {
			j := r.do(attempt{of, repaired}, "repairing", func(context.Context) error { tried++; return broken })
			<-j.done
			return j.err
		}
		for range 2 * 24 * 60 * 12 { // each 5 s
			if err := start("a"); err != broken {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if tried < 48 || tried > 60 {
			t.Errorf("tried %d times in two days", tried)
		}
		tried = 0
		if _ = start("b"); tried != 1 {
			t.Error("another package has to wait")
		}
		time.Sleep(time.Hour)
		broken = nil
		for range 2 {
			if err := start("a"); err != nil {
				t.Error(err)
			}
		}
		if tried != 3 {
			t.Errorf("tried %d times, one after the other", tried)
		}
	})
}
