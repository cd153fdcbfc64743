package mcp

// level is an object whose members the scanner knows by name.
type level uint8

const (
	inNothing level = iota // a value of which no member matters
	inEnvelope
	inParams
	inMeta
	inResult
	inResultMeta
	inError
	inDocument // of Member
)

// depths counts the objects that are open inside each level.
var depths = [...]int{inEnvelope: 1, inParams: 2, inMeta: 3, inResult: 2, inResultMeta: 3, inError: 2, inDocument: 1}

// longestName is more than any name or method has that the package compares with. A longer one is unknown.
const longestName = 64

// resolved returns the name whose token is b[start:end] with its escapes undone, nil if that makes it longer than any that
// the package knows.
func (s *scanner) resolved(start, end int, escaped bool) []byte {
	raw := s.b[start+1 : end-1]
	if !escaped {
		return raw
	}
	u := unescaper{src: raw}
	for n := range s.room {
		c, ok := u.next()
		if !ok {
			return s.room[:n]
		}
		s.room[n] = c
	}
	return nil
}

// field returns where the value of the member goes whose name is the token b[start:end], nil if it is nobody's concern,
// and the level that the value is.
func (s *scanner) field(l level, start, end int, escaped bool) (*Span, level) {
	if l == inDocument {
		if TextIs(s.b[start:end], s.wanted) {
			return &s.found, inNothing
		}
		return nil, inNothing
	}
	m, name := &s.m, s.resolved(start, end, escaped)
	switch l {
	case inEnvelope:
		switch string(name) {
		case "jsonrpc":
			return &s.version, inNothing
		case "id":
			return &m.ID, inNothing
		case "method":
			return &m.MethodName, inNothing
		case "params":
			return &m.Params, inParams
		case "result":
			return &m.Result, inResult
		case "error":
			return &m.Error, inError
		}
	case inParams:
		switch string(name) {
		case "name":
			return &m.Name, inNothing
		case "uri":
			return &m.URI, inNothing
		case "cursor":
			return &m.Cursor, inNothing
		case "_meta":
			return &m.Meta, inMeta
		case "requestId":
			return &m.RequestID, inNothing
		case "inputResponses":
			return &m.InputResponses, inNothing
		case "requestState":
			return &m.RequestState, inNothing
		case "task":
			return &m.Task, inNothing
		}
	case inMeta:
		switch string(name) {
		case "io.modelcontextprotocol/protocolVersion":
			return &m.ProtocolVersion, inNothing
		case "io.modelcontextprotocol/clientCapabilities":
			return &m.ClientCapabilities, inNothing
		case "io.modelcontextprotocol/clientInfo":
			return &m.ClientInfo, inNothing
		case "io.modelcontextprotocol/logLevel":
			return &m.LogLevel, inNothing
		case "progressToken":
			return &m.ProgressToken, inNothing
		}
	case inResult:
		switch string(name) {
		case "resultType":
			return &m.ResultType, inNothing
		case "ttlMs":
			return &m.TTL, inNothing
		case "cacheScope":
			return &m.CacheScope, inNothing
		case "isError":
			return &m.IsError, inNothing
		case "_meta":
			return &m.ResultMeta, inResultMeta
		}
	case inResultMeta:
		if string(name) == "io.modelcontextprotocol/serverInfo" {
			return &m.ServerInfo, inNothing
		}
	case inError:
		if string(name) == "code" {
			return &m.ErrorCode, inNothing
		}
	}
	return nil, inNothing
}

// again notes that the member of which the name starts at i is there for the second time.
func (s *scanner) again(l level, field *Span, i int) {
	switch l {
	case inDocument:
		s.refuse(i, "the same name twice")
	case inEnvelope:
		s.refuse(i, "the same name twice")
		s.secondID = s.secondID || field == &s.m.ID
	default:
		s.m.Ambiguous = true
	}
}
