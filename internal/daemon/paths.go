package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"fluentd-perf/internal/api"
)

// Paths are the directories of a daemon. Resolved they are absolute; "" is one that is not there, and what would be in it is done
// without. What is to be resolved is what somebody named, "" for the usual one.
type Paths struct {
	State   string // for what outlives a restart; made, with 0700 where it was missing
	Runtime string // for the admin socket; can be made, but is not: the socket's server does that, with the mode that its group needs
	Cache   string // for what can be fetched again: packages of npx commands; can be made, but is not before the first of them
}

// surroundings are what decides about directories beside the flags.
type surroundings struct {
	env    func(string) (string, bool) // os.LookupEnv
	root   bool
	usable func(dir string) error // why files cannot be made in it, or in it once it is made; nil where they can
}

func theseSurroundings() surroundings {
	return surroundings{env: os.LookupEnv, root: os.Geteuid() == 0, usable: usableDirectory}
}

// Resolve finds the directories of a daemon in this process. See resolve.
func (p Paths) Resolve(log *slog.Logger) (Paths, error) { return p.resolve(theseSurroundings(), log) }

// resolve finds the directories, each for itself, and makes the one for state. One that is named, by its flag or by
// $STATE_DIRECTORY, $RUNTIME_DIRECTORY or $CACHE_DIRECTORY, and cannot be used is the typist's error, which says what to set. Where
// none is named and no usual one can be had, that is a warning; of the cache it is said where a command needs it.
func (p Paths) resolve(s surroundings, log *slog.Logger) (Paths, error) {
	var dirs Paths
	var named bool
	var err error
	if dirs.State, named, err = p.makeState(s); err != nil {
		err = fmt.Errorf("the state directory: %w; name another with --state-dir or $STATE_DIRECTORY", err)
		if named {
			return Paths{}, UsageError{Err: err}
		}
		log.Warn("there is no state directory: nothing that is cached outlives this daemon", "error", err)
	}
	if dirs.Runtime, named, err = p.runtimeDir(s, dirs.State); err != nil {
		err = fmt.Errorf("the runtime directory: %w; name another with --runtime-dir or $RUNTIME_DIRECTORY", err)
		if named {
			return Paths{}, UsageError{Err: err}
		}
		log.Warn("there is no admin socket: verbs such as cache-stats do not reach this daemon", "error", err)
	}
	if dirs.Cache, named, err = p.cacheDir(s); named && err != nil {
		return Paths{}, UsageError{Err: fmt.Errorf("the cache directory: %w; name another with --cache-dir or $CACHE_DIRECTORY", err)}
	}
	return dirs, nil
}

// CacheDirectory returns the cache directory of a daemon that is started from here, "" where there is none.
func CacheDirectory() string {
	dir, _, _ := Paths{}.cacheDir(theseSurroundings()) // "" is no place
	return dir
}

// cacheDir returns the cache directory: the flag's, the service manager's, the user's; "" where there is an error.
func (p Paths) cacheDir(s surroundings) (dir string, named bool, err error) {
	if dir, named, err = s.named(p.Cache, "CACHE_DIRECTORY"); !named {
		if dir = s.first("XDG_CACHE_HOME"); dir != "" {
			dir = filepath.Join(dir, "fluentd-perf")
		} else if dir = s.first("HOME"); dir != "" {
			dir = filepath.Join(dir, ".cache", "fluentd-perf")
		}
	}
	if err == nil && dir != "" {
		err = s.usable(dir)
	}
	if err != nil {
		return "", named, err
	}
	return dir, named, nil
}

// makeState returns the state directory, made; "" where there is an error.
func (p Paths) makeState(s surroundings) (dir string, named bool, err error) {
	if dir, named, err = p.stateDir(s); err == nil {
		err = s.usable(dir)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", named, err
	}
	return dir, named, nil
}

// stateDir returns the state directory: the flag's, the service manager's, the user's. named is for the first two.
func (p Paths) stateDir(s surroundings) (dir string, named bool, err error) {
	if dir, named, err = s.named(p.State, "STATE_DIRECTORY"); named {
		return dir, true, err
	}
	if dir := s.first("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "fluentd-perf"), false, nil
	}
	if dir := s.first("HOME"); dir != "" {
		return filepath.Join(dir, ".local", "state", "fluentd-perf"), false, nil
	}
	return "", false, errors.New("none is known, there is no $HOME")
}

