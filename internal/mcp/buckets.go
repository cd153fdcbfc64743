package mcp

// DurationBuckets are the upper bounds, in seconds, of every histogram of call times: from a hit on loopback to a call of
// minutes. They are few, since each is a series for every upstream; whoever wants more takes the native histogram.
var DurationBuckets = []float64{0.0005, 0.0025, 0.01, 0.05, 0.25, 1, 10, 60}

// The bounds of the native histograms beside them (Prometheus, "Native histograms"): each bucket is at most a tenth wider
// than the one before, and of one series there are at most so many.
const (
	NativeFactor  = 1.1
	NativeBuckets = 100
)
