package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// blob is what one call asks for. Every n has an answer of its own, which both sides can work out.
type blob struct {
	N    int  `json:"n"`
	Size int  `json:"size"` // bytes of text in the answer
	SSE  bool `json:"sse"`
}

// maxBlob bounds the size of a text, in bytes.
const maxBlob = 8 << 20

// noise is the text of which all others are parts. It takes a quarter of a second to make, and most peers need none.
var noise = sync.OnceValue(makeNoise)

func makeNoise() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 2*maxBlob)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// text returns the call's text: no two calls near each other have the same one.
func (b blob) text() string {
	const prime = 7919
	at := b.N * prime % maxBlob
	return noise()[at : at+b.Size]
}

// answer returns the whole JSON-RPC answer to a call with that id.
func (b blob) answer(id string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":{"content":[{"type":"text","text":"` + b.text() + `"}]}}`
}

// progress returns a notification that belongs to the call.
func (b blob) progress() string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%d,"progress":1}}`, b.N)
}

// idOf returns the id of the n-th call: every kind of id that JSON allows and that a careless hop changes.
func idOf(n int) string {
	switch n % 8 {
	case 0:
		return fmt.Sprint(1<<53 + 1 + n)
	case 1:
		return fmt.Sprintf("%d.0", n)
	case 2:
		return fmt.Sprintf(`"\u0061\"\\\/\n\ud83d\ude00 %d"`, n)
	case 3:
		return fmt.Sprint(-n)
	case 4:
		return fmt.Sprintf("%de+400", n)
	case 5:
		return fmt.Sprintf("%d.5E-30", n)
	case 6:
		return fmt.Sprintf(`"é%d"`, n)
	}
	return fmt.Sprintf(`"%d"`, n)
}

// request returns the request of the n-th call.
func (b blob) request() string {
	sse := "false"
	if b.SSE {
		sse = "true"
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"blob","arguments":{"n":%d,"size":%d,"sse":%s}}}`,
		idOf(b.N), b.N, b.Size, sse)
}
