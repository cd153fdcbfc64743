// Package http1 is HTTP/1.1 on the wire: a client of one endpoint, and a server for agents.
//
// A Client has a pool of connections, and a call runs on its caller's goroutine: it takes a connection, writes head and body
// in one write, and reads the answer. An Answer is its head and a reader of its body. A Server answers what is common and clear by
// itself, on Linux: POST, GET and DELETE of HTTP/1.1, with one length or no body. All else it leaves to net/http, the connection with the
// bytes that were read already, for the rest of its life. The package knows nothing of MCP.
//
// The client promises:
//   - A request is sent once. Another connection is tried only where not a byte was written to the first one, and every Error
//     says truthfully whether the server may have seen the request (Sent).
//   - What is malformed is not guessed at: see parse and framing. An answer that is not whole by its framing ends with an
//     error and never with io.EOF.
//   - A connection is used again only after a whole answer, with nothing behind it, unless the server said `Connection: close`,
//     the call was cancelled, it is older than MaxAge, or it has been idle for nearly as long as the server keeps one. Before
//     it is used again it is looked at: what has been closed meanwhile is not written to.
//   - The end of a call's context closes its connection within 10 ms, and never the connection of another call.
//   - An answer that comes while the body is still being written is read. A body's memory is not read after the answer has
//     ended or was closed.
//   - Dials belong to the pool: who leaves does not end them, and who has waited longest gets the next connection.
//   - A connection that is idle holds no buffer, nor does a call that waits for its answer or for more of it (over TCP
//     without TLS; crypto/tls has its own).
//   - Header fields go out as they are spelled; one with a control byte in it is refused before anything is sent.
//
// The server promises:
//   - What is taken is a request to net/http too, with the same method, target, fields and length. What one would have to guess about is
//     net/http's, or refused where it is over the bounds of a head.
//   - A head has ten seconds from its first byte, a body as long as its length allows, an idle connection ten minutes. No write waits for
//     an agent for more than two minutes.
//   - Requests of a connection are answered in order, one at a time.
//   - An agent that leaves is seen at once, by the kernel's word (EPOLLRDHUP), and its request is cancelled. One that has closed its direction
//     only still gets an answer that is there.
//   - A request runs on a worker's stack: a connection that is idle has a small one, and no buffer; nor has a stream that waits.
//   - A panic of a handler ends its own connection.
//   - An answer that is not whole is never ended as if it were.
//   - There is one registry for all connections, whoever serves them: how many there are, which are idle, and which are closed at a drain.
//     What is closed there has no byte of a request that was read.
//
// It leaves to others: HTTP/2, redirects, retries, compression, cookies, TLS of agents, who may call and how often. Trailers are read and
// dropped.
package http1
