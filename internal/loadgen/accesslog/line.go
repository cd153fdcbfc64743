package accesslog

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// line is what this package reads of an access line. Times that are not there are 0.
type line struct {
	end                     time.Time
	upstream, verb          string
	method, tool            string
	agent, session          string
	outcome, reason, cache  string
	status                  int64
	in, out                 int64
	took, connect, atServer time.Duration
}

// begin returns when the request came.
func (l *line) begin() time.Time { return l.end.Add(-l.took) }

// isHit, isCollapsed and spared say what the cache did.
func (l *line) isHit() bool       { return strings.HasPrefix(l.cache, "hit") }
func (l *line) isCollapsed() bool { return strings.Contains(l.cache, "collapsed") }
func (l *line) spared() bool      { return l.isHit() || l.isCollapsed() }

// parse reads an access line; false is another line.
func parse(text []byte) (*line, bool) {
	l, isRequest := new(line), false
	set := func(name, value string) {
		if name == "msg" {
			isRequest = value == "request"
		}
		l.set(name, value)
	}
	if at := bytes.Index(text, []byte(`{"time":`)); at >= 0 {
		if !eachJSON(text[at:], set) {
			return nil, false
		}
	} else if at := bytes.Index(text, []byte("time=")); at < 0 || !eachText(string(text[at:]), set) {
		return nil, false
	}
	return l, isRequest && l.upstream != "" && l.method != "" && !l.end.IsZero()
}

// maxText bounds what is kept of a value, bytes.
const maxText = 256

// set keeps a value, where it is one that is read.
func (l *line) set(name, value string) {
	switch name {
	case "time":
		l.end, _ = time.Parse(time.RFC3339Nano, value) // zero is refused
	case "upstream":
		keep(&l.upstream, value)
	case "verb":
		keep(&l.verb, value)
	case "method":
		keep(&l.method, value)
	case "tool":
		keep(&l.tool, value)
	case "agent":
		keep(&l.agent, value)
	case "session":
		keep(&l.session, value)
	case "outcome":
		keep(&l.outcome, value)
	case "reason":
		keep(&l.reason, value)
	case "cache":
		keep(&l.cache, value)
	default:
		l.setNumber(name, value)
	}
}

func (l *line) setNumber(name, value string) {
	integers := func(n *int64) { *n, _ = strconv.ParseInt(value, 10, 64) } // 0 is not known
	times := func(d *time.Duration) {
		if ms, err := strconv.ParseFloat(value, 64); err == nil && ms >= 0 && ms < 1e12 {
			*d = time.Duration(ms * float64(time.Millisecond))
		}
	}
	switch name {
	case "status":
		integers(&l.status)
	case "in":
		integers(&l.in)
	case "out":
		integers(&l.out)
	case "took_ms":
		times(&l.took)
	case "connect_ms":
		times(&l.connect)
	case "answered_ms":
		times(&l.atServer)
	}
}

// keep copies a text, so that what is remembered of a line does not hold all of it.
func keep(to *string, value string) { *to = strings.Clone(value[:min(len(value), maxText)]) }

// eachJSON reads a line of --log-format json. What comes after it is not looked at.
func eachJSON(text []byte, set func(name, value string)) bool {
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&members) != nil {
		return false
	}
	for name, value := range members {
		switch v := value.(type) {
		case string:
			set(name, v)
		case json.Number:
			set(name, v.String())
		}
	}
	return true
}

// eachText reads a line of --log-format text: name=value, values quoted as Go does where they need it.
func eachText(text string, set func(name, value string)) bool {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, " ") {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			return false
		}
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return false
			}
			value, err := strconv.Unquote(quoted)
			if err != nil {
				return false
			}
			set(name, value)
			text = rest[len(quoted):]
			continue
		}
		value, after, _ := strings.Cut(rest, " ")
		set(name, value)
		text = after
	}
	return true
}
