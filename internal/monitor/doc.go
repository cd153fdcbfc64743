// Package monitor shows what a daemon does while it does it: a live view in a terminal, a line for each interval where there is none, a
// recording in a file, and such a recording again in the same view.
//
// It asks the daemon for samples of its counters (internal/api) and shows differences of two, so that its figures are those that
// Prometheus would have of the same time. A daemon that is not asked does nothing for it.
//
// It promises that no text from outside (names, hosts, errors, agents) moves the terminal's cursor or colours anything, that the view
// fits the terminal whatever its size, that the terminal is as before when it ends, by a signal or a panic too, and that a daemon that
// goes away or is another one is said and not taken for rates. It leaves to cmd what flags there are and where sockets may be.
package monitor
