package config

import "path/filepath"

// unused is a key that is given, and what is said where it means nothing after all.
type unused struct {
	at   key
	when func(*Upstream) bool
	why  string
}

// What is said of keys that mean nothing. A warning and no fault: --shared says of an upstream what its entry did not know.
const (
	whenShared = "means nothing where sessions share a process: there is one, which is ready"
	notNPX     = "means nothing with a command that is not npx"
)

// unusedWhen notes a key that is given. Whether it means nothing is known when all flags are read.
func (u *Upstream) unusedWhen(when func(*Upstream) bool, why string) func(check) {
	return func(c check) {
		if c.given() && c.sound() {
			u.unused = append(u.unused, unused{c.key, when, why})
		}
	}
}

// warnOfUnused says which keys mean nothing.
func (l *loader) warnOfUnused() {
	for i := range l.config.Upstreams {
		u := &l.config.Upstreams[i]
		for _, one := range u.unused {
			if u.Stdio != nil && one.when(u) {
				one.at.warn("%s", one.why)
			}
		}
		u.unused = nil
	}
}

func (u *Upstream) isShared() bool { return u.Sessions.Mode == SessionsShared }

func (u *Upstream) isNotNPX() bool { return filepath.Base(u.Stdio.Command[0]) != "npx" }

func (u *Upstream) isUnresolved() bool { return !u.isNotNPX() && !u.Stdio.Resolve }
