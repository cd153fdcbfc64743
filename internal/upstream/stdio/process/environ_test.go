package process

import (
	"slices"
	"strings"
	"testing"
)

// TestEnvironment holds what a server gets of the daemon's environment, and what check is told that it does not get.
func TestEnvironment(t *testing.T) {
	daemon := strings.Fields("HOME=/h PATH=/bin TERM=xterm LC_ALL=C XDG_RUNTIME_DIR=/run/u XDG_SESSION_ID=7 https_proxy=p UV_CACHE_DIR=/u " +
		"npm_config_registry=r GITHUB_TOKEN=t AWS_REGION=eu AWS_PROFILE=x EDITOR=vi FLUENTD_PERF_GUARD=old OPENAI_API_KEY=k HOMEBREW=b PATH=/usr/bin")
	for name, c := range map[string]struct {
		command      string
		inherit, own []string
		want         string // without what every one of them has
		lasting      string
		leftOut      string
	}{
		"nothing":  {"node", nil, nil, "", "", "AWS_PROFILE AWS_REGION GITHUB_TOKEN OPENAI_API_KEY"},
		"npx":      {"/usr/bin/npx", nil, nil, "npm_config_registry=r", "npm_config_registry=r", "AWS_PROFILE AWS_REGION GITHUB_TOKEN OPENAI_API_KEY"},
		"inherits": {"node", []string{"AWS_*", "EDITOR"}, nil, "AWS_PROFILE=x AWS_REGION=eu EDITOR=vi", "AWS_PROFILE=x AWS_REGION=eu EDITOR=vi", "GITHUB_TOKEN OPENAI_API_KEY"},
		"has its own": {"node", nil, []string{"GITHUB_TOKEN=mine", "EMPTY=", "no-value", "=x"}, "EMPTY= GITHUB_TOKEN=mine", "EMPTY= GITHUB_TOKEN=mine",
			"AWS_PROFILE AWS_REGION OPENAI_API_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			e := NewEnvironment(daemon, c.command, c.inherit, c.own)
			lasting := strings.Fields("HOME=/h LC_ALL=C PATH=/usr/bin UV_CACHE_DIR=/u XDG_RUNTIME_DIR=/run/u https_proxy=p " + c.lasting)
			all := slices.Concat(lasting, strings.Fields("TERM=xterm XDG_SESSION_ID=7"))
			same(t, "all", e.All, all)
			same(t, "lasting", e.Lasting, lasting)
			same(t, "left out", e.LeftOut, strings.Fields(c.leftOut))
		})
	}
	if e := NewEnvironment(daemon, "node", nil, []string{"TERM=dumb"}); !slices.Contains(e.Lasting, "TERM=dumb") {
		t.Errorf("what the entry itself says is no part of what lasts: %q", e.Lasting)
	}
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestSecretsOfPatterns holds that a pattern brings no server a credential, and that package runners get what leads to their registries.
func TestSecretsOfPatterns(t *testing.T) {
	const (
		uv       = "UV_INDEX_PRIVATE_PASSWORD UV_INDEX_PRIVATE_USERNAME"
		npm      = "NPM_CONFIG_USERCONFIG npm_config_//registry.example.com/:_authToken npm_config__auth npm_config__password npm_config_registry"
		nobodys  = "UV_GITHUB_TOKEN UV_PUBLISH_PASSWORD UV_PUBLISH_TOKEN UV_PUBLISH_USERNAME"
		everyone = "HTTPS_PROXY UV_CACHE_DIR UV_INDEX_URL UV_KEYRING_PROVIDER http_proxy"
	)
	set := func(names ...string) (variables []string) {
		for _, name := range strings.Fields(strings.Join(names, " ")) {
			variables = append(variables, name+"=x")
		}
		return variables
	}
	daemon := set(uv, npm, nobodys, everyone, "XDG_ACTIVATION_TOKEN")
	for command, c := range map[string]struct {
		inherit []string
		gets    string
		leftOut string
	}{
		"node":         {nil, "", uv + " " + nobodys},
		"/opt/bin/npx": {nil, npm, uv + " " + nobodys},
		"npm":          {nil, npm, uv + " " + nobodys},
		"uvx":          {nil, uv, nobodys},
		"/opt/bin/uv":  {nil, uv, nobodys},
		"other":        {[]string{"UV_PUBLISH_*", "npm_config_*"}, "UV_PUBLISH_PASSWORD UV_PUBLISH_TOKEN UV_PUBLISH_USERNAME " + strings.TrimPrefix(npm, "NPM_CONFIG_USERCONFIG "), uv + " UV_GITHUB_TOKEN"},
	} {
		e := NewEnvironment(daemon, command, c.inherit, nil)
		same(t, command, e.All, set(everyone, c.gets))
		same(t, command+": left out", e.LeftOut, strings.Fields(c.leftOut))
	}
}

// TestIdentity holds what makes a server another one.
func TestIdentity(t *testing.T) {
	one := Identity([]string{"node", "a b"}, "/x", []string{"A=1", "B=2"})
	if again := Identity([]string{"node", "a b"}, "/x", []string{"B=2", "A=1"}); one != again || len(one) != 64 {
		t.Errorf("got %q and %q", one, again)
	}
	for name, other := range map[string]string{
		"argument":   Identity([]string{"node", "a", "b"}, "/x", []string{"A=1", "B=2"}),
		"directory":  Identity([]string{"node", "a b"}, "/y", []string{"A=1", "B=2"}),
		"variable":   Identity([]string{"node", "a b"}, "/x", []string{"A=1", "B=3"}),
		"fewer":      Identity([]string{"node", "a b"}, "/x", []string{"A=1"}),
		"moved word": Identity([]string{"node"}, "a b", []string{"/x", "A=1", "B=2"}),
	} {
		if other == one {
			t.Errorf("another %s is the same server", name)
		}
	}
}
