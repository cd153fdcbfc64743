package mcp

// Span is a half-open range [Start, End) of offsets into the scanned bytes. The zero Span means absent: no JSON value
// can start and end at offset 0.
type Span struct{ Start, End uint32 }

// Present reports whether the span names a value that was there.
func (s Span) Present() bool { return s.End != 0 }

// Of returns the bytes of b that the span covers, sharing b's memory, or nil if the span is absent.
func (s Span) Of(b []byte) []byte {
	if s.End == 0 {
		return nil
	}
	return b[s.Start:s.End:s.End]
}

// Kind says what a JSON-RPC message is.
type Kind uint8

// The kinds of message. The zero value is not a message.
const (
	KindInvalid      Kind = iota
	KindRequest           // a method and an id (which may be null: the server's to refuse)
	KindNotification      // a method and no id
	KindResult            // a result and an id; a loose one may have no result
	KindError             // an error, with an id, a null id or none
	KindBatch             // an array of messages (2025-03-26 only)
)

// IsAnswer reports whether a message of that kind answers a request: a result or an error.
func (k Kind) IsAnswer() bool { return k == KindResult || k == KindError }

// Message is what one scan of a JSON-RPC message found: spans of raw JSON in the scanned bytes, quotes of strings
// included. It owns no memory and is valid as long as the bytes are.
//
// Names are matched by exact case after their escapes are resolved. A name that appears twice in the envelope is refused
// by Scan; one that policy needs and that appears twice further in sets Ambiguous and the span is of the first. So does a
// name in the envelope that JSON-RPC does not know there: a server may take it for another ("Method").
type Message struct {
	Kind       Kind
	Method     Method // MethodOther where the name is not a known one, MethodNone where there is none
	Ambiguous  bool   // a name counts twice, or nobody knows what it means: relay it, share nothing
	Loose      bool   // it is clear what it is, but not all of it is as it should be: see Scan. Relay it, byte for byte; never share, keep, send again or take apart
	Whole      Span   // the message without the white space around it
	ID         Span   // the id exactly as sent: a string with quotes, a number as written, or null
	MethodName Span   // the method with its quotes
	Params     Span
	Result     Span
	Error      Span
	ErrorCode  Span // error.code

	// From params.
	Name           Span
	URI            Span
	Cursor         Span
	Meta           Span // params._meta
	RequestID      Span // params.requestId of notifications/cancelled
	InputResponses Span
	RequestState   Span
	Task           Span

	// From params._meta.
	ProtocolVersion    Span // io.modelcontextprotocol/protocolVersion
	ClientCapabilities Span // io.modelcontextprotocol/clientCapabilities
	ClientInfo         Span // io.modelcontextprotocol/clientInfo
	LogLevel           Span // io.modelcontextprotocol/logLevel
	ProgressToken      Span // progressToken

	// From result.
	ResultType Span
	TTL        Span // ttlMs
	CacheScope Span
	IsError    Span
	ResultMeta Span // result._meta
	ServerInfo Span // result._meta's io.modelcontextprotocol/serverInfo
}
