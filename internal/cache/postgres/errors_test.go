package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fluentd-perf/internal/cache/postgres"
)

// TestSaysWhy has a server that refuses the password, one that has no such database, and none at all: calls and the
// log say so in one line, without the password.
func TestSaysWhy(t *testing.T) {
	s := startPostgres(t)
	s.exec("ALTER ROLE test PASSWORD 'secret'")
	rules := filepath.Join(s.dir, "data", "pg_hba.conf")
	if err := os.WriteFile(rules, []byte("host all all 127.0.0.1/32 scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.exec("SELECT pg_reload_conf()")
	wrong := strings.Replace(s.url(), ":secret@", ":wr0ng@", 1)
	eventually(t, "passwords matter", func() bool {
		conn, err := pgx.Connect(t.Context(), wrong)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil
	})
	nobody := fmt.Sprintf("postgres://test:wr0ng@127.0.0.1:%d/postgres", freePort(t))
	for url, word := range map[string]string{
		wrong: `password authentication failed for user "test"`,
		strings.TrimSuffix(wrong, "?sslmode=disable"):          `password authentication failed for user "test"`,
		strings.Replace(s.url(), "/postgres?", "/missing?", 1): `database "missing" does not exist`,
		nobody:                       "refused",
		nobody + "?sslmode=disable":  "refused",
		"postgres:///x?host=/none/x": "no such file",
	} {
		saysWhy(t, url, word)
	}
}

func saysWhy(t *testing.T, url, word string) {
	t.Helper()
	log := &lines{}
	tier, err := postgres.OpenTier(postgres.Options{URL: url, Prefix: "0123abcd", Timeout: 5 * time.Second, Log: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer closeTier(t, tier)
	eventually(t, "the log says it", func() bool { return log.String() != "" })
	_, _, err = tryRead(t.Context(), tier, newEntry())
	if !errors.Is(err, postgres.ErrUnavailable) {
		t.Fatalf("%s: %v", url, err)
	}
	for what, text := range map[string]string{"the error": err.Error(), "the log": strings.ReplaceAll(strings.TrimSpace(log.String()), `\"`, `"`)} {
		if !strings.Contains(text, word) || strings.Contains(text, "wr0ng") || strings.ContainsAny(text, "\n\t") || len(text) > 400 {
			t.Errorf("%s, %s: %q, want %s", url, what, text, word)
		}
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "postgres cannot be used: invalidations by other daemons are not received") {
		t.Errorf("%s: %s", url, text)
	}
}
