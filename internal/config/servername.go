package config

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// claimUsable takes the name of an entry, or the nearest one that can be a name here and is free.
func (s *servers) claimUsable(name string, at key) string {
	usable, why := usableName(name), "a name may have only a-z, A-Z, 0-9, '.', '_' and '-', 64 of them, not '.' first"
	free := usable
	if where, taken := s.names[usable]; taken {
		free, why = s.numbered(usable), fmt.Sprintf("%s is the one at %s", usable, where)
	}
	if free != name {
		s.d.warn(at, "is served as %s: %s", free, why)
	}
	s.names[free] = s.d.place(at)
	return free
}

// numbered returns the first of name-2, name-3 and so on that is free.
func (s *servers) numbered(name string) string {
	for n := max(2, s.suffixes[name]); ; n++ {
		suffix := "-" + strconv.Itoa(n)
		free := name[:min(len(name), maxName-len(suffix))] + suffix
		if _, taken := s.names[free]; !taken {
			s.suffixes[name] = n
			return free
		}
	}
}

var notInName = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// usableName returns a name that an upstream can have: name itself, or what is left when each run of other characters is
// a '-'.
func usableName(name string) string {
	if upstreamName.MatchString(name) {
		return name
	}
	usable := strings.TrimLeft(strings.Trim(notInName.ReplaceAllString(name, "-"), "-"), ".-")
	return cmp.Or(usable[:min(len(usable), maxName)], "server")
}
