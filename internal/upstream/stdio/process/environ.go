package process

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// passed are the variables that every server gets, as patterns of path.Match. What else a person has in the environment is
// often a credential, and no server's business.
var passed = []string{
	"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "TMPDIR", "LANG", "LC_*", "TZ", "XDG_*",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "NVM_DIR", "UV_*",
}

// secrets are names of credentials. What the patterns of passed let through is left out by them.
var secrets = []string{"*_TOKEN", "*_KEY", "*_SECRET", "*_PASSWORD", "*_USERNAME", "*_CREDENTIALS"}

// passedTo are what package runners get besides: how they reach their registries, their credentials there included. What a runner
// starts gets it too.
var passedTo = map[string][]string{
	"npm": {"npm_config_*", "NPM_CONFIG_*"}, "npx": {"npm_config_*", "NPM_CONFIG_*"},
	"uv": {"UV_INDEX_*"}, "uvx": {"UV_INDEX_*"},
}

// needed are names by which programs find credentials: where one is left out, that may be why a server fails.
var needed = slices.Concat(secrets, []string{
	"AWS_*", "AZURE_*", "GOOGLE_*", "GCLOUD_*", "KUBECONFIG", "DATABASE_URL", "DOCKER_HOST", "SSH_AUTH_SOCK",
})

// passing are variables that change with each login. They are no part of an identity.
var passing = []string{"TERM", "XDG_SESSION_*", "XDG_SEAT", "XDG_SEAT_PATH", "XDG_VTNR", "XDG_ACTIVATION_TOKEN"}

// Environment is what a server gets of the daemon's environment, and why.
type Environment struct {
	All     []string // NAME=value, sorted, a name once: the server's environment
	Lasting []string // All without what changes with each login: for Identity
	LeftOut []string // names like those of credentials that the daemon has and the server does not get, sorted
}

// NewEnvironment chooses: from the daemon's the usual variables, and those that inherit names (a name or a pattern like
// AWS_*), then the entry's own, which win. command decides what only package runners get.
func NewEnvironment(daemon []string, command string, inherit, own []string) Environment {
	named := slices.Concat(inherit, passedTo[filepath.Base(command)])
	chosen, lasting := map[string]string{}, map[string]string{}
	var leftOut []string
	for name, value := range variables(daemon) {
		switch {
		case name == guard.MarkName: // of a guard above this daemon
		case matches(named, name), matches(passed, name) && !matches(secrets, name):
			chosen[name] = value
			if !matches(passing, name) {
				lasting[name] = value
			}
		case matches(passing, name): // XDG_ACTIVATION_TOKEN, which no server misses
		case matches(needed, name):
			leftOut = append(leftOut, name)
		}
	}
	for name, value := range variables(own) {
		chosen[name], lasting[name] = value, value
		leftOut = slices.DeleteFunc(leftOut, func(left string) bool { return left == name })
	}
	slices.Sort(leftOut)
	return Environment{All: sorted(chosen), Lasting: sorted(lasting), LeftOut: leftOut}
}

// variables reads NAME=value words; of equal names the last counts, as for most programs.
func variables(words []string) map[string]string {
	all := map[string]string{}
	for _, word := range words {
		if name, value, ok := strings.Cut(word, "="); ok && name != "" {
			all[name] = value
		}
	}
	return all
}

func sorted(variables map[string]string) []string {
	words := make([]string, 0, len(variables))
	for name, value := range variables {
		words = append(words, name+"="+value)
	}
	slices.Sort(words)
	return words
}

// matches reports whether a name is one of the patterns of path.Match. A slash is a character like others here: npm reads names
// like npm_config_//registry.example.com/:_authToken.
func matches(patterns []string, name string) bool {
	plain := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") } // which no name has
	name = plain(name)
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(plain(pattern), name) // a pattern that is none matches nothing
		return ok
	})
}

// Identity names what would start: entries with the same command, directory and environment have the same, and no others. It
// is a digest that shows none of them.
func Identity(command []string, dir string, env []string) string {
	digest := sha256.New()
	env = slices.Sorted(slices.Values(env))
	for _, list := range [][]string{command, {dir}, env} {
		_ = binary.Write(digest, binary.BigEndian, uint64(len(list)))
		for _, word := range list {
			_ = binary.Write(digest, binary.BigEndian, uint64(len(word)))
			digest.Write([]byte(word))
		}
	}
	return hex.EncodeToString(digest.Sum(nil))
}
