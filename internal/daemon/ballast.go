package daemon

import "os"

// ballastSize is memory that is asked for and never touched, in bytes, so that it takes no room in the machine. The
// collector counts it as live: garbage gathers to that much before it is collected. The daemon's own heap is a few
// megabytes, and without it Go would collect every few hundred requests. Unlike a GOGC that follows the heap, it does not
// multiply what a burst may take.
const ballastSize = 32 << 20

// newBallast returns the ballast, or nothing where GOGC in the environment says that the operator has other plans.
func newBallast() []byte {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	return make([]byte, ballastSize)
}
