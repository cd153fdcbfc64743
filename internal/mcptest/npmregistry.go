package mcptest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// NPMPackage is one version of a package in an NPMRegistry.
type NPMPackage struct {
	Name, Version string
	Bin           map[string]string // files by the names of programs
	Scripts       map[string]string // of package.json
	Dependencies  map[string]string
	Files         map[string]string // contents by name; package.json is made
}

// NPMRegistry is a registry of npm's on 127.0.0.1 for what tests publish. The last version that was published of a package is its
// latest.
type NPMRegistry struct {
	URL string

	mu       sync.Mutex // guards the following
	packages map[string]*npmPackument
	tarballs map[string][]byte        // by path
	away     map[string]bool          // by name of a package
	stalled  map[string]chan struct{} // by path of a tarball: it comes when that is closed
	asked    map[string]int           // by path
	changed  *sync.Cond               // asked, with mu
}

type npmPackument struct {
	Name     string                    `json:"name"`
	Tags     map[string]string         `json:"dist-tags"`
	Versions map[string]map[string]any `json:"versions"`
}

// NewNPMRegistry starts a registry that goes with the test.
func NewNPMRegistry(t testing.TB) *NPMRegistry {
	t.Helper()
	r := &NPMRegistry{packages: map[string]*npmPackument{}, tarballs: map[string][]byte{}, away: map[string]bool{}, stalled: map[string]chan struct{}{}, asked: map[string]int{}}
	r.changed = sync.NewCond(&r.mu)
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		r.mu.Lock()
		for path, stalled := range r.stalled {
			close(stalled)
			delete(r.stalled, path)
		}
		r.mu.Unlock()
		server.Close()
	})
	r.URL = server.URL
	return r
}

// Publish adds a version of a package.
func (r *NPMRegistry) Publish(t testing.TB, p NPMPackage) {
	t.Helper()
	manifest := map[string]any{"name": p.Name, "version": p.Version, "bin": p.Bin, "dependencies": p.Dependencies}
	if len(p.Scripts) > 0 {
		manifest["scripts"] = p.Scripts
	}
	tarball := npmTarball(t, p, manifest)
	path := fmt.Sprintf("/%s/-/%s-%s.tgz", p.Name, p.Name[strings.LastIndexByte(p.Name, '/')+1:], p.Version)
	sum := sha512.Sum512(tarball)
	version := maps.Clone(manifest)
	version["hasInstallScript"] = len(p.Scripts) > 0
	version["dist"] = map[string]any{"tarball": r.URL + path, "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:])}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.packages[p.Name]
	if all == nil {
		all = &npmPackument{Name: p.Name, Tags: map[string]string{}, Versions: map[string]map[string]any{}}
		r.packages[p.Name] = all
	}
	all.Versions[p.Version] = version
	all.Tags["latest"] = p.Version
	r.tarballs[path] = tarball
}

func npmTarball(t testing.TB, p NPMPackage, manifest map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	files := maps.Clone(p.Files)
	if files == nil {
		files = map[string]string{}
	}
	files["package.json"] = string(text)
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if err := archive.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Tag has a tag of a package lead to a version.
func (r *NPMRegistry) Tag(name, tag, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.packages[name].Tags[tag] = version
}

// SetAway has the registry break every connection off on which a package is asked for.
func (r *NPMRegistry) SetAway(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away[name] = true
}

// path is a tarball's.
func (r *NPMRegistry) path(name, version string) string {
	for path := range r.tarballs {
		if strings.HasPrefix(path, "/"+name+"/-/") && strings.HasSuffix(path, "-"+version+".tgz") {
			return path
		}
	}
	panic("mcptest: no such package was published: " + name + "@" + version)
}

// Damage changes a byte of a version's tarball; the next time it changes it back.
func (r *NPMRegistry) Damage(name, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tarball := bytes.Clone(r.tarballs[r.path(name, version)])
	tarball[len(tarball)-1] ^= 0xff
	r.tarballs[r.path(name, version)] = tarball
}

// Stall has a version's tarball wait until resume is called, once, or the test ends.
func (r *NPMRegistry) Stall(name, version string) (resume func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path, stalled := r.path(name, version), make(chan struct{})
	r.stalled[path] = stalled
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.stalled[path] == stalled {
			close(stalled)
			delete(r.stalled, path)
		}
	}
}

// AwaitTarball waits until a version's tarball has been asked for so often.
func (r *NPMRegistry) AwaitTarball(t testing.TB, name, version string, times int) {
	t.Helper()
	over := false
	timer := time.AfterFunc(WaitTimeout, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		over = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	path := r.path(name, version)
	for r.asked[path] < times && !over {
		r.changed.Wait()
	}
	if r.asked[path] < times {
		t.Errorf("%s was asked for %d times, not %d", path, r.asked[path], times)
	}
}

// Asked returns how often anything about a package was asked for.
func (r *NPMRegistry) Asked(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path, times := range r.asked {
		if path == "/"+name || strings.HasPrefix(path, "/"+name+"/-/") {
			n += times
		}
	}
	return n
}

// ServeHTTP implements http.Handler.
func (r *NPMRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path, err := url.PathUnescape(req.URL.EscapedPath())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.asked[path]++
	r.changed.Broadcast()
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/-/")
	away, tarball, stalled := r.away[name], r.tarballs[path], r.stalled[path]
	packument, err := json.Marshal(r.packages[name])
	r.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-req.Context().Done():
			return
		}
	}
	switch {
	case away:
		panic(http.ErrAbortHandler)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case tarball != nil:
		_, _ = w.Write(tarball)
	case string(packument) == "null":
		http.Error(w, `{"error":"not found"}`, http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(packument)
	}
}