// runtimeDir returns the runtime directory: the flag's, the service manager's, or the first that is this user's own and
// can be used; "" where there is an error. state is the state directory that there is.
func (p Paths) runtimeDir(s surroundings, state string) (dir string, named bool, err error) {
	if dir, named, err = s.named(p.Runtime, "RUNTIME_DIRECTORY"); named {
		if err == nil {
			err = s.socketFits(dir)
		}
		if err != nil {
			return "", true, err
		}
		return dir, true, nil
	}
	var faults []error
	for _, place := range s.runtimePlaces(state) {
		if !place.own {
			continue
		}
		fault := s.socketFits(place.dir)
		if fault == nil {
			return place.dir, false, nil
		}
		faults = append(faults, fault)
	}
	if faults == nil {
		return "", false, errors.New("none is known")
	}
	return "", false, errors.New(strings.ReplaceAll(errors.Join(faults...).Error(), "\n", "; ")) // one line of the log
}

// socketFits says why a runtime directory cannot have the admin socket.
func (s surroundings) socketFits(dir string) error {
	if err := api.CheckPath(filepath.Join(dir, SocketName)); err != nil {
		return err
	}
	return s.usable(dir)
}

// usableDirectory implements surroundings.usable: what is missing of the path can be made if its lowest part that is there
// can be written to.
func usableDirectory(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return &fs.PathError{Op: "making files in", Path: at, Err: syscall.ENOTDIR}
		}
		const write, search = 2, 1 // W_OK, X_OK
		if err := syscall.Access(at, write|search); err != nil {
			return &fs.PathError{Op: "making files in", Path: at, Err: err}
		}
		return nil
	}
}

// runtimePlace is a directory in which a daemon may have its admin socket.
type runtimePlace struct {
	dir  string
	from string // what names it, for people
	own  bool   // a daemon of this user may be put there; else only another's may be found there
}

// SocketPlaces returns where the admin socket of a daemon may be that this user can reach, in the order in which they are tried.
func SocketPlaces() []api.Place { return theseSurroundings().socketPlaces() }

func (s surroundings) socketPlaces() []api.Place {
	if path, _ := s.env("FLUENTD_PERF_SOCKET"); path != "" {
		return []api.Place{{Path: path, From: "$FLUENTD_PERF_SOCKET"}}
	}
	var places []api.Place
	state, _, _ := Paths{}.stateDir(s) // "" is no place
	for _, p := range s.runtimePlaces(state) {
		places = append(places, api.Place{Path: filepath.Join(p.dir, SocketName), From: p.from})
	}
	return places
}

// SystemRuntime returns the runtime directory of the system's own daemon. macOS has no /run.
func SystemRuntime() string {
	if runtime.GOOS == "darwin" {
		return "/var/run/fluentd-perf"
	}
	return "/run/fluentd-perf"
}

// runtimePlaces returns where a daemon of this user goes, and where one of the system may be, in the order in which they
// are tried; state is the state directory, or "". serve and the verbs that look for it read the same table, so that they
// meet.
func (s surroundings) runtimePlaces(state string) []runtimePlace {
	var places []runtimePlace
	if dir := s.first("RUNTIME_DIRECTORY"); dir != "" {
		places = append(places, runtimePlace{dir, "$RUNTIME_DIRECTORY", true})
	}
	if dir := s.first("XDG_RUNTIME_DIR"); dir != "" {
		places = append(places, runtimePlace{filepath.Join(dir, "fluentd-perf"), "$XDG_RUNTIME_DIR", true})
	}
	places = append(places, runtimePlace{SystemRuntime(), "the system's", s.root})
	if state != "" {
		places = append(places, runtimePlace{filepath.Join(state, "run"), "the state directory", true})
	}
	return places
}

// named returns the directory that a flag or the variable of its own names, if one does. A variable that holds no absolute
// path is an error: the service manager sets it, and sets it right.
func (s surroundings) named(flag, variable string) (dir string, named bool, err error) {
	if flag != "" {
		dir, err = filepath.Abs(flag)
		return dir, true, err
	}
	if list, _ := s.env(variable); list == "" {
		return "", false, nil
	}
	if dir = s.first(variable); dir == "" {
		err = fmt.Errorf("$%s is not an absolute path", variable)
	}
	return dir, true, err
}

// first returns the first directory of a variable: systemd may name several, with colons. A relative one is none, as the
// XDG base directory specification says.
func (s surroundings) first(name string) string {
	list, _ := s.env(name)
	dir, _, _ := strings.Cut(list, ":")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Clean(dir)
}
