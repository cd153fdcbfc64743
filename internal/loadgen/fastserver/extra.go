package fastserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Extra are tools of a server beside its own, which do something. Their arguments are not looked at.
type Extra struct {
	Path  string // the only one under which HTTP reaches them: a secret, where nobody else may
	Names []string
	// Run runs one of them until ctx ends, and returns the text of its result. It is called from several goroutines. An error is a
	// result with isError.
	Run func(ctx context.Context, name string) (text string, err error)
}

func (e *Extra) has(name string) bool { return slices.Contains(e.Names, name) }

// ExtraResult returns the result of an extra tool that gives a text.
func ExtraResult(text string) string {
	quoted, _ := json.Marshal(text) // a string is never refused
	return fmt.Sprintf(`{"resultType":"complete","content":[{"type":"text","text":%s}]}`, quoted)
}

// appendExtra runs a tool and appends the answer to its call.
func (s *Server) appendExtra(out []byte, name string, id []byte) []byte {
	text, err := s.extra.Run(s.ctx, name)
	result := ExtraResult(text)
	if err != nil {
		quoted, _ := json.Marshal(name + ": " + err.Error())
		result = fmt.Sprintf(`{"resultType":"complete","isError":true,"content":[{"type":"text","text":%s}]}`, quoted)
	}
	return fmt.Appendf(out, "%s%s%s%s}", open, id, middle, result)
}

// appendList appends the answer to tools/list.
func (e *Extra) appendList(out, id []byte) []byte {
	out = fmt.Appendf(out, `%s%s%s{"resultType":"complete","tools":[`, open, id, middle)
	for i, name := range e.Names {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `{"name":%q,"description":"Does the same every time.","inputSchema":{"type":"object"}}`, name)
	}
	return fmt.Appendf(out, `],"ttlMs":%s,"cacheScope":"public"}}`, listTTL)
}
