package mcp

import (
	"bytes"
	"net/http"
	"strconv"
)

// IsCancel reports whether the call is the cancellation of a legacy request (2025-11-25, basic/utilities/cancellation).
func (c *Call) IsCancel() bool {
	return c.Lane == LaneNotification && c.Method() == MethodCancelled && c.Message.Kind == KindNotification
}

// IsPlain reports whether a cancellation reads in one way: the daemon may answer it itself, or put another id into it.
func (m *Message) IsPlain() bool { return !m.Ambiguous && !m.Loose }

// CancelKey returns under what a legacy request with that id can be cancelled by whoever sent the call: its session, or else
// its partition, and the id; "" where it cannot be. Equal ids, as SameID has it, make equal keys. A nil partition is that
// of nobody.
func CancelKey(c *Call, id []byte, partition func(*Call) [32]byte) string {
	if c.Era != EraLegacy || isNullID(id) {
		return ""
	}
	whose := ""
	switch session, fields := c.Header.Find("Mcp-Session-Id"); {
	case fields > 1:
		return ""
	case session != "":
		whose = session
	case partition == nil:
		return ""
	default:
		p := partition(c)
		whose = "\n" + string(p[:])
	}
	return whose + "\n" + idKey(id)
}

// idKey returns one spelling for all ids that are the same.
func idKey(id []byte) string {
	if text, ok := Text(id); ok {
		return `"` + text
	}
	n, ok := decimalOf(id)
	if !ok {
		return "=" + string(id)
	}
	sign := ""
	if n.negative {
		sign = "-"
	}
	return sign + string(bytes.ReplaceAll(n.digits, []byte("."), nil)) + "e" + strconv.FormatInt(n.exp, 10)
}

// Accepted is what a request gets that its agent has cancelled, and a notification that had nowhere to go.
func Accepted() *Result { return &Result{Status: http.StatusAccepted} }
