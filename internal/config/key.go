package config

import (
	"regexp"
	"strconv"
)

// key is the full path of a value, where it stands, and who reads it.
type key struct {
	by   *decoder
	path string
	line int
}

func (at key) child(name string, line int) key {
	name = quoteName(name)
	if at.path != "" {
		name = at.path + "." + name
	}
	return key{at.by, name, line}
}

func (at key) item(i, line int) key { return key{at.by, at.path + "[" + strconv.Itoa(i) + "]", line} }

// quoteName returns a name as it is in a path: quoted where it is not plain, and cut where it is too long to read.
func quoteName(name string) string {
	name = cut(name)
	if !plainName.MatchString(name) {
		return strconv.Quote(name)
	}
	return name
}

// plainName is a name that can be told from its surroundings.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9_$/-]+$`)
