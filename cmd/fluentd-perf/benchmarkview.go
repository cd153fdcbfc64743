package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/loadgen/scenario"
)

// interval is the shortest time between two lines of the live view.
const interval = 200 * time.Millisecond

// liveView is a line on a terminal that says how far a benchmark is. It is written over again and again.
type liveView struct {
	out   io.Writer // nil: nowhere; else the terminal itself, so that the line is gone before the tables come
	width int
	last  time.Time
	from  scenario.Progress // of the round that is shown
	shown bool
}

// newLiveView returns the view of who reads stderr. It shows nothing where that is no terminal, or where it is told to be quiet.
func newLiveView(stderr io.Writer, quiet bool) *liveView {
	queue, ok := stderr.(*lineQueue)
	if !ok || quiet {
		return &liveView{}
	}
	file, ok := queue.out.(*os.File)
	if !ok {
		return &liveView{}
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil { // no terminal
		return &liveView{}
	}
	columns := int(size.Col)
	if columns == 0 { // it does not say
		columns = 80
	}
	return &liveView{out: file, width: max(20, columns-1)}
}

// show writes the line, at most every so often. One goroutine calls it at a time.
func (v *liveView) show(p scenario.Progress) {
	if v.out == nil || time.Since(v.last) < interval && p.Round == v.from.Round && p.Target == v.from.Target {
		return
	}
	v.last, v.from, v.shown = time.Now(), p, true
	line := []rune(progressLine(p))
	if len(line) > v.width {
		line = line[:v.width]
	}
	fmt.Fprint(v.out, "\r\x1b[K"+string(line))
}

// clear removes the line.
func (v *liveView) clear() {
	if v.shown {
		fmt.Fprint(v.out, "\r\x1b[K")
	}
}

// progressLine says how far a benchmark is.
func progressLine(p scenario.Progress) string {
	if p.Run == "" {
		return "starting"
	}
	line := printable(p.Run) + ", " + printable(p.Target)
	if p.Round > 0 {
		line += fmt.Sprintf(", round %d of %d", p.Round, p.Rounds)
	}
	if p.AtMs == 0 {
		return line
	}
	line += fmt.Sprintf(": %d", p.Done)
	if p.Total > 0 {
		line += fmt.Sprintf(" of %d", p.Total)
	}
	line += fmt.Sprintf(" calls, %.0f/s", float64(p.Done)/float64(p.AtMs)*1e3)
	if p.Failed > 0 {
		line += fmt.Sprintf(", %d failed", p.Failed)
	}
	return line
}
