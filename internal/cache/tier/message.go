package tier

import (
	"crypto/rand"
	"slices"
)

// Sender names one daemon in the messages of a shared tier, by which it knows its own when they come back. It is random.
type Sender [8]byte

// NewSender makes a Sender.
func NewSender() (s Sender) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

const (
	messageFormat = 3 // the first byte; then the sender and the generations
	messageHead   = 1 + len(Sender{})
)

// messageBytes is how long the message of so many generations is.
func messageBytes(generations int) int { return messageHead + generations*len(Generation{}) }

// Message says that these generations have been bumped, for a shared tier to carry to the other daemons.
func (s Sender) Message(generations []Generation) []byte {
	m := append(make([]byte, 0, messageBytes(len(generations))), messageFormat)
	m = append(m, s[:]...)
	for i := range generations {
		m = append(m, generations[i][:]...)
	}
	return m
}

// Parse reads a message. It returns nothing of one of its own, whose generations this daemon has bumped before it told the
// tier. It is not ok where it is no message, or one in another format.
func (s Sender) Parse(message []byte) (generations []Generation, ok bool) {
	if len(message) <= messageHead || message[0] != messageFormat || (len(message)-messageHead)%len(Generation{}) != 0 {
		return nil, false
	}
	if Sender(message[1:messageHead]) == s {
		return nil, true
	}
	for g := range slices.Chunk(message[messageHead:], len(Generation{})) {
		generations = append(generations, Generation(g))
	}
	return generations, true
}
