package loadgen

import "time"

// The curve of a run: a point every curveStep, the step doubled each time that there are maxPoints.
const (
	curveStep = 250 * time.Millisecond
	maxPoints = 480
)

// curve is the counts of a run over time, taken while it goes on.
type curve struct {
	run    *run
	watch  func(Point)
	stop   chan struct{}
	ended  chan struct{}
	points []Point // owned by the goroutine until ended is closed
}

func startCurve(r *run, watch func(Point)) *curve {
	c := &curve{run: r, watch: watch, stop: make(chan struct{}), ended: make(chan struct{})}
	go c.take()
	return c
}

func (c *curve) take() {
	defer close(c.ended)
	tick := time.NewTicker(curveStep)
	defer tick.Stop()
	for every, n := 1, 0; ; n++ {
		select {
		case <-tick.C:
		case <-c.stop:
			return
		}
		p := c.now()
		if c.watch != nil {
			c.watch(p)
		}
		if n%every == 0 {
			c.points = append(c.points, p)
		}
		if len(c.points) == maxPoints {
			for i := range maxPoints / 2 {
				c.points[i] = c.points[2*i+1]
			}
			c.points, every = c.points[:maxPoints/2], 2*every
		}
	}
}

func (c *curve) now() Point {
	return Point{AtMs: time.Since(c.run.begun).Milliseconds(), Done: c.run.done.Load(), Failed: c.run.failed.Load()}
}

// end returns the points, with one of the end.
func (c *curve) end() []Point {
	last := c.now()
	close(c.stop)
	<-c.ended
	if c.watch != nil {
		c.watch(last)
	}
	return append(c.points, last)
}
