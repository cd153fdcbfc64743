package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
)

// answerPlain answers a JSON-RPC request, or an array of them. Odd, it answers an array out of order, leaves answers out,
// gives one twice and one to an id that nobody asked with.
func (f *faulty) answerPlain(spoil spoil, who string, body []byte) answer {
	var array []message
	if err := json.Unmarshal(body, &array); err != nil {
		var single message
		if err := json.Unmarshal(body, &single); err != nil {
			return text(http.StatusBadRequest, "not JSON-RPC")
		}
		return jsonAnswer(f.element(&single, who))
	}
	var answers []string
	for i := range array {
		if a := f.element(&array[i], who); a != "" {
			answers = append(answers, a)
		}
	}
	if spoil == odd {
		answers = oddly(answers)
	}
	if len(answers) == 0 {
		return jsonAnswer("")
	}
	return jsonAnswer("[" + strings.Join(answers, ",") + "]")
}

func jsonAnswer(body string) answer {
	if body == "" {
		return answer{status: http.StatusNoContent}
	}
	return answer{status: http.StatusOK, content: "application/json", body: body}
}

// element does one request and returns the answer, "" for a notification.
func (f *faulty) element(m *message, who string) string {
	p := &m.Params
	if p.As != who {
		f.note("! %s of %s came with the credential of %q", m.Method, p.As, who)
	}
	outcome := ""
	switch m.Method {
	case "get":
		outcome = fmt.Sprintf(`"result":%q`, f.seal("get", p.Key, who))
	case "work":
		f.note("%s", p.Token)
		outcome = fmt.Sprintf(`"result":%q`, f.seal("work", p.Token, who))
	default:
		outcome = fmt.Sprintf(`"error":{"code":-32601,"message":"no such method","data":{"seal":%q}}`, f.seal("error", who))
	}
	if m.ID == nil {
		return ""
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, outcome)
}

func oddly(answers []string) []string {
	if len(answers) == 0 {
		return nil
	}
	rand.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
	stranger := `{"jsonrpc":"2.0","id":"nobody","result":"nobody's"}`
	return append(answers[1:], answers[len(answers)-1], stranger)
}
