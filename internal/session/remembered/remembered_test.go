package remembered_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/remembered"
)

const result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`

func answer(result string) []byte { return []byte(`{"jsonrpc":"2.0","id":1,"result":` + result + `}`) }

func formOf(t *testing.T, params string) remembered.Form {
	t.Helper()
	f, ok := remembered.FormOf([]byte(params))
	if !ok {
		t.Fatalf("%s has no form", params)
	}
	return f
}

func newStore(t *testing.T, path string) *remembered.Store {
	t.Helper()
	st := remembered.NewStore(remembered.StoreOptions{Path: path})
	t.Cleanup(st.Close)
	return st
}

// disk is what lies there.
type disk struct{ now string }

func (d *disk) read() string { return d.now }

func memoryOf(st *remembered.Store, d *disk) *remembered.Memory {
	return st.Of(remembered.Options{Identity: "server", OnDisk: d.read})
}

// want checks what is believed of an initialize; "" is nothing.
func want(t *testing.T, what string, m *remembered.Memory, f remembered.Form, result string) {
	t.Helper()
	if got := string(m.Initialize(f)); got != result {
		t.Errorf("%s: %q is believed, want %q", what, got, result)
	}
}

// TestForm: what is the same question, and what is not.
func TestForm(t *testing.T) {
	one := formOf(t, `{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"a","version":"1"}}`)
	if formOf(t, ` { "clientInfo":{"version":"1","name":"\u0061"}, "capabilities":{"sampling":{},"roots":{"listChanged":true}},"protocolVersion":"2025-11-25"}`[1:]) != one {
		t.Error("the same in another order has another form")
	}
	for _, other := range []string{
		`{"protocolVersion":"2025-06-18","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"a","version":"1"}}`,
		`{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"a","version":"1"}}`,
		`{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"a","version":"2"}}`,
		`{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"sampling":{}},"clientInfo":{"name":"a","version":1}}`,
	} {
		if formOf(t, other) == one {
			t.Errorf("%s has the same form", other)
		}
	}
	if formOf(t, `{"a":9007199254740993}`) == formOf(t, `{"a":9007199254740992}`) {
		t.Error("large numbers are one")
	}
	for _, none := range []string{"", "null", "[]", `{"a":1,"a":2}`, `{"a":"` + "\xff" + `"}`, `{`} {
		if _, ok := remembered.FormOf([]byte(none)); ok {
			t.Errorf("%q has a form", none)
		}
	}
}

// TestBelieved: an initialize is believed once two processes have given the same, and no longer than a week after the last.
func TestBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{"1"}
		m := memoryOf(newStore(t, ""), d)
		f, other := formOf(t, `{"a":1}`), formOf(t, `{"a":2}`)
		want(t, "nothing", m, f, "")
		m.Answered(f, "1", answer(result))
		want(t, "one process", m, f, "")
		m.Answered(f, "1", answer(result))
		want(t, "two processes", m, f, result)
		want(t, "another form", m, other, "")
		time.Sleep(6 * 24 * time.Hour)
		want(t, "six days", m, f, result)
		m.Answered(f, "1", answer(result))
		time.Sleep(6 * 24 * time.Hour)
		want(t, "confirmed", m, f, result)
		time.Sleep(25 * time.Hour)
		want(t, "a week", m, f, "")
		m.Answered(f, "1", answer(result))
		want(t, "again", m, f, result)
	})
}

// TestDifferences: what differs is not believed until two in a row are the same; `_meta` does not count, and is left out where it differs.
func TestDifferences(t *testing.T) {
	m := memoryOf(newStore(t, ""), &disk{"1"})
	f := formOf(t, `{}`)
	changed := strings.Replace(result, `"version":"1"`, `"version":"2"`, 1)
	for i, one := range []string{result, changed, result, changed} {
		m.Answered(f, "1", answer(one))
		want(t, fmt.Sprint("in turn, ", i), m, f, "")
	}
	m.Answered(f, "1", answer(changed))
	want(t, "two in a row", m, f, changed)
	m.Answered(f, "1", answer(result))
	want(t, "another one", m, f, "")

	meta := func(pid int) string { return strings.Replace(result, "{", fmt.Sprintf(`{"_meta":{"pid":%d},`, pid), 1) }
	f = formOf(t, `{"meta":1}`)
	m.Answered(f, "1", answer(meta(1)))
	m.Answered(f, "1", answer(meta(1)))
	want(t, "the same _meta", m, f, meta(1))
	m.Answered(f, "1", answer(meta(2)))
	want(t, "another _meta", m, f, result)
	if remembered.Sum([]byte(meta(1))) != remembered.Sum([]byte(result)) || remembered.Sum([]byte(result)) == remembered.Sum([]byte(changed)) {
		t.Error("the sums are not of what counts")
	}
}

