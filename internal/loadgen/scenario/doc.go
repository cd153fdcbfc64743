// Package scenario is what the verb benchmark measures: it starts the processes that a scenario needs, puts loads on them in rounds,
// and makes a report of what came of it.
//
// The scripted server and the daemons are processes of their own, so that what each costs can be told. A daemon is started twice
// (A/A), and every round puts the same load on each of the targets, in an order that is turned round in every other one: a slow moment
// of the machine meets all, and what differs between two processes of the same build is noise.
//
// The package ends every process that it has started, and removes its directory, whatever happens. It calls what it is given: which
// tools of which servers may be called, and how often, is decided by who calls it.
package scenario
