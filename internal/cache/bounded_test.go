package cache

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What is asked for stays; what nobody has asked for is forgotten, by time and by number.
func TestRecentTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a recentTable[int, int]
		holds := func(when string, want ...int) {
			t.Helper()
			if all := slices.Sorted(a.each); !slices.Equal(all, want) {
				t.Errorf("%s: %v, not %v", when, all, want)
			}
		}
		if a.get(1) != 0 {
			t.Error("an empty one has something")
		}
		a.put(1, 10, 100)
		a.put(2, 20, 100)
		time.Sleep(forgetAfter)
		a.put(3, 30, 100)
		if a.get(1) != 10 {
			t.Error("1 was forgotten within its time")
		}
		holds("one turn", 10, 20, 30)
		a.put(1, 11, 100)
		time.Sleep(forgetAfter)
		a.put(4, 40, 100)
		holds("2 was not asked for", 11, 30, 40)
		if a.get(2) != 0 || a.get(3) != 30 {
			t.Error("it is not what it holds")
		}
		for i := range 1000 {
			a.put(100+i, i, 100)
		}
		n := 0
		for range a.each {
			n++
		}
		if n > 100 || a.get(1099) != 999 || a.get(3) != 0 {
			t.Errorf("%d entries of 100, the last one is %d", n, a.get(1099))
		}
		for i := range 1000 { // all of the old ones are asked for, before others come
			for j := range 3100 {
				a.get(j)
			}
			a.put(2000+i, 1, 100)
		}
		n = 0
		for range a.each {
			n++
		}
		if n > 100 {
			t.Errorf("%d entries of 100, where all are asked for again", n)
		}
		time.Sleep(time.Hour)
		a.put(1, 1, 100)
		time.Sleep(forgetAfter)
		a.put(2, 2, 100)
		holds("an hour later", 1, 2)
	})
}