// TestDisbelieved: nothing is believed of what is not there, was changed, fails, or ends by itself.
func TestDisbelieved(t *testing.T) {
	d, stable := &disk{"1"}, true
	st := newStore(t, "")
	m := st.Of(remembered.Options{Identity: "server", OnDisk: d.read, Stable: func() bool { return stable }})
	f := formOf(t, `{}`)
	learn := func() {
		m.Answered(f, d.now, answer(result))
		m.Answered(f, d.now, answer(result))
	}
	learn()
	want(t, "learned", m, f, result)
	want(t, "another environment", st.Of(remembered.Options{Identity: "other", OnDisk: d.read}), f, "")
	stable = false
	want(t, "it ends by itself", m, f, "")
	stable, d.now = true, ""
	want(t, "the command is missing", m, f, "")
	d.now = "2"
	want(t, "changed on disk", m, f, "")
	m.Answered(f, "1", answer(result)) // started before the change
	want(t, "a process of before", m, f, "")
	learn()
	want(t, "learned anew", m, f, result)
	d.now = "1"
	want(t, "changed back", m, f, "")
	learn()
	m.Failed()
	want(t, "a start failed", m, f, "")
	m.Answered(formOf(t, `{"other":1}`), "1", answer(result))
	want(t, "another start succeeded", m, f, result)
	other := formOf(t, `{"other":2}`)
	for range 2 {
		m.Answered(other, "1", answer(result))
	}
	m.Answered(f, "1", []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}`))
	want(t, "it refused", m, f, "")
	want(t, "it refused others", m, other, result)
	for _, odd := range []string{`{"jsonrpc":"2.0","id":1,"result":{},"error":null}`, `{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}`, `{`} {
		for range 2 {
			m.Answered(f, "1", []byte(odd))
		}
		want(t, odd, m, f, "")
	}
	learn()
	m.Answered(f, "1", answer(`{"a":"`+strings.Repeat("x", 1<<20)+`"}`))
	want(t, "too large", m, f, "")
}

// TestLists: a list is believed once two processes gave it; one process counts once, and a list on several pages does not.
func TestLists(t *testing.T) {
	m := memoryOf(newStore(t, ""), &disk{"1"})
	f := formOf(t, `{}`)
	tools, prompts := `{"tools":[{"name":"a"}]}`, `{"prompts":[]}`
	believed := func(what string, method mcp.Method, list string) {
		t.Helper()
		if got := string(m.List(f, method)); got != list {
			t.Errorf("%s: %q is believed, want %q", what, got, list)
		}
	}
	m.Listed(f, "1", 1, mcp.MethodToolsList, []byte(tools))
	m.Answered(f, "1", answer(result))
	m.Listed(f, "1", 1, mcp.MethodToolsList, []byte(tools))
	m.Listed(f, "1", 1, mcp.MethodToolsList, []byte(tools))
	believed("one process", mcp.MethodToolsList, "")
	m.Listed(f, "1", 2, mcp.MethodToolsList, []byte(tools))
	believed("two processes", mcp.MethodToolsList, tools)
	believed("nobody asked", mcp.MethodPromptsList, "")
	for process := range uint64(2) {
		m.Listed(f, "1", process+1, mcp.MethodPromptsList, []byte(prompts))
	}
	m.Listed(f, "0", 3, mcp.MethodToolsList, []byte(`{"tools":[]}`)) // of before a change
	believed("unchanged", mcp.MethodToolsList, tools)
	m.Withdraw(mcp.MethodToolsList)
	believed("withdrawn", mcp.MethodToolsList, "")
	believed("the others stay", mcp.MethodPromptsList, prompts)
	m.Listed(f, "1", 4, mcp.MethodPromptsList, []byte(`{"prompts":[],"nextCursor":"2"}`))
	believed("several pages", mcp.MethodPromptsList, "")
	for process := range uint64(3) {
		m.Listed(f, "1", process+10, mcp.MethodResourcesList, []byte(`{"resources":[],"nextCursor":null}`))
		m.Listed(f, "1", process+10, mcp.MethodPromptsList, []byte(`{"prompts":[],"nextCursor":"2"}`))
	}
	believed("one page, as it says", mcp.MethodResourcesList, `{"resources":[],"nextCursor":null}`)
	believed("several pages again", mcp.MethodPromptsList, "")
	m.Answered(f, "1", answer(`{"other":1}`))
	believed("of another server", mcp.MethodResourcesList, "")
}

// TestRestart: what is known outlives the store, also that the last start failed.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f, d := formOf(t, `{}`), &disk{"1"}
	st := newStore(t, path)
	m := memoryOf(st, d)
	m.Answered(f, "1", answer(result))
	m.Listed(f, "1", 1, mcp.MethodToolsList, []byte(`{"tools":[]}`))
	st.Close()
	st = newStore(t, path)
	m = memoryOf(st, d)
	want(t, "one process before", m, f, "")
	m.Answered(f, "1", answer(result))
	m.Listed(f, "1", 1, mcp.MethodToolsList, []byte(`{"tools":[]}`))
	want(t, "and one after", m, f, result)
	st.Close()
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	st = newStore(t, path)
	m = memoryOf(st, d)
	want(t, "at once", m, f, result)
	if got := string(m.List(f, mcp.MethodToolsList)); got != `{"tools":[]}` {
		t.Errorf("the list is %q", got)
	}
	m.Failed()
	st.Close()
	want(t, "failed before", memoryOf(newStore(t, path), d), f, "")
}

// TestSaved: a change is in the file soon, without an end.
func TestSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "memory.json")
		m := memoryOf(newStore(t, path), &disk{"1"})
		m.Answered(formOf(t, `{}`), "1", answer(result))
		time.Sleep(time.Second)
		synctest.Wait()
		if content, err := os.ReadFile(path); err != nil || !bytes.Contains(content, []byte(`"Processes":1`)) {
			t.Errorf("%s, %v", content, err)
		}
	})
}

// TestTakeover: a store that waits for another daemon does not write; then it has what both have learned.
func TestTakeover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f := formOf(t, `{}`)
	old := newStore(t, path)
	next := remembered.NewStore(remembered.StoreOptions{Path: path, Waits: true})
	t.Cleanup(next.Close)
	of := func(st *remembered.Store, identity string) *remembered.Memory {
		return st.Of(remembered.Options{Identity: identity})
	}
	for range 2 {
		of(old, "old").Answered(f, "-", answer(result))
		of(old, "both").Answered(f, "-", answer(result))
		of(next, "both").Answered(f, "-", answer(`{"next":1}`))
	}
	next.Drain()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was written while another daemon had it")
	}
	old.Close()
	next.Join()
	want(t, "of the daemon before", of(next, "old"), f, result)
	want(t, "of both", of(next, "both"), f, `{"next":1}`)
	next.Close()
	want(t, "in the file", of(newStore(t, path), "old"), f, result)
}

// goodFile makes a file in which an initialize and a list are believed, and returns what is in it.
func goodFile(t *testing.T, path string) []byte {
	t.Helper()
	st, f := newStore(t, path), formOf(t, `{}`)
	for range 2 {
		st.Of(remembered.Options{Identity: "server"}).Answered(f, "-", answer(result))
	}
	st.Of(remembered.Options{Identity: "server"}).Listed(f, "-", 1, mcp.MethodToolsList, []byte(`{"tools":[]}`))
	st.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return good
}

// TestHostileFile: a file that cannot be used is dropped and said, whatever is in it, and begun anew.
func TestHostileFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f, good := formOf(t, `{}`), goodFile(t, path)
	edit := func(change func(server, form map[string]any)) string {
		var all map[string]any
		if err := json.Unmarshal(good, &all); err != nil {
			t.Fatal(err)
		}
		server := all["Servers"].([]any)[0].(map[string]any)
		change(server, server["Forms"].([]any)[0].(map[string]any))
		content, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	initialize := func(name string, value any) string {
		return edit(func(_, form map[string]any) { form["Initialize"].(map[string]any)[name] = value })
	}
	contents := map[string]string{
		"not JSON":              "{",
		"another format":        strings.Replace(string(good), `"Format":1`, `"Format":2`, 1),
		"no format":             "{}",
		"a short key":           edit(func(server, _ map[string]any) { server["Key"] = "AAAA" }),
		"a short stamp":         edit(func(server, _ map[string]any) { server["OnDisk"] = "AAAA" }),
		"a short form":          edit(func(_, form map[string]any) { form["Key"] = "AAAA" }),
		"no result":             initialize("Result", nil),
		"what is no JSON":       initialize("Result", []byte("x")),
		"more than a result":    initialize("Result", []byte(`{},"x":{}`)),
		"two messages":          initialize("Result", []byte(`{}}{"jsonrpc":"2.0","id":0,"result":{}`)),
		"no object":             initialize("Result", []byte("7")),
		"what nobody gave":      initialize("Processes", 0),
		"a method that is none": edit(func(_, form map[string]any) { form["Lists"] = map[string]any{"tools/call": form["Initialize"]} }),
		"a list on several pages": edit(func(_, form map[string]any) {
			form["Lists"] = map[string]any{"tools/list": map[string]any{"Result": []byte(`{"nextCursor":"a"}`), "Processes": 2}}
		}),
	}
	for name, content := range contents {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		checkDropped(t, name, path, f)
	}
	// A time to come is not believed, and does no harm.
	if err := firstError(os.Remove(path), os.WriteFile(path, []byte(initialize("Confirmed", time.Now().Add(1000*time.Hour).Unix())), 0o600)); err != nil {
		t.Fatal(err)
	}
	want(t, "confirmed in the future", newStore(t, path).Of(remembered.Options{Identity: "server"}), f, "")
}

// TestFileOfOthers: so is a file that others may have written, or that is none.
func TestFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.json")
	f, good := formOf(t, `{}`), goodFile(t, path)
	modes := map[string]func() error{
		"read by others": func() error { return os.Chmod(path, 0o640) },
		"a link": func() error {
			to := path + "-elsewhere"
			return firstError(os.WriteFile(to, good, 0o600), os.Remove(path), os.Symlink(to, path))
		},
		"too large": func() error {
			return firstError(os.Remove(path), os.WriteFile(path, nil, 0o600), os.Truncate(path, 25<<20))
		},
	}
	if os.Getuid() == 0 {
		modes["another user's"] = func() error { return firstError(os.WriteFile(path, good, 0o600), os.Chown(path, 4711, -1)) }
	}
	for name, change := range modes {
		_ = os.Remove(path) // of the case before
		if err := firstError(os.WriteFile(path, good, 0o600), change()); err != nil {
			t.Fatal(name, err)
		}
		checkDropped(t, name, path, f)
	}
}

func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkDropped(t *testing.T, name, path string, f remembered.Form) {
	t.Helper()
	var log bytes.Buffer
	st := remembered.NewStore(remembered.StoreOptions{Path: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	m := st.Of(remembered.Options{Identity: "server"})
	want(t, name, m, f, "")
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%s: %d warnings: %s", name, n, log.String())
	}
	m.Answered(f, "-", answer(result))
	st.Close()
	again := newStore(t, path)
	again.Of(remembered.Options{Identity: "server"}).Answered(f, "-", answer(result))
	want(t, name+", begun anew", again.Of(remembered.Options{Identity: "server"}), f, result)
	again.Close()
}

// TestBounds: sixteen forms of a server, 256 servers, 16 MiB in all; what was used longest ago goes.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(t, "")
		of := func(n int) *remembered.Memory { return st.Of(remembered.Options{Identity: fmt.Sprint(n)}) }
		form := func(n int) remembered.Form { return formOf(t, fmt.Sprintf(`{"n":%d}`, n)) }
		learn := func(server, n int, result string) {
			time.Sleep(time.Second)
			for range 2 {
				of(server).Answered(form(n), "-", answer(result))
			}
		}
		for n := range 16 {
			learn(0, n, result)
		}
		time.Sleep(time.Second)
		want(t, "the first of sixteen", of(0), form(0), result) // which is used by that
		learn(0, 16, result)
		want(t, "the one that was used longest ago", of(0), form(1), "")
		want(t, "the first of seventeen", of(0), form(0), result)
		for n := range 300 {
			learn(n+1, 0, result)
		}
		want(t, "the first of many servers", of(0), form(0), "")
		want(t, "the last of many servers", of(300), form(0), result)
		large := `{"a":"` + strings.Repeat("x", 1<<20-100) + `"}`
		learn(1000, 0, result)
		for n := range 15 {
			time.Sleep(time.Second)
			of(1000).Answered(form(1+n), "-", answer(large))
		}
		want(t, "the first of fifteen MiB", of(1000), form(0), result)
		learn(1001, 0, large)
		learn(1001, 1, large)
		want(t, "the last of much", of(1001), form(1), large)
		want(t, "the first of much", of(300), form(0), "")
		st.Close()
	})
}

// TestUnderLoad: everything at once.
func TestUnderLoad(t *testing.T) {
	st := newStore(t, filepath.Join(t.TempDir(), "memory.json"))
	var all sync.WaitGroup
	for n := range 8 {
		m := st.Of(remembered.Options{Identity: fmt.Sprint(n % 3)})
		all.Go(func() {
			for i := range 200 {
				f := formOf(t, fmt.Sprintf(`{"n":%d}`, i%10))
				m.Answered(f, "-", answer(result))
				m.Listed(f, "-", uint64(i+1), mcp.MethodToolsList, []byte(`{"tools":[]}`))
				m.Initialize(f)
				m.List(f, mcp.MethodToolsList)
				switch i % 50 {
				case 0:
					m.Withdraw(mcp.MethodToolsList)
				case 1:
					m.Failed()
				case 2:
					st.Drain()
				}
			}
		})
	}
	all.Wait()
	f := formOf(t, `{"n":9}`)
	want(t, "at the end", st.Of(remembered.Options{Identity: "0"}), f, result)
}
