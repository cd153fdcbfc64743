package npx

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/safefile"
)

// settings are what npm says of itself, in an environment. They hold until one of the files changes that they come from, and are
// remembered in a file, since asking takes most of a second.
type settings struct {
	Format   int               `json:"format"`
	Stamps   map[string]string `json:"stamps"` // of the files, by path
	Reason   string            `json:"reason"` // why its packages are not resolved, ""
	AsksNo   bool              `json:"asksNo"` // yes=false: without -y nothing is installed
	Prefix   string            `json:"prefix"` // of global packages
	User     string            `json:"user"`   // the person's .npmrc
	Named    []string          `json:"named"`  // variables that its files refer to
	Platform string            `json:"platform"`
	Digest   string            `json:"digest"` // of what decides which files an install has
}

const (
	settingsFormat = 1
	settingsPrefix = "npm-"  // of the names of files of settings
	maxSettings    = 1 << 20 // bytes of a file of settings, and of an .npmrc
	leastNPM       = 7       // the first version of npm that npx is a part of
)

// decisive are the settings of npm that change what an install of the same version is, registries aside.
var decisive = []string{
	"omit", "include", "only", "production", "optional", "dev", "ignore-scripts", "before", "min-release-age", "tag", "os", "cpu", "libc",
	"legacy-peer-deps", "strict-peer-deps", "install-strategy", "legacy-bundling", "global-style", "prefer-dedupe", "bin-links",
}

// strange are settings with which npx does something else than to run a package, or `npm install` something else than to install one,
// each with the value that it has to have.
var strange = map[string]string{
	"call": `""`, "package": `[]`, "workspace": `[]`, "workspaces": `null`, "global": `false`, "location": `"user"`, "node-options": `null`,
	"script-shell": `null`,
}

// ask runs npm and node to learn the settings. The error is of what could not be run or read.
func (r *Resolver) ask(ctx context.Context, t tools, e *EntryOptions) (*settings, error) {
	const tellNode = `JSON.stringify([process.versions.node, process.platform, process.arch])`
	said, err := r.run(ctx, e, t, "/", t.npm, "config", "list", "--json", "--logs-max=0")
	if err != nil {
		return nil, err
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(said, &values); err != nil {
		return nil, fmt.Errorf("what npm config list says: %w", err)
	}
	if said, err = r.run(ctx, e, t, "/", t.node, "-p", tellNode); err != nil {
		return nil, err
	}
	var node []string
	if err := json.Unmarshal(said, &node); err != nil || len(node) != 3 {
		return nil, fmt.Errorf("what node says of itself: %q", said)
	}
	return newSettings(values, node, t, e)
}

func newSettings(values map[string]json.RawMessage, node []string, t tools, e *EntryOptions) (*settings, error) {
	text := func(key string) (s string) {
		_ = json.Unmarshal(values[key], &s) // what is no text is not there
		return s
	}
	major, _, _ := strings.Cut(node[0], ".")
	s := &settings{
		Format: settingsFormat, Prefix: text("prefix"), User: text("userconfig"), AsksNo: string(values["yes"]) == "false",
		Platform: strings.Join([]string{major, node[1], node[2], libc(t.node)}, " "),
	}
	if s.Prefix == "" || s.User == "" {
		return nil, errors.New("npm config list names no prefix or no userconfig")
	}
	s.Reason = strangeReason(values, text("npm-version"), e.NPMEnv)
	s.Digest = installDigest(values)
	s.Stamps = map[string]string{}
	for _, path := range append(t.real(), s.User, text("globalconfig")) {
		s.Stamps[path] = stamp(path)
	}
	s.Named = append(variablesOf(s.User), variablesOf(text("globalconfig"))...)
	return s, nil
}

// strangeReason says which setting is in the way, or "".
func strangeReason(values map[string]json.RawMessage, version string, env []string) string {
	first, _, _ := strings.Cut(version, ".")
	if major, err := strconv.Atoi(first); err != nil || major < leastNPM {
		return fmt.Sprintf("npm %s is older than %d", version, leastNPM)
	}
	for _, key := range slices.Sorted(maps.Keys(strange)) {
		if value, usual := values[key], strange[key]; value != nil && string(value) != usual && string(value) != "null" {
			return fmt.Sprintf("npm's setting %s is not the usual one", key)
		}
	}
	if string(values["install-strategy"]) == `"linked"` {
		return "npm's install-strategy is linked"
	}
	for _, variable := range env { // which npm install refuses, and npx does not
		name, _, _ := strings.Cut(variable, "=")
		if strings.ReplaceAll(strings.ToLower(name), "-", "_") == "npm_config_allow_scripts" {
			return name + " is set"
		}
	}
	return ""
}

// installDigest is another one where an install may have other files: by the registries, and by what is installed for whom.
func installDigest(values map[string]json.RawMessage) string {
	digest := sha256.New()
	keys := make([]string, 0, len(values))
	for key := range values {
		if key == "registry" || strings.HasSuffix(key, ":registry") || slices.Contains(decisive, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		fmt.Fprintf(digest, "%q=%q\n", key, values[key])
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// reference is a variable in an .npmrc.
var reference = regexp.MustCompile(`\$\{([^}?]+)\??\}`)

// variablesOf returns the variables that an .npmrc refers to.
func variablesOf(path string) (names []string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	text, _, err := safefile.Read(real, maxSettings)
	if err != nil {
		return nil
	}
	for _, found := range reference.FindAllSubmatch(text, -1) {
		names = append(names, string(found[1]))
	}
	return names
}

// holds reports whether none of the files has changed.
func (s *settings) holds() bool {
	for path, was := range s.Stamps {
		if stamp(path) != was {
			return false
		}
	}
	return true
}

// settingsName is where the settings of tools in an environment are kept, in memory and on disk.
func settingsName(t tools, env []string) string {
	digest := sha256.New()
	fmt.Fprintf(digest, "%q\n", t.real())
	for _, variable := range slices.Sorted(slices.Values(env)) {
		if !strings.HasPrefix(variable, "PATH=") { // some shells have another one each time
			fmt.Fprintf(digest, "%q\n", variable)
		}
	}
	return settingsPrefix + hex.EncodeToString(digest.Sum(nil)[:16]) + ".json"
}

// known returns settings that hold, from memory or from disk; nil where there are none.
func (r *Resolver) known(name string) *settings {
	r.mu.Lock()
	s := r.settings[name]
	r.mu.Unlock()
	if s == nil && r.opts.Dir != "" {
		if text, _, err := safefile.Read(filepath.Join(r.opts.Dir, name), maxSettings); err == nil {
			read := new(settings)
			if json.Unmarshal(text, read) == nil && read.Format == settingsFormat {
				s = read
			}
		}
	}
	if s == nil || !s.holds() {
		return nil
	}
	r.remember(name, s)
	return s
}

func (r *Resolver) remember(name string, s *settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settings[name] = s
}

// learn asks npm and keeps what it says, for the next start of the daemon too.
func (r *Resolver) learn(ctx context.Context, name string, t tools, e *EntryOptions) error {
	s, err := r.ask(ctx, t, e)
	if err != nil {
		return err
	}
	r.remember(name, s)
	text, err := json.Marshal(s)
	if err = errors.Join(err, makeFolder(r.opts.Dir)); err == nil {
		err = safefile.Create(filepath.Join(r.opts.Dir, name), text, os.Rename)
	}
	if err != nil {
		r.opts.Log.Debug("what npm says of its settings is not kept for the next start of the daemon", "error", err)
	}
	return nil
}
