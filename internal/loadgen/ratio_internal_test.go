package loadgen

import (
	"math"
	"testing"
)

// TestStudentWithin compares with the quantiles that are in every table, and with those by which intervals are made.
func TestStudentWithin(t *testing.T) {
	for _, c := range []struct {
		t       float64
		freedom int
		within  float64
	}{{12.706, 1, 0.95}, {4.303, 2, 0.95}, {2.776, 4, 0.95}, {8.610, 4, 0.999}, {5.408, 7, 0.999}, {2.042, 30, 0.95}, {0, 5, 0}} {
		if got := studentWithin(c.t, c.freedom); math.Abs(got-c.within) > 1e-4 {
			t.Errorf("t %v, %d degrees of freedom: %v, want %v", c.t, c.freedom, got, c.within)
		}
	}
	for i, quantile := range student {
		if got := studentWithin(quantile, i+1); math.Abs(got-0.99) > 1e-4 {
			t.Errorf("%d degrees of freedom: %v", i+1, got)
		}
	}
}

// TestSpread: of many rounds the interval of the mean is narrow, and the noise is how far one of them was; of few the interval is wider.
func TestSpread(t *testing.T) {
	many := []float64{1.3}
	for range 15 {
		many = append(many, 0.99, 1.01)
	}
	if got := spread(many); math.Abs(got-0.3) > 1e-9 {
		t.Errorf("of many: %v", got)
	}
	many[0] = 1 / 1.3
	if got := spread(many); math.Abs(got-0.3) > 1e-9 {
		t.Errorf("of many, the other way: %v", got)
	}
	few := []float64{1.3, 1}
	if _, high := Interval99(few); math.Abs(spread(few)-(high-1)) > 1e-9 || high < 2 {
		t.Errorf("of few: %v, the interval ends at %v", spread(few), high)
	}
}

// TestChance: none of one ratio, all of ratios that are the same and not 1, and 1 % at the end of the interval of 99 %.
func TestChance(t *testing.T) {
	for _, c := range []struct {
		ratios []float64
		want   float64
	}{{nil, 1}, {[]float64{2}, 1}, {[]float64{1, 1, 1}, 1}, {[]float64{2, 2, 2}, 0}, {[]float64{2, 0.5}, 1}} {
		if got := chance(c.ratios); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v: %v, want %v", c.ratios, got, c.want)
		}
	}
	ratios := []float64{1.01, 1.09, 1.2, 1.15, 0.99}
	low, _ := Interval99(ratios)
	for i := range ratios {
		ratios[i] /= low
	}
	if got := chance(ratios); math.Abs(got-0.01) > 1e-5 {
		t.Errorf("%v at the interval's end", got)
	}
}
