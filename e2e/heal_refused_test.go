package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// TestHealingGivenUp: what comes back is not what was there, or the agent may not say so. The loss is passed on, nothing
// is run, and the daemon does not try for ever.
func TestHealingGivenUp(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*persona){
		"another protocol version": func(p *persona) { p.version = "2025-06-18" },
		"another server":           func(p *persona) { p.name = "somebody else" },
		"other capabilities":       func(p *persona) { p.capabilities = `{"tools":{}}` },
		"one that lets nobody in":  func(p *persona) { p.tokens = []string{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "all")
			k := d.begin(t, "Authorization: Bearer one")
			k.right(k.call("before"))
			f.become(change)
			f.restart()
			if name != "one that lets nobody in" { // it says 401 and not that the session is gone
				passedOn(t, k.list())
				passedOn(t, k.call("refused"))
				if r := k.say(notification("notifications/roots/list_changed")); r.status != http.StatusNotFound {
					t.Errorf("a notification: %d %s", r.status, r.body)
				}
			} else if r := k.list(); r.status != http.StatusUnauthorized {
				t.Errorf("got %d %s, want the server's 401", r.status, r.body)
			}
			if n := f.runs("refused"); n != 0 {
				t.Errorf("the call ran %d times", n)
			}
			if n := f.saw("tools/call"); n > 2 {
				t.Errorf("the server got %d tools/call", n)
			}
			if n := d.heals("healed"); n != 0 {
				t.Errorf("%d healings are counted", n)
			}
			if n := f.saw("initialize"); n > 4 {
				t.Errorf("%d initialize for one session in a minute", n)
			}
			f.become(func(p *persona) { p.tokens = nil })
			fresh := d.begin(t, "Authorization: Bearer one") // an agent that begins anew is served
			fresh.right(fresh.list())
		})
	}
}

// TestStrangerDoesNotHeal: who knows a session's id and has a credential that the server never accepted in it gets the
// loss; the session's own agent is healed after that.
func TestStrangerDoesNotHeal(t *testing.T) {
	t.Parallel()
	for _, heal := range []string{"reads", "all"} {
		t.Run(heal, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, heal)
			k := d.begin(t, "Authorization: Bearer one")
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
	f.become(func(p *persona) { p.tokens = []string{"one", "two"} })
	k := d.begin(t, "Authorization: Bearer one")
	f.forget()
	k.right(k.list())
	k.right(k.as("Authorization: Bearer two").list())
	if n := f.saw("s2 tools/list"); n != 2 {
		t.Errorf("the new session was asked %d times, want 2", n)
	}
	if r := k.as("Authorization: Bearer three").list(); r.status != http.StatusUnauthorized {
		t.Errorf("a credential that the server refuses: %d %s", r.status, r.body)
	}
}

// TestHealOff passes the loss on as the server said it.
func TestHealOff(t *testing.T) {
	t.Parallel()
	for name, loss := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "off")
			f.become(func(p *persona) { p.lost = loss })
			k := d.begin(t)
			f.restart()
			got := k.list()
			direct := newAgent(t, strings.TrimSuffix(f.URL(), "/mcp"))
			want := direct.must(http.MethodPost, "/mcp", request("2", "tools/list"), k.with()...)
			if got.status != want.status || got.body != want.body || got.header.Get("Content-Type") != want.header.Get("Content-Type") {
				t.Errorf("got %d %q, the server says %d %q", got.status, got.body, want.status, want.body)
			}
			if r := k.call("refused"); r.status != want.status {
				t.Errorf("a call: %d %s", r.status, r.body)
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
	f := startForgetful(t)
	c := one(f.URL(), "").in(newPlaces(t))
	first := runSidecar(t, c)
	k := first.begin(t)
	k.right(k.list())
	first.stop(t, syscall.SIGTERM)

	second := runSidecar(t, c)
	k.agent = second.agent(t)
	k.right(k.list())
	k.right(k.call("between"))
	f.restart()
	passedOn(t, k.list())
	passedOn(t, k.call("refused"))
	if n := f.saw("initialize"); n != 1 {
		t.Errorf("%d initialize", n)
	}
	fresh := second.begin(t)
	fresh.right(fresh.call("fresh"))
}

// TestWhatIsWrittenOfHealing: a line at info for a healing and for one that was given up, without ids, tokens or what the
// agent said.
func TestWhatIsWrittenOfHealing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := d.begin(t, "Authorization: Bearer hush-hush")
	f.forget()
	k.right(k.list())
	f.become(func(p *persona) { p.name = "somebody else" })
	f.forget()
	passedOn(t, k.list())
	var lines []string
	d.eventually("two lines about the session", func() bool {
		lines = lines[:0]
		for line := range strings.Lines(d.out.String()) {
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
		if strings.Contains(d.out.String(), secret) {
			t.Errorf("the log has %q in it:\n%s", secret, d.out)
		}
	}
	m := d.scrape()
	total := m.sum("fluentd_perf_session_heals_total", `upstream="s"`)
	if healed := m.sum("fluentd_perf_session_heals_total", `result="healed"`); healed != 1 || total != 2 {
		t.Errorf("%v healed of %v, want 1 of 2", healed, total)
	}
}
