package cache

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// Change names one change, so that who hears of it from two tiers knows that it is one. It is random, below 1<<63, and 0
// where the change has no name: then it is passed on to no other tier.
type Change uint64

// News is a generation that becomes old, and the change that makes it old.
type News struct {
	Generation Generation
	Change     Change
	Passed     bool // by a daemon that heard of it from another tier, or of this tier's alone: it need not be passed on
}

// Teller is a tier that tells the other daemons by name what has changed. Tell is Bump of the news' generations; one may be
// there several times, by several changes. The others' Listeners hear the very news, after no entry of before is answered
// any more.
type Teller interface {
	Tell(ctx context.Context, news []News) error
}

const (
	newsSize   = len(Generation{}) + 8 // bytes of one piece of news: the generation, then name and Passed in 64 bits
	newsFormat = 2                     // the first byte of a message
)

// NewsBytes is how long a message with so many pieces of news is.
func NewsBytes(pieces int) int { return 1 + pieces*newsSize }

// AppendNews appends a message that says what has changed, for a shared tier to carry.
func AppendNews(dst []byte, news []News) []byte {
	dst = append(dst, newsFormat)
	for i := range news {
		n := &news[i]
		name := uint64(n.Change) << 1
		if n.Passed {
			name |= 1
		}
		dst = append(dst, n.Generation[:]...)
		dst = binary.BigEndian.AppendUint64(dst, name)
	}
	return dst
}

// ParseNews reads a message of AppendNews. It is not ok where it is none, or one in another format.
func ParseNews(message []byte) (news []News, ok bool) {
	if len(message) <= 1 || message[0] != newsFormat || (len(message)-1)%newsSize != 0 {
		return nil, false
	}
	for piece := range slices.Chunk(message[1:], newsSize) {
		name := binary.BigEndian.Uint64(piece[len(Generation{}):])
		news = append(news, News{Generation(piece[:len(Generation{})]), Change(name >> 1), name&1 != 0})
	}
	return news, true
}

// GenerationsOf are what the news make old, each once.
func GenerationsOf(news []News) []Generation {
	out := make([]Generation, 0, len(news))
	seen := make(map[Generation]struct{}, len(news))
	for i := range news {
		if _, ok := seen[news[i].Generation]; !ok {
			seen[news[i].Generation] = struct{}{}
			out = append(out, news[i].Generation)
		}
	}
	return out
}

func newChange() Change {
	for {
		if c := Change(rand.Uint64() >> 1); c != 0 {
			return c
		}
	}
}
