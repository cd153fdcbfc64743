// When a lost session is not opened anew: another server, another credential, or the operator's word.

package session

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestHealingGivenUp: what comes back is not what was there, or the agent may not say so. The loss is passed on, nothing
// is run, and the daemon does not try for ever.
func TestHealingGivenUp(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*identity){
		"another protocol version": func(p *identity) { p.version = "2025-06-18" },
		"another server":           func(p *identity) { p.name = "somebody else" },
		"other capabilities":       func(p *identity) { p.capabilities = `{"tools":{}}` },
		"one that lets nobody in":  func(p *identity) { p.tokens = []string{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "all")
			k := beginSession(t, d, "Authorization: Bearer one")
			k.right(k.call("before"))
			f.become(change)
			f.restart()
			if name != "one that lets nobody in" { // it says 401 and not that the session is gone
				passedOn(t, k.list())
				passedOn(t, k.call("refused"))
				if r := k.say(harness.Notification("notifications/roots/list_changed")); r.Status != http.StatusNotFound {
					t.Errorf("a notification: %d %s", r.Status, r.Body)
				}
			} else if r := k.list(); r.Status != http.StatusUnauthorized {
				t.Errorf("got %d %s, want the server's 401", r.Status, r.Body)
			}
			if n := f.runs("refused"); n != 0 {
				t.Errorf("the call ran %d times", n)
			}
			if n := f.saw("tools/call"); n > 2 {
				t.Errorf("the server got %d tools/call", n)
			}
			if n := heals(d, "healed"); n != 0 {
				t.Errorf("%d healings are counted", n)
			}
			if n := f.saw("initialize"); n > 4 {
				t.Errorf("%d initialize for one session in a minute", n)
			}
			f.become(func(p *identity) { p.tokens = nil })
			fresh := beginSession(t, d, "Authorization: Bearer one") // an agent that begins anew is served
			fresh.right(fresh.list())
		})
	}
}

// TestAnotherCredentialDoesNotHeal: who knows a session's id and has a credential that the server never accepted in it gets the
// loss; the session's own agent is healed after that.
func TestAnotherCredentialDoesNotHeal(t *testing.T) {
	t.Parallel()
	for _, heal := range []string{"reads", "all"} {
		t.Run(heal, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, heal)
			k := beginSession(t, d, "Authorization: Bearer one")
			k.right(k.list())
			f.forget()
			for _, fields := range [][]string{{"Authorization: Bearer two"}, {"X-Api-Key: three"}, nil} {
				stranger := k.as(fields...)
				passedOn(t, stranger.list())
				passedOn(t, stranger.call("stolen"))
			}
			if n := f.saw("initialize"); n != 1 {
				t.Errorf("%d initialize: a stranger opened a session", n)
			}
			k.right(k.list())
			if n := f.runs("stolen"); n != 0 {
				t.Errorf("the stranger's call ran %d times", n)
			}
		})
	}
}

// TestRefreshedCredential: after the healing another credential goes on with the new id, and the server judges it.
func TestRefreshedCredential(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "all")
	f.become(func(p *identity) { p.tokens = []string{"one", "two"} })
	k := beginSession(t, d, "Authorization: Bearer one")
	f.forget()
	k.right(k.list())
	k.right(k.as("Authorization: Bearer two").list())
	if n := f.saw("s2 tools/list"); n != 2 {
		t.Errorf("the new session was asked %d times, want 2", n)
	}
	if r := k.as("Authorization: Bearer three").list(); r.Status != http.StatusUnauthorized {
		t.Errorf("a credential that the server refuses: %d %s", r.Status, r.Body)
	}
}

// TestHealOff passes the loss on as the server said it.
func TestHealOff(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "off")
			f.become(func(p *identity) { p.lost = loss })
			k := beginSession(t, d)
			f.restart()
			got := k.list()
			direct := harness.NewAgent(t, strings.TrimSuffix(f.URL(), "/mcp"))
			want := direct.Must(http.MethodPost, "/mcp", harness.Request("2", "tools/list"), k.with()...)
			if got.Status != want.Status || got.Body != want.Body || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
				t.Errorf("got %d %q, the server says %d %q", got.Status, got.Body, want.Status, want.Body)
			}
			if r := k.call("refused"); r.Status != want.Status {
				t.Errorf("a call: %d %s", r.Status, r.Body)
			}
			if n := f.saw("initialize"); n != 1 {
				t.Errorf("%d initialize", n)
			}
		})
	}
}

// TestDaemonRestartedBetween: the daemon does not know how the session began, so the loss is passed on. A session that
// the server still has goes on.
func TestDaemonRestartedBetween(t *testing.T) {
	t.Parallel()
	f := startSessionServer(t)
	c := harness.OneUpstream(f.URL(), "").In(harness.NewFolders(t))
	first := harness.Start(t, c)
	k := beginSession(t, first)
	k.right(k.list())
	first.Stop(t, syscall.SIGTERM)

	second := harness.Start(t, c)
	k.Agent = second.Agent(t)
	k.right(k.list())
	k.right(k.call("between"))
	f.restart()
	passedOn(t, k.list())
	passedOn(t, k.call("refused"))
	if n := f.saw("initialize"); n != 1 {
		t.Errorf("%d initialize", n)
	}
	fresh := beginSession(t, second)
	fresh.right(fresh.call("fresh"))
}

// TestWhatIsWrittenOfHealing: a line at info for a healing and for one that was given up, without ids, tokens or what the
// agent said.
func TestWhatIsWrittenOfHealing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d, "Authorization: Bearer hush-hush")
	f.forget()
	k.right(k.list())
	f.become(func(p *identity) { p.name = "somebody else" })
	f.forget()
	passedOn(t, k.list())
	var lines []string
	d.Eventually("two lines about the session", func() bool {
		lines = lines[:0]
		for line := range strings.Lines(d.Out.String()) {
			if strings.Contains(line, "session") && !strings.Contains(line, "msg=request") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return len(lines) >= 2
	})
	t.Logf("the log says\n%s", strings.Join(lines, "\n"))
	for _, line := range lines {
		if !strings.Contains(line, "upstream=s") || !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=WARN") {
			t.Errorf("the log says %q", line)
		}
	}
	for _, secret := range []string{"hush", "hello\"", "clientInfo", "=s1", "=s2"} {
		if strings.Contains(d.Out.String(), secret) {
			t.Errorf("the log has %q in it:\n%s", secret, d.Out)
		}
	}
	m := d.Scrape()
	total := m.Sum("fluentd_perf_session_heals_total", `upstream="s"`)
	if healed := m.Sum("fluentd_perf_session_heals_total", `result="healed"`); healed != 1 || total != 2 {
		t.Errorf("%v healed of %v, want 1 of 2", healed, total)
	}
}
