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
// Stage.initialize (opening.go) remembers a session that begins: what the agent sent, and what the server said of itself. From
// then on it is in the table (table.go), and each of its calls goes this way (deliver has the steps of one round, from isStaleAnswer to the new place):
//
//	proxy: Handler.ServeHTTP, request.relay; this stage is the first behind it
//	Stage.Call (stage.go), within (call.go)
//	  │ session.waitForGETs (order.go)     a GET of before is written first
//	  └ Stage.send, deliver (call.go)      to the session's place: the id that it has on the server now
//	      │ session.isStaleAnswer (answers.go), Stage.takesNotice (notice.go): some calls are answered without the server
//	      │ Stage.sendTo                   the call goes on: cache, window, dispatch, upstream/http
//	      │ Stage.answer                   what a recovery will need is noted of a 2xx, which is no loss (session.go, resume.go)
//	      │ Stage.isLoss (loss.go)         does the answer say that the session is lost? Where that is doubtful, a ping asks
//	      │   no ─> the answer passes
//	      │   yes
//	      │ lossText (loss.go)             the server's words are kept, should the loss have to pass after all
//	      │ Stage.recover, join, beginLocked (recovery.go)  one recovery, on a goroutine of its own, for all who met the loss
//	      │   └ recovery.run, replay (recovery_steps.go)  initialize, initialized, log level, subscriptions: as the agent sent them
//	      │     recovery.finish (recovery.go)
//	      │       failed ─> the loss passes, or what the server said to the recovery; not reached ─> that failure
//	      │       done   ─> the session has a new place, with the next number
//	      │   a request that may have changed something gets 1410 from recover, once (notice.go)
//	      └ else it is sent again, to the new place
//
// A GET goes through deliver, too, whenever it is opened: by the agent (streams.go) or, after a break, by the stage itself
// (reopen.go). From then on its stream is tied to the place: when the session moves, it is opened again where the session lives
// now; when the session ends, or its id is given to another, the stream ends. So a GET has a session even if nobody here knows
// it (table.openStream), for as long as it is under way.
//
// # Places
//
// A session lives in one place at a time: an id on its server. Places are numbered from 0. Everything that the server names by
// numbers of its own, which it counts from the start again when it was restarted, is kept with the number of its place: the
// ids of events (resume.go) and of requests to the agent (answers.go). Event ids reach the agent as they come in the first
// place, and with a tag that has the place's number in all others. So a Last-Event-ID says by itself where it comes from.
//
// # Locks
//
// Bound.mu guards the tables, session.mu what is known of one session. Bound.mu is taken first. Neither is held while a server
// is asked.
package session
