package npx

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestParse holds which commands are understood.
func TestParse(t *testing.T) {
	for command, want := range map[string]string{
		"npx pkg":                               "pkg  [] false",
		"npx -y pkg":                            "pkg  [] true",
		"/opt/node/bin/npx --yes pkg@1.2.3 a b": "pkg@1.2.3  [a b] true",
		"npx -y @s/pkg -y --flag":               "@s/pkg  [-y --flag] true",
		"npx -y -- pkg@latest -- x":             "pkg@latest  [-- x] true",
		"npx -p pkg cmd -x":                     "pkg cmd [-x] false",
		"npx --package @s/pkg@^1 -y cmd":        "@s/pkg@^1 cmd [] true",
		"npx --package=pkg@>=1.0.0 -- cmd":      "pkg@>=1.0.0 cmd [] false",
		"npx -p=pkg cmd":                        "pkg cmd [] false",

		"node x.js":                   "!",
		"bunx pkg":                    "!",
		"npx":                         "!it names no program",
		"npx -y":                      "!it names no program",
		"npx -p pkg":                  "!it names no program",
		"npx -p":                      "!its flag -p has no value",
		"npx -p a -p b c":             "!it names 2 packages",
		"npx -c ls":                   "!its flag -c is not known here",
		"npx --yes=false pkg":         "!its flag --yes is not known here",
		"npx --registry=http://x pkg": "!its flag --registry is not known here",
		"npx --prefix /x pkg":         "!its flag --prefix is not known here",
		"npx -y ./pkg":                "!\"./pkg\" is no plain package",
		"npx -y /abs/pkg":             "!\"/abs/pkg\" is no plain package",
		"npx -y pkg.tgz":              "!\"pkg.tgz\" is no plain package",
		"npx -y user/repo":            "!\"user/repo\" is no plain package",
		"npx -y github:user/repo":     "!\"github:user/repo\" is no plain package",
		"npx -y https://h/x.tgz":      "!\"https://h/x.tgz\" is no plain package",
		"npx -y pkg@npm:other@1":      "!\"pkg@npm:other@1\" is no plain package",
		"npx -y pkg@file:../x":        "!\"pkg@file:../x\" is no plain package",
		"npx -y pkg@user/repo":        "!\"pkg@user/repo\" is no plain package",
		"npx -y pkg@./x":              "!\"pkg@./x\" is no plain package",
		"npx -y pkg@":                 "!\"pkg@\" is no plain package",
		"npx -y @s":                   "!\"@s\" is no plain package",
		"npx -y ../../etc":            "!\"../../etc\" is no plain package",
		"npx -p pkg ../bin/sh":        "!\"../bin/sh\" is no name of a program",
	} {
		r, err := parse(strings.Fields(command))
		got := fmt.Sprint(r, " ", r.program, " ", r.args, " ", r.yes)
		if written := new(AsWritten); errors.As(err, &written) {
			got = "!" + written.Reason
		}
		if got != want && (want[0] != '!' || want == "!" || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
	if r, err := parse([]string{"npx", "pkg@1.x || >=2 <3"}); err != nil || r.spec != "1.x || >=2 <3" {
		t.Errorf("a range with blanks: %+v, %v", r, err)
	}
	for spec, want := range map[string]bool{"1.2.3": true, "v1.2.3": true, "1.2.3-rc.1+b": true, "": false, "latest": false, "^1.2.3": false, "1.2": false, "1": false, "1.2.3 || 2": false} {
		if got := (request{spec: spec}).pinned(); got != want {
			t.Errorf("%q is one version: %v", spec, got)
		}
	}
}

// TestUnpinned: which packages may be another program tomorrow.
func TestUnpinned(t *testing.T) {
	for command, want := range map[string]string{
		"npx -y pkg":                          "pkg",
		"npx -y pkg@1.2.3 @s/other":           "",
		"npx -y @s/pkg@latest":                "@s/pkg@latest",
		"npx -p a@1.0.0 -p b@^1 c":            "b@^1",
		"npx --quiet pkg":                     "",
		"npx -y ./here":                       "",
		"npx":                                 "",
		"uvx ruff":                            "ruff",
		"uvx ruff@latest":                     "ruff@latest",
		"uvx ruff@0.3.0 check":                "",
		"uvx --from ruff==0.3.0 ruff":         "",
		"uvx --from=ruff>=0.3.0 ruff":         "ruff>=0.3.0",
		"uvx --python 3.12 --with x mcp[cli]": "mcp[cli]",
		"uvx mcp[cli]==1.0":                   "",
		"uvx --from git+https://h/x x":        "",
		"uvx ./here":                          "",
		"uvx -q":                              "",
		"uvx ruff@git+https://h/x":            "",
		"node x.js":                           "",
	} {
		if got := strings.Join(Unpinned(strings.Fields(command)), " "); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// TestChoose holds which program of a package npx runs.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		bin        map[string]string
		want, says string
	}{
		{map[string]string{"other": "x.js"}, "other", ""},
		{map[string]string{"b": "x.js", "a": "./x.js"}, "a", ""},
		{map[string]string{"a": "x.js", "pkg": "y.js"}, "pkg", ""},
		{map[string]string{"a": "x.js", "b": "y.js"}, "", "has the programs a, b and none of its own name"},
		{nil, "", "has no program"},
	} {
		if got, err := choose(c.bin, "@s/pkg"); got != c.want || (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %q, %v", c.bin, got, err)
		}
	}
}
