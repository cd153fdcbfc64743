package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// pgServer is a Postgres of a test's own: on 127.0.0.1 and a Unix socket, without durability.
type pgServer struct {
	t        testing.TB
	dir      string
	port     int
	database string
	cmd      *exec.Cmd
	gone     chan struct{} // closed when cmd has ended
}

// template is a fresh data directory, made once; servers get copies.
var template = sync.OnceValues(func() (string, error) {
	initdb, err := findPostgres("initdb")
	if err != nil {
		return "", err
	}
	dir, err := serverDir("template")
	if err != nil {
		return "", err
	}
	cmd := exec.Command(initdb, "-D", filepath.Join(dir, "data"), "-U", "test", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	asServer(cmd, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	templateMade = dir
	return dir, nil
})

var templateMade string // set by template, read when all tests are done

// findPostgres finds a program in the PATH or where Debian keeps it.
func findPostgres(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(paths) > 0 {
		return paths[len(paths)-1], nil
	}
	return "", fmt.Errorf("the tests need a Postgres server: install the package postgresql (%s is not in the PATH)", name)
}

// serverUID is who runs the server, which refuses to run as root.
const serverUID = 65534

func serverDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "postgres-tier-"+name+"-")
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(dir, serverUID, serverUID)
	}
	return dir, err
}

func asServer(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serverUID, Gid: serverUID}}
	}
}

func startPostgres(t testing.TB, settings ...string) *pgServer {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := serverDir("server")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := newPostgres(t, from, dir)
	t.Cleanup(s.kill)
	s.start(settings...)
	return s
}

func newPostgres(t testing.TB, from, dir string) *pgServer {
	t.Helper()
	if out, err := exec.Command("cp", "-a", filepath.Join(from, "data"), dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return &pgServer{t: t, dir: dir, port: freePort(t), database: "postgres"}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs the server and waits until it answers.
func (s *pgServer) start(settings ...string) {
	s.t.Helper()
	log := s.run(settings)
	eventually(s.t, "the server answers", func() bool {
		select {
		case <-s.gone:
			text, _ := os.ReadFile(log)
			if !bytes.Contains(text, []byte("pre-existing shared memory block")) {
				s.t.Fatalf("the server ended:\n%s", text)
			}
			log = s.run(settings) // what is left of the one that was killed takes a moment to end
		default:
		}
		conn, err := pgx.Connect(s.t.Context(), s.url())
		if err != nil {
			return false
		}
		return conn.Close(s.t.Context()) == nil
	})
}

// run starts the process and returns where its log is.
func (s *pgServer) run(settings []string) (log string) {
	s.t.Helper()
	program, err := findPostgres("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	args := []string{"-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port)}
	for _, setting := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "fsync=off",
		"full_page_writes=off", "shared_buffers=16MB", "max_connections=30", "autovacuum=off"}, settings...) {
		args = append(args, "-c", setting)
	}
	out, err := os.CreateTemp(s.dir, "log")
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	s.cmd = exec.Command(program, args...)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	asServer(s.cmd, s.dir)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, gone := s.cmd, make(chan struct{})
	s.gone = gone
	go func() { _ = cmd.Wait(); close(gone) }()
	return out.Name()
}

func (s *pgServer) url() string {
	return fmt.Sprintf("postgres://test:secret@127.0.0.1:%d/%s?sslmode=disable", s.port, s.database)
}

// pids are the server's processes: the first one, and its children, which are in sessions of their own.
func (s *pgServer) pids() []int {
	pids := []int{s.cmd.Process.Pid}
	out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pids[0]))
	if err != nil {
		out, _ = exec.Command("pgrep", "-P", strconv.Itoa(pids[0])).Output() // it fails where there are none
	}
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// hang stops all of the server; the first process before the others, so that it makes no new ones.
func (s *pgServer) hang() {
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	s.signal(syscall.SIGSTOP)
}

func (s *pgServer) signal(signal syscall.Signal) {
	for _, pid := range s.pids() {
		_ = syscall.Kill(pid, signal) // it may have ended by itself
	}
}

// kill ends all of the server at once, as a crash does.
func (s *pgServer) kill() {
	if s.gone == nil {
		return // it never began
	}
	select {
	case <-s.gone:
		return
	default:
	}
	s.hang()
	s.signal(syscall.SIGKILL)
	<-s.gone
}

// stop ends the server as an operator does who does not wait for its clients.
func (s *pgServer) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	<-s.gone
}

// restart starts a server that was killed or stopped.
func (s *pgServer) restart(settings ...string) {
	s.t.Helper()
	_ = os.Remove(filepath.Join(s.dir, "data", "postmaster.pid"))
	s.start(settings...)
}

// exec runs a statement as somebody else.
func (s *pgServer) exec(statement string, args ...any) {
	s.t.Helper()
	conn := s.connect()
	defer conn.Close(context.Background())
	if _, err := conn.Exec(s.t.Context(), statement, args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *pgServer) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.url())
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// number returns the one number that a query answers.
func (s *pgServer) number(query string) (n int64) {
	s.t.Helper()
	conn := s.connect()
	defer conn.Close(context.Background())
	if err := conn.QueryRow(s.t.Context(), query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}
