package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// common is the server of the tests that do it no harm: started by the first of them, stopped by endPostgres. They run
// one after the other.
var common struct {
	server    *pgServer
	databases int
}

// commonPostgres returns a database of a test's own on the common server.
func commonPostgres(t testing.TB) *pgServer {
	t.Helper()
	if common.server == nil {
		from, err := template()
		if err != nil {
			t.Fatal(err)
		}
		dir, err := serverDir("common")
		if err != nil {
			t.Fatal(err)
		}
		common.server = newPostgres(t, from, dir)
		common.server.start()
	}
	server := *common.server
	server.t = t
	own := server
	common.databases++
	own.database = fmt.Sprintf("test%d", common.databases)
	server.exec("CREATE DATABASE " + own.database)
	return &own
}

// endPostgres ends the common server, and removes what the tests made outside their own directories.
func endPostgres() error {
	var errs []error
	if common.server != nil {
		common.server.kill()
		errs = append(errs, os.RemoveAll(common.server.dir))
	}
	if templateMade != "" {
		errs = append(errs, os.RemoveAll(templateMade))
	}
	return errors.Join(errs...)
}
