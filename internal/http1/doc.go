// Package http1 is HTTP/1.1 on the wire: so far its client, for one endpoint.
//
// A Client has a pool of connections, and a call runs on its caller's goroutine: it takes a connection, writes head and body
// in one write, and reads the answer. An Answer is its head and a reader of its body. The package knows nothing of MCP.
//
// It promises:
//   - A request is sent once. Another connection is tried only where not a byte was written to the first one, and every Error
//     says truthfully whether the server may have seen the request (Sent).
//   - What is malformed is not guessed at: see parse and framing. An answer that is not whole by its framing ends with an
//     error and never with io.EOF.
//   - A connection is used again only after a whole answer, with nothing behind it, unless the server said `Connection: close`,
//     the call was cancelled, it is older than MaxAge, or it has been idle for nearly as long as the server keeps one. Before
//     it is used again it is looked at: what has been closed meanwhile is not written to.
//   - The end of a call's context closes its connection at once, and never the connection of another call.
//   - An answer that comes while the body is still being written is read. A body's memory is not read after the answer has
//     ended or was closed.
//   - Dials belong to the pool: who leaves does not end them, and who has waited longest gets the next connection.
//   - A connection that is idle holds no buffer, nor does a call that waits for its answer or for more of it (over TCP
//     without TLS; crypto/tls has its own).
//   - Header fields go out as they are spelled; one with a control byte in it is refused before anything is sent.
//
// It leaves to others: HTTP/2, redirects, retries, compression, cookies, who may call and how often. Trailers are read and
// dropped.
package http1
