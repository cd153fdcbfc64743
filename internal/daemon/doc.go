// Package daemon puts the parts together: it makes the stages of each upstream (pipeline.go), the tiers (tiers.go) and the
// listeners (listen.go), starts them (daemon.go), and ends them in the reverse order (drain.go). What verbs ask on the control
// socket is answered in control.go; where the daemon keeps its files is in paths.go.
package daemon
