package mcp

// DurationBuckets are the upper bounds, in seconds, of every histogram of call times: from a hit on loopback to a call of
// minutes.
var DurationBuckets = []float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
}
