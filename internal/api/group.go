package api

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// socketGroup is the group that may use the socket beside the daemon's user. Where it cannot be let in, that is a warning, and
// the socket is for the user alone: the daemon's own verbs work.
type socketGroup struct {
	name string
	gid  int // -1: there is none
	log  *slog.Logger
}

func newSocketGroup(group string, log *slog.Logger) *socketGroup {
	g := &socketGroup{name: group, gid: -1, log: log}
	if group == "" {
		return g
	}
	gid, err := groupID(group)
	if err != nil {
		g.leaveOut(err)
		return g
	}
	g.gid = gid
	return g
}

// leaveOut says why the group is not let in.
func (g *socketGroup) leaveOut(err error) {
	g.log.Warn("the group cannot have the admin socket: it is for the daemon's own user alone", "group", g.name, "error", err)
	g.gid = -1
}

// groupID returns the number of a group that is given by name or by number.
func groupID(group string) (int, error) {
	text := group
	if g, err := user.LookupGroup(group); err == nil {
		text = g.Gid
	}
	// The last number means "leave it as it is" to the system.
	gid, err := strconv.ParseUint(text, 10, 32)
	if err != nil || gid == math.MaxUint32 {
		return 0, errors.New("this system has no such group: make it, or name another in admin.group")
	}
	return int(gid), nil
}

// open gives a file to the group, with a mode, if there is a group and it can have the file. A mode that cannot be set is
// an error.
func (g *socketGroup) open(path string, mode fs.FileMode) error {
	if g.gid < 0 {
		return nil
	}
	if err := os.Chown(path, -1, g.gid); err != nil {
		g.leaveOut(hintGroup(err))
		return nil
	}
	return os.Chmod(path, mode)
}

// hintGroup adds to the system's word what is to be done.
func hintGroup(err error) error {
	var path *fs.PathError // of the socket while it is made: nobody knows that name
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the daemon's user must be a member of the group (under systemd: Group=)", err)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("%w: the daemon's user namespace has no such group (under systemd: Group=, or PrivateUsers=no)", err)
	}
	return err
}

// makeDirectory makes the socket's directory where it is missing, and lets the group pass through it. One that is there
// keeps its mode.
func (g *socketGroup) makeDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return g.newDirectory(dir)
	case err != nil:
		return fmt.Errorf("the socket's directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("the socket's directory: %s is not a directory", dir)
	}
	if g.gid >= 0 && !passable(info, g.gid) {
		g.log.Warn("the group cannot reach the admin socket: its directory does not let it pass (under systemd: RuntimeDirectoryMode=)",
			"group", g.name, "directory", dir, "mode", fmt.Sprintf("%#o", info.Mode().Perm()))
	}
	return nil
}

// passable says whether a group may pass through a directory.
func passable(info fs.FileInfo, gid int) bool {
	if own, ok := info.Sys().(*syscall.Stat_t); ok && int(own.Gid) == gid {
		return info.Mode().Perm()&0o010 != 0
	}
	return info.Mode().Perm()&0o001 != 0
}

func (g *socketGroup) newDirectory(dir string) error {
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // made by another in the meantime
	}
	if err == nil {
		err = g.open(dir, 0o710)
	}
	if err != nil {
		return fmt.Errorf("the socket's directory: %w", err)
	}
	return nil
}
