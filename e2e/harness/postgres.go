package harness

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// PostgresServer is a real Postgres without durability, on TCP alone.
type PostgresServer struct {
	*TierServer
	bin string // the folder of its programs
	dir string // of its data
}

// StartPostgres starts a server that ends with the test. Settings are more of postgresql.conf, as in "work_mem=1MB".
func StartPostgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	template, err := postgresTemplate()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := postgresPrograms()
	if err != nil {
		t.Fatal(err)
	}
	s := &PostgresServer{&TierServer{T: t, Orderly: syscall.SIGQUIT}, bin, tempFolder(t, makePostgresFolder)}
	if err := run(s.dir, "cp", "-a", template, filepath.Join(s.dir, "data")); err != nil {
		t.Fatal(err)
	}
	s.Command = func() *exec.Cmd { return s.server(settings) }
	s.Answers = s.takesSessions
	s.repair = func() { _ = os.Remove(filepath.Join(s.dir, "data", "postmaster.pid")) } // the id in it may be another's by now
	s.Launch()
	return s
}

func (s *PostgresServer) server(settings []string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-p", s.Port)
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "full_page_writes=off", "synchronous_commit=off",
		"shared_buffers=16MB", "max_connections=50", "autovacuum=off", "jit=off",
	}, settings...) {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	asPostgres(cmd, s.dir)
	return cmd
}

// The first message of a client of protocol 3.0, and its last (PostgreSQL 15, 55.7 "Message Formats").
const (
	startupMessage   = "\x00\x00\x00\x25\x00\x03\x00\x00user\x00test\x00database\x00postgres\x00\x00"
	terminateMessage = "X\x00\x00\x00\x04"
)

// takesSessions begins a session, which a server that still starts refuses. pg_isready would be a process for each question.
func (s *PostgresServer) takesSessions() bool {
	conn, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := conn.Write([]byte(startupMessage)); err != nil {
		return false
	}
	answer := make([]byte, 1)
	if _, err := conn.Read(answer); err != nil || answer[0] != 'R' { // an authentication, which is trust
		return false
	}
	_, err = conn.Write([]byte(terminateMessage))
	return err == nil
}

// URL is what the daemon is told of the server.
func (s *PostgresServer) URL() string { return s.URLAt(s.Addr()) }

// URLAt is the server's URL for a way to it that has another address.
func (s *PostgresServer) URLAt(addr string) string {
	return "postgres://test:secret@" + addr + "/postgres?sslmode=disable"
}

// Query runs SQL and returns what it answered, a row a line.
func (s *PostgresServer) Query(sql string) string {
	s.T.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", s.URL(), "-c", sql)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.T.Fatalf("%s: %v\n%s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Everything returns all rows of all tables, binary values with their printable bytes as they are, and all files of the
// databases after a checkpoint, deleted rows included: what somebody sees who has the server and its disk, and not the
// daemon's key. The files of unlogged tables may be behind their rows.
func (s *PostgresServer) Everything() string {
	s.T.Helper()
	var all strings.Builder
	tables := s.Query("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
	for table := range strings.Lines(tables) {
		all.WriteString(s.Query("SET bytea_output = escape; COPY (SELECT t::text FROM " + strings.TrimSpace(table) + " t) TO STDOUT"))
	}
	s.Query("CHECKPOINT")
	err := filepath.WalkDir(filepath.Join(s.dir, "data", "base"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all.Write(content)
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return all.String()
}

// postgresUID is who runs Postgres, which refuses to run as root.
const postgresUID = 65534

// asPostgres has a command run in a folder, as postgresUID where the tests run as root.
func asPostgres(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = ChildAttributes()
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: postgresUID, Gid: postgresUID}
	}
}

// makePostgresFolder makes a folder for a server's data. The test's own would be closed to anybody but its user.
func makePostgresFolder() (string, error) {
	dir, err := os.MkdirTemp("", "e2e-postgres-")
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(dir, postgresUID, postgresUID)
	}
	return dir, err
}

// postgresPrograms finds the folder of the server's programs by the PATH, or where Debian keeps it.
func postgresPrograms() (string, error) {
	path, err := exec.LookPath("postgres")
	if err != nil {
		paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
		if len(paths) == 0 {
			return "", fmt.Errorf("the tests need a Postgres server: make setup, or install the package postgresql")
		}
		path = paths[len(paths)-1]
	}
	path, err = filepath.EvalSymlinks(path)
	return filepath.Dir(path), err
}

// postgresTemplate is the data of a server that was never started, which servers get a copy of. It is made once and kept
// in the git-ignored folder .cache; each version and user has one.
var postgresTemplate = sync.OnceValues(func() (string, error) {
	bin, err := postgresPrograms()
	if err != nil {
		return "", err
	}
	version, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(version)) // postgres (PostgreSQL) 15.18 (...)
	if len(fields) < 3 {
		return "", fmt.Errorf("postgres --version said %q", version)
	}
	template := filepath.Join(root, ".cache", fmt.Sprintf("postgres-%s-%d", fields[2], os.Getuid()))
	if _, err := os.Stat(filepath.Join(template, "PG_VERSION")); err == nil {
		return template, nil
	}
	return template, makePostgresTemplate(bin, template)
})

// makePostgresTemplate makes the template beside its place and moves it there whole. Another test process may be first.
func makePostgresTemplate(bin, template string) error {
	dir, err := makePostgresFolder()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "test", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	asPostgres(cmd, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	beside := fmt.Sprintf("%s.%d", template, os.Getpid())
	defer os.RemoveAll(beside)
	if err := run(dir, "cp", "-a", data, beside); err != nil {
		return err
	}
	if err := os.Rename(beside, template); err != nil {
		if _, there := os.Stat(filepath.Join(template, "PG_VERSION")); there == nil {
			return nil
		}
		return err
	}
	return nil
}
