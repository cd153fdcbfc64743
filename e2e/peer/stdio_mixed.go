package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

// mixed is a server with state that also speaks first: how often it was called, and the call that waits for its agent's roots.
type mixed struct {
	calls   int
	id      json.RawMessage
	text    string
	waiting bool
}

// mixedMessage is what it reads.
type mixedMessage struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Name      string
		Arguments struct{ Text string }
		Meta      struct{ ProgressToken json.RawMessage } `json:"_meta"`
	}
	Result json.RawMessage
}

// serveMixed answers until its stdin ends. What it sends by itself has the call's text, and its requests have one id in all processes.
func serveMixed() {
	s, lines := &mixed{}, bufio.NewScanner(os.Stdin)
	for lines.Buffer(nil, 1<<20); lines.Scan(); {
		var m mixedMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			syscall.Exit(9)
		}
		switch {
		case m.Method == "initialize":
			answerWith(m.ID, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"logging":{}},"serverInfo":{"name":"mixed","version":"1"}}`)
		case m.Method == "" && s.waiting:
			s.waiting = false
			s.answer(m.Result)
		case m.Method == "tools/call":
			s.call(m)
		}
	}
}

func (s *mixed) call(m mixedMessage) {
	s.calls++
	s.id, s.text = m.ID, m.Params.Arguments.Text
	switch m.Params.Name {
	case "progress":
		for n := range 3 {
			fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"message":%q}}`+"\n", m.Params.Meta.ProgressToken, n, s.text)
		}
	case "log":
		fmt.Printf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":%q}}`+"\n", s.text)
	case "ask":
		fmt.Printf(`{"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"_meta":{"text":%q}}}`+"\n", s.text)
		s.waiting = true
		return
	}
	s.answer(json.RawMessage("null"))
}

func (s *mixed) answer(roots json.RawMessage) {
	answerWith(s.id, fmt.Sprintf(`{"pid":%d,"calls":%d,"text":%q,"asked":%s}`, os.Getpid(), s.calls, s.text, roots))
}
