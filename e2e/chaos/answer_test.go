// What is right in an answer, and what the daemon must never do.

package chaos

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// callResult is how one request ended for an agent. A fault is what the daemon must not have done; with one, nothing else counts.
type callResult struct {
	label  string // for the report: ok, left, an error's code and reason, a status
	result json.RawMessage
	code   int  // of the daemon's own error
	unsent bool // it says that the request was not sent
	fault  error
}

func faulted(format string, args ...any) callResult {
	return callResult{fault: fmt.Errorf(format, args...)}
}

func (v callResult) ok() bool { return v.label == "ok" }

// claim is what the result says of a side effect.
func (v callResult) claim() claim {
	switch {
	case v.fault == nil && v.ok():
		return claimDone
	case v.unsent:
		return claimUnsent
	}
	return claimNone
}

// judgeAnswer judges the answer to one request of an upstream. right, if it is not nil, checks a result.
func (u *chaosUpstream) judgeAnswer(raw []byte, id, who string, right func(json.RawMessage) error) callResult {
	var answer struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  *struct {
			Code int
			Data struct {
				Source, Upstream, Reason, Sent, RequestID, Seal string
			}
		}
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return faulted("not an answer: %.200q", raw)
	}
	if string(answer.ID) != id {
		return faulted("the answer to %s has the id %s: %.300s", id, answer.ID, raw)
	}
	if answer.Error == nil {
		if answer.Result == nil {
			return faulted("neither result nor error: %.300s", raw)
		}
		if right != nil {
			if err := right(answer.Result); err != nil {
				return faulted("made up or crossed: %w: %.300s", err, raw)
			}
		}
		return callResult{label: "ok", result: answer.Result}
	}
	e, d := answer.Error, &answer.Error.Data
	if d.Source == "" {
		if d.Seal != u.seal("error", who) {
			return faulted("an error that is not the server's: %.300s", raw)
		}
		return callResult{label: fmt.Sprint("rpc ", e.Code)}
	}
	known := slices.Contains([]int{1410, 1429, 1502, 1503, 1504}, e.Code)
	if d.Source != "fluentd-perf" || d.Upstream != u.name || d.Reason == "" || d.RequestID == "" || !known ||
		!slices.Contains([]string{"no", "yes", "unknown"}, d.Sent) || e.Code == 1410 && d.Sent != "no" {
		return faulted("an error that cannot be: %.300s", raw)
	}
	return callResult{label: fmt.Sprintf("%d %s, sent %s", e.Code, d.Reason, d.Sent), code: e.Code, unsent: d.Sent == "no"}
}

// judgeStream judges a POST stream: notices for who asked, then one answer, then nothing.
func (u *chaosUpstream) judgeStream(body, id, who string, right func(json.RawMessage) error) callResult {
	var last []byte
	for _, data := range eventData(body) {
		if last != nil {
			return faulted("something after the answer to %s: %.500q", id, body)
		}
		if !isNotification(data) {
			last = data
		} else if !strings.Contains(string(data), u.seal("notice", who)) {
			return faulted("a notice for somebody else: %.300s", data)
		}
	}
	if last == nil {
		return faulted("a stream without the answer to %s: %.500q", id, body)
	}
	return u.judgeAnswer(last, id, who, right)
}

// judgeStatus judges an answer whose status is not 200: it must be the server's.
func (u *chaosUpstream) judgeStatus(status int, body string) callResult {
	switch {
	case status == 503 && body == "busy "+u.seal("busy"):
	case status == 404 && u.kind == "sessions": // the server's, or the daemon's word that the session cannot be had again
	default:
		return faulted("HTTP %d: %.300q", status, body)
	}
	return callResult{label: fmt.Sprint("HTTP ", status)}
}

func isNotification(message []byte) bool {
	var m struct{ Method string }
	return json.Unmarshal(message, &m) == nil && m.Method != ""
}

// eventData is the data of each event of a whole stream. No server of the chaos run writes data of more than one line.
func eventData(body string) (data [][]byte) {
	for line := range strings.Lines(body) {
		if text, ok := strings.CutPrefix(line, "data: "); ok && strings.TrimSpace(text) != "" {
			data = append(data, []byte(strings.TrimSpace(text)))
		}
	}
	return data
}

// The checks of results: each is what only the server can know.

func (u *chaosUpstream) rightList(who string) func(json.RawMessage) error {
	return u.rightText(func(result []byte) []string {
		var r struct{ Tools []struct{ Name string } }
		_ = json.Unmarshal(result, &r)
		names := []string{}
		for _, tool := range r.Tools {
			names = append(names, tool.Name)
		}
		return names
	}, "work", "of-"+who+"-"+u.seal("list", who))
}

func (u *chaosUpstream) rightRead(uri, who string) func(json.RawMessage) error {
	want := u.seal("read", uri, who)
	if strings.HasPrefix(uri, "item:") {
		want = u.seal("read", uri)
	}
	return u.rightText(func(result []byte) []string {
		var r struct{ Contents []struct{ URI, Text string } }
		_ = json.Unmarshal(result, &r)
		texts := []string{}
		for _, content := range r.Contents {
			texts = append(texts, content.URI, content.Text)
		}
		return texts
	}, uri, want)
}

func (u *chaosUpstream) rightWork(token, who string) func(json.RawMessage) error {
	return u.rightText(func(result []byte) []string {
		var r struct{ Content []struct{ Text string } }
		_ = json.Unmarshal(result, &r)
		texts := []string{}
		for _, content := range r.Content {
			texts = append(texts, content.Text)
		}
		return texts
	}, u.seal("work", token, who))
}

// rightPlain checks a result of a plain server's.
func (u *chaosUpstream) rightPlain(parts ...string) func(json.RawMessage) error {
	return u.rightText(func(result []byte) []string {
		var text string
		_ = json.Unmarshal(result, &text)
		return []string{text}
	}, u.seal(parts...))
}

func (u *chaosUpstream) rightInitialize(who string) func(json.RawMessage) error {
	return u.rightText(func(result []byte) []string {
		var r struct{ Instructions string }
		_ = json.Unmarshal(result, &r)
		return []string{r.Instructions}
	}, u.seal("initialize", who))
}

func (u *chaosUpstream) rightText(texts func(result []byte) []string, want ...string) func(json.RawMessage) error {
	return func(result json.RawMessage) error {
		if got := texts(result); !slices.Equal(got, want) {
			return fmt.Errorf("%q instead of %q", got, want)
		}
		return nil
	}
}
