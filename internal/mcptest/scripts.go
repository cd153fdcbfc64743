package mcptest

import (
	"net/http"
	"strconv"
	"time"
)

// ToolResult is a whole, small tools/call result.
const ToolResult = `{"content":[{"type":"text","text":"ok"}]}`

// Minimal answers a POSTed request with ToolResult as JSON, other POSTs with 202, GET with a stream that stays open and
// silent, DELETE with 200. Every request, and no notification, counts as one execution.
func Minimal(x *Exchange) {
	switch {
	case x.Verb == http.MethodGet:
		x.Stream()
		x.Hang()
	case x.Verb == http.MethodDelete:
		x.Say(http.StatusOK, "", "")
	case x.ID() == "" || x.Method() == "":
		x.Accept()
	default:
		x.Execute()
		x.Result(ToolResult)
	}
}

// Executing counts an execution, then plays the script: the work was done, whatever becomes of the answer.
func Executing(script Script) Script {
	return func(x *Exchange) {
		x.Execute()
		script(x)
	}
}

// Saying answers with this status and body.
func Saying(status int, contentType, body string, fields ...string) Script {
	return func(x *Exchange) { x.Say(status, contentType, body, fields...) }
}

// Streaming sends these pieces of an SSE stream, the answer with ToolResult, and the end.
func Streaming(pieces ...string) Script {
	return func(x *Exchange) {
		s := x.Stream()
		for _, p := range pieces {
			s.Raw(p)
		}
		s.Answer(ToolResult)
		s.End()
	}
}

// Hang answers nothing until the peer leaves.
func Hang(x *Exchange) { x.Hang() }

// ResetBeforeHead reads the request and resets the connection.
func ResetBeforeHead(x *Exchange) { x.Reset() }

// CloseBeforeHead reads the request and closes the connection.
func CloseBeforeHead(x *Exchange) { x.Close() }

// ResetInHead resets the connection in the middle of the answer's head.
func ResetInHead(x *Exchange) {
	x.Write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
	x.Reset()
}

// ResetAfterHead sends the head of a JSON answer and resets the connection.
func ResetAfterHead(x *Exchange) {
	x.Write(Head(http.StatusOK, "application/json", "Content-Length: 100"))
	x.Reset()
}

// ResetInBody sends half of a JSON answer and resets the connection.
func ResetInBody(x *Exchange) {
	x.Write(halfAnswer(x))
	x.Reset()
}

// CutLength sends half of a JSON answer and closes the connection in good order: fewer bytes than Content-Length says.
func CutLength(x *Exchange) {
	x.Write(halfAnswer(x))
	x.Close()
}

// CutChunks sends a chunked JSON answer without its last chunk.
func CutChunks(x *Exchange) {
	x.Write(Head(http.StatusOK, "application/json", "Transfer-Encoding: chunked") + "9\r\n{\"jsonrpc\r\n")
	x.Close()
}

func halfAnswer(x *Exchange) string {
	body := x.Answer(ToolResult)
	return Head(http.StatusOK, "application/json", "Content-Length: "+strconv.Itoa(len(body))) + body[:len(body)/2]
}

// ResetAfterStreamHead sends the head of an SSE answer and resets the connection.
func ResetAfterStreamHead(x *Exchange) {
	x.Stream()
	x.Reset()
}

// ResetInEvent sends one whole event, half of the answer's event, and resets the connection.
func ResetInEvent(x *Exchange) {
	s := x.Stream()
	s.Event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
	s.Raw(`data: {"jsonrpc":"2.0","id":`)
	x.Reset()
}

// EndBeforeAnswer sends one whole event and ends the stream in good order, without the answer.
func EndBeforeAnswer(x *Exchange) {
	s := x.Stream()
	s.Event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
	s.End()
}

// Trickling answers with ToolResult as JSON, a byte at a time, head included, that far apart.
func Trickling(apart time.Duration) Script {
	return func(x *Exchange) {
		body := x.Answer(ToolResult)
		x.Trickle(Head(http.StatusOK, "application/json", "Content-Length: "+strconv.Itoa(len(body)))+body, apart)
		x.Whole()
	}
}

// Stalling sends the head of a JSON answer and half of its body, then nothing.
func Stalling(x *Exchange) {
	x.Write(halfAnswer(x))
	x.Hang()
}

// StallingStream sends one whole event, then nothing.
func StallingStream(x *Exchange) {
	s := x.Stream()
	s.Event(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`)
	x.Hang()
}
