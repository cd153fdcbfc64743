package loadgen

import (
	"math"
	"slices"
)

// The figures of which there are ratios.
const (
	FigurePerSecond  = "perSecond"
	FigureP50        = "p50"
	FigureP99        = "p99"
	FigureCPU        = "cpu"
	FigureAllocs     = "allocs"
	FigureAllocBytes = "allocBytes"
)

// figures say how each is read from a round; 0 is not known. Latency is from the intended send where there is one.
var figures = []struct {
	name string
	of   func(*Round) float64
}{
	{FigurePerSecond, func(r *Round) float64 { return r.PerSecond }},
	{FigureP50, func(r *Round) float64 { return r.latency().P50 }},
	{FigureP99, func(r *Round) float64 { return r.latency().P99 }},
	{FigureCPU, func(r *Round) float64 { return r.usage().CPUUs }},
	{FigureAllocs, func(r *Round) float64 { return r.usage().Allocs }},
	{FigureAllocBytes, func(r *Round) float64 { return r.usage().AllocBytes }},
}

func (r *Round) latency() *Latency {
	switch {
	case r.Intended != nil:
		return r.Intended
	case r.Service != nil:
		return r.Service
	}
	return new(Latency)
}

func (r *Round) usage() *Usage {
	if r.Process == nil {
		return new(Usage)
	}
	return r.Process
}

// Compare returns the ratios of a target's rounds to another's, by figure. Rounds go together by their place. again is the same
// build as of once more, nil where that was not measured: how far it is from of is the noise, and no difference within it is claimed, nor
// one of fewer than five rounds.
// CPU and allocations of a daemon are not compared with those of the server: they are different programs.
func Compare(of, to, again *Result) []Ratio {
	var all []Ratio
	for _, f := range figures {
		ownProcess := f.name == FigureCPU || f.name == FigureAllocs || f.name == FigureAllocBytes
		if ownProcess && of.Role == RoleDaemon && to.Role == RoleDirect {
			continue
		}
		rounds := ratios(of.Rounds, to.Rounds, f.of)
		if len(rounds) == 0 {
			continue
		}
		r := Ratio{Figure: f.name, Of: of.Name, To: to.Name, Rounds: rounds, Median: median(rounds)}
		r.Low, r.High = Interval99(rounds)
		if again != nil && len(rounds) > 1 {
			if noise := ratios(again.Rounds, of.Rounds, f.of); len(noise) > 1 {
				r.Noise = spread(noise)
				r.Claimed = min(len(rounds), len(noise)) >= minRounds && math.Abs(math.Log(r.Median)) > math.Log1p(r.Noise) && (r.Low > 1 || r.High < 1)
			}
		}
		all = append(all, r)
	}
	return all
}

// ratios divides a figure round by round, as far as it is known.
func ratios(of, to []Round, figure func(*Round) float64) (all []float64) {
	for i := range min(len(of), len(to)) {
		a, b := figure(&of[i]), figure(&to[i])
		if a > 0 && b > 0 {
			all = append(all, a/b)
		}
	}
	return all
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread returns how far ratios that should be 1 are from that, in either direction: the farthest of them, or the end of their interval
// where that is farther.
func spread(all []float64) float64 {
	low, high := Interval99(all)
	farthest := max(math.Abs(math.Log(low)), math.Abs(math.Log(high)))
	for _, r := range all {
		farthest = max(farthest, math.Abs(math.Log(r)))
	}
	return min(math.Exp(farthest), math.MaxFloat64) - 1
}

// student are the two-sided 99 % quantiles of Student's t distribution, by degrees of freedom from 1; the last one holds for more.
var student = []float64{63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845}

// Interval99 returns the interval that holds the true ratio with 99 %, from those of the rounds: that of the mean of their
// logarithms, by Student's t. One ratio says nothing: both ends are 0 then.
func Interval99(all []float64) (low, high float64) {
	if len(all) < 2 {
		return 0, 0
	}
	mean, deviation := meanLog(all)
	half := student[min(len(all)-1, len(student))-1] * deviation
	return max(math.Exp(mean-half), math.SmallestNonzeroFloat64), min(math.Exp(mean+half), math.MaxFloat64) // which JSON can write
}

// meanLog returns the mean of the ratios' logarithms, and the standard deviation of that mean. There are two of them at least.
func meanLog(all []float64) (mean, deviation float64) {
	n := float64(len(all))
	var squares float64
	for _, r := range all {
		mean += math.Log(r) / n
	}
	for _, r := range all {
		squares += (math.Log(r) - mean) * (math.Log(r) - mean)
	}
	return mean, math.Sqrt(squares / (n - 1) / n)
}

// chance returns how likely it is that ratios whose mean is none are as far from it as these, in either direction: by Student's t.
func chance(all []float64) float64 {
	if len(all) < 2 {
		return 1
	}
	mean, deviation := meanLog(all)
	switch {
	case mean == 0:
		return 1
	case deviation == 0:
		return 0
	}
	return max(0, 1-studentWithin(math.Abs(mean)/deviation, len(all)-1))
}

// studentWithin returns the chance that Student's t with these degrees of freedom is between -t and t (Abramowitz and Stegun, 26.7.3
// and 26.7.4).
func studentWithin(t float64, freedom int) float64 {
	angle := math.Atan(t / math.Sqrt(float64(freedom)))
	sin, cos := math.Sincos(angle)
	sum, term, first := 0.0, 1.0, freedom%2
	if first == 1 {
		term = cos
	}
	for k := first; k < freedom-1; k += 2 {
		sum += term
		term *= cos * cos * float64(k+1) / float64(k+2)
	}
	if first == 1 {
		return 2 / math.Pi * (angle + sin*sum)
	}
	return sin * sum
}
