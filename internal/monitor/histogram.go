package monitor

import (
	"maps"
	"math"
	"slices"
	"time"

	"fluentd-perf/internal/api"
)

// durations are those of the calls of some time, in the buckets of an api.Histogram. The zero value has none.
type durations struct {
	schema  int32
	count   uint64
	sum     float64 // seconds
	zero    uint64
	buckets map[int64]uint64 // by index; nil where count is 0
}

// grownDurations returns what came between two samples of a histogram. One that has fewer than before, in one bucket at least, or finer ones
// than before, began again in between: all that it has came since.
func grownDurations(before, after api.Histogram) durations {
	new := durationsOf(after)
	if after.Count < before.Count || after.Zero < before.Zero || after.Count > 0 && after.Schema > before.Schema && before.Count > 0 {
		return new
	}
	old := durationsOf(before)
	if old.count == 0 {
		return new
	}
	new.widen(old.schema)
	old.widen(new.schema)
	new.count -= old.count
	new.sum = max(new.sum-old.sum, 0)
	new.zero -= min(old.zero, new.zero)
	for index, n := range old.buckets {
		switch has := new.buckets[index]; {
		case has < n:
			return durationsOf(after)
		case has == n:
			delete(new.buckets, index)
		default:
			new.buckets[index] -= n
		}
	}
	return new
}

// durationsOf reads a histogram. A recording may say anything; a schema that there is not is the next one that there is.
func durationsOf(h api.Histogram) durations {
	d := durations{schema: min(max(h.Schema, minSchema), maxSchema), count: h.Count, sum: h.Sum, zero: h.Zero, buckets: make(map[int64]uint64, len(h.Buckets))}
	for _, b := range h.Buckets {
		d.buckets[b[0]] += uint64(max(b[1], 0))
	}
	return d
}

// The widest that buckets get in Prometheus, 16 powers of two each, and the finest.
const (
	minSchema = -4
	maxSchema = 8
)

// widen puts two neighbouring buckets together until there are no more than 2^schema to each power of two, as Prometheus does.
func (d *durations) widen(schema int32) {
	for d.schema > max(schema, minSchema) {
		wide := make(map[int64]uint64, len(d.buckets)/2+1)
		for index, n := range d.buckets {
			wide[(index+1)>>1] += n
		}
		d.buckets, d.schema = wide, d.schema-1
	}
}

// add puts the calls of another time, or of another kind, to these.
func (d *durations) add(other durations) {
	if other.count == 0 {
		return
	}
	if d.count == 0 {
		*d = other
		d.buckets = maps.Clone(other.buckets)
		return
	}
	other.buckets = maps.Clone(other.buckets)
	other.widen(d.schema)
	d.widen(other.schema)
	d.count, d.sum, d.zero = d.count+other.count, d.sum+other.sum, d.zero+other.zero
	for index, n := range other.buckets {
		d.buckets[index] += n
	}
}

// quantile returns the time that a share of the calls took at most, 0 where there were none. Within a bucket it is taken as spread
// evenly over the logarithm, as Prometheus' histogram_quantile does for native histograms.
func (d *durations) quantile(share float64) time.Duration {
	all := d.zero
	for _, n := range d.buckets {
		all += n
	}
	if all == 0 {
		return 0
	}
	rank, below := share*float64(all), float64(d.zero)
	if rank <= below && d.zero > 0 {
		return 0
	}
	indexes := slices.Sorted(maps.Keys(d.buckets))
	for i, index := range indexes {
		n := float64(d.buckets[index])
		if below+n >= rank || i == len(indexes)-1 {
			return d.within(index, (rank-below)/n)
		}
		below += n
	}
	return 0
}

// within returns the time at a share of a bucket.
func (d *durations) within(index int64, share float64) time.Duration {
	exponent := (float64(index-1) + min(max(share, 0), 1)) * math.Pow(2, -float64(d.schema))
	return seconds(math.Pow(2, exponent))
}

// mean returns the mean time, 0 where there were no calls.
func (d *durations) mean() time.Duration {
	if d.count == 0 {
		return 0
	}
	return seconds(d.sum / float64(d.count))
}

// seconds returns a time of so many seconds, at most a year: a histogram's last bucket has no end.
func seconds(s float64) time.Duration {
	return time.Duration(min(max(s, 0), 365*24*3600) * float64(time.Second))
}
