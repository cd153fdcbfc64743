// Package session is the stage that knows what belongs together over more than one request: an agent's session with a
// server, and its GET stream. (Package httpsse does that for the transport of 2024-11-05.)
//
// It promises that an agent's GET stream outlives a break on the server's side, and that a session which the server has lost
// is opened again where that is safe. An agent knows its session by the id that the server gave it first; the id of the
// session that was opened in its place never leaves this stage. Connections are the business of the stage behind it, the
// shape of errors that of the handler.
//
// # A lost session, from request to answer
//
//	Stage.Call (stage.go)
//	  └ Stage.within, send (call.go)       the session is in the table (table.go)
//	      │ Stage.reach                    the call goes to the session's place: under the id that it has on the server now
//	      │ Stage.isLoss (loss.go)         does the answer say that the session is lost? Where that is doubtful, a ping asks
//	      │   no ─> Stage.answer           what a recovery will need is noted (session.go, resume.go); the answer passes
//	      │   yes
//	      │ Stage.recover (recovery.go)    one recovery for all who met the loss
//	      │   └ recovery.run (replay.go)   initialize, initialized, log level, subscriptions: as the agent sent them
//	      │       failed ─> the loss passes, or what the server said to the recovery
//	      │       done   ─> the session has a new place, of the next generation
//	      │ the restart notice (notice.go) a request that may have changed something gets 1410, once
//	      └ sent again, to the new place
//
// A GET stream (streams.go) goes the same way whenever it is opened, by the agent or, after a break, by the stage itself
// (reopen.go). Until then it is tied to its place: when the session moves, the stream is opened again where it lives now.
//
// # Places and generations
//
// A session lives in one place at a time: an id on its server. Each move begins a generation. Everything that the server
// names by numbers of its own, which it counts from the start again when it was restarted, is kept with its generation: the
// ids of events (resume.go) and of requests to the agent (answers.go). Event ids reach the agent as they come in the first
// generation, and with a tag that names the generation in all others. So a Last-Event-ID says by itself where it comes from.
package session
