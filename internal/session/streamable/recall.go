package streamable

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/remembered"
)

// A session whose initialize is remembered is opened without a process, and asks for none while it asks for nothing else than lists that
// are remembered, too. From then on it is a session whose process has gone (recovery.go), but that nothing was lost: the agent's
// initialize and what it said after it are said to a process, and what waits is sent. That process is compared with what the agent was
// told. What the agent may then be told is that lists have changed.

// recalled is a session that was opened from memory and has had no process yet. Guarded by the session's lock.
type recalled struct {
	result []byte                  // of initialize, that its agent was given
	lists  map[mcp.Method][32]byte // that it was given from memory, or may have been given by a cache: remembered.Sum
}

// family is what a list_changed is about, as a bit. It stands in the sessions' file.
type family uint8

const (
	familyTools family = 1 << iota
	familyPrompts
	familyResources
)

// families are the lists of which a notification says that they have changed (2025-11-25, server/tools, server/prompts,
// server/resources).
var families = []struct {
	family
	name   string // of the notification, and of the capability
	lists  []mcp.Method
	notice []byte
}{
	{familyTools, "tools", []mcp.Method{mcp.MethodToolsList}, listChanged("tools")},
	{familyPrompts, "prompts", []mcp.Method{mcp.MethodPromptsList}, listChanged("prompts")},
	{familyResources, "resources", []mcp.Method{mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList}, listChanged("resources")},
}

func listChanged(name string) []byte {
	return []byte(`{"jsonrpc":"2.0","method":"notifications/` + name + `/list_changed"}`)
}

// recall opens a session from memory; nil where that has no answer to its initialize.
func (f *Front) recall(c *mcp.Call) *mcp.Result {
	begun := time.Now()
	whole := c.Message.Whole.Of(c.Body)
	if f.opts.Memory == nil || !c.Regular() || len(whole) > maxInitialize {
		return nil
	}
	form, ok := remembered.FormOf(c.Message.Params.Of(c.Body))
	if !ok {
		return nil
	}
	result := f.opts.Memory.Initialize(form)
	if result == nil {
		return nil
	}
	res := recalledResult(c, result)
	s := newSession(f, rand.Text(), f.opts.Partition(c))
	s.initialize, s.recalled = slices.Clone(whole), &recalled{result: result, lists: f.believed(form)}
	if s.facts, s.version, ok = factsOf(res.Body, &res.Message); !ok {
		return nil
	}
	f.opts.Store.add(s)
	res.Header.Set(sessionHeader, s.id)
	f.opts.Recalled(whole, scanned(whole), time.Since(begun))
	if f.opts.Eager {
		s.mu.Lock()
		s.beginLocked()
		s.mu.Unlock()
	}
	return res
}

// believed returns the remembered.Sum of each list that is remembered. It is asked when a session is opened: a cache may give the agent
// these lists, and when a process is compared with them they may be remembered no more, because the server was changed.
func (f *Front) believed(form remembered.Form) map[mcp.Method][32]byte {
	sums := make(map[mcp.Method][32]byte)
	for _, method := range remembered.Lists {
		if list := f.opts.Memory.List(form, method); list != nil {
			sums[method] = remembered.Sum(list)
		}
	}
	return sums
}

// recalledResult is an answer from memory.
func recalledResult(c *mcp.Call, result []byte) *mcp.Result {
	body := slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), c.ID(), []byte(`,"result":`), result, []byte("}"))
	res := jsonResult(c, body, scanned(body))
	res.Remembered = true
	return res
}

// recallList answers a list from memory; nil where the session has a process, or that list is not remembered.
func (s *session) recallList(c *mcp.Call) *mcp.Result {
	if !isPlainList(c) || !s.isRecalled() {
		return nil
	}
	form, ok := s.form()
	if !ok {
		return nil
	}
	result := s.f.opts.Memory.List(form, c.Method())
	if result == nil {
		return nil
	}
	sum := remembered.Sum(result)
	s.mu.Lock()
	if s.recalled == nil {
		s.mu.Unlock()
		return nil
	}
	before := s.recalled.lists[c.Method()]
	s.recalled.lists[c.Method()] = sum
	s.mu.Unlock()
	if before != sum {
		s.f.opts.Store.saver.Changed()
	}
	return recalledResult(c, result)
}

// isPlainList reports whether a call asks for a list and says nothing else.
func isPlainList(c *mcp.Call) bool {
	return slices.Contains(remembered.Lists, c.Method()) && c.Regular() && saysNothing(c.Message.Params.Of(c.Body))
}

// saysNothing reports whether params have nothing in them.
func saysNothing(params []byte) bool {
	if params == nil {
		return true
	}
	var members map[string]map[string]struct{}
	if json.Unmarshal(params, &members) != nil || members == nil {
		return false
	}
	meta := members["_meta"]
	return len(members) == 0 || len(members) == 1 && meta != nil && len(meta) == 0
}

// isRecalled reports whether the session was opened from memory and has had no process yet.
func (s *session) isRecalled() bool {
	if s.f.opts.Memory == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recalled != nil && !s.ended
}

// form is that of the session's initialize.
func (s *session) form() (remembered.Form, bool) {
	var m mcp.Message
	if mcp.Scan(s.initialize, &m) != nil {
		return remembered.Form{}, false
	}
	return remembered.FormOf(m.Params.Of(s.initialize))
}

// Recalled returns how many sessions were opened from memory and have had no process yet.
func (f *Front) Recalled() (n int) {
	for _, s := range f.opts.Store.of(f) {
		if s.isRecalled() {
			n++
		}
	}
	return n
}

// acceptLocked reports whether a process is one for the session, whose initialize it has answered: nothing may differ that
// the agent may count on. Where the agent was answered from memory, there may be more than it knows of.
func (s *session) acceptLocked(facts [32]byte, result []byte) bool {
	switch {
	case facts == s.facts:
		return true
	case s.recalled == nil:
		return false
	case !covers(result, s.recalled.result):
		s.recalled = nil // it needed a process
		return false
	}
	s.facts = facts
	return true
}

// covers reports whether a result of initialize has the protocol version, the server's name and all capabilities of another one.
func covers(result, other []byte) bool {
	type initialized struct {
		ProtocolVersion string
		Capabilities    map[string]any
		ServerInfo      struct{ Name string }
	}
	var now, before initialized
	if json.Unmarshal(result, &now) != nil || json.Unmarshal(other, &before) != nil {
		return false
	}
	return now.ProtocolVersion == before.ProtocolVersion && now.ServerInfo == before.ServerInfo && hasAll(now.Capabilities, before.Capabilities)
}

// hasAll reports whether a value says all that another one does: the members of objects, and true.
func hasAll(value, other any) bool {
	switch other := other.(type) {
	case map[string]any:
		members, ok := value.(map[string]any)
		for name, one := range other {
			if own, has := members[name]; !has && one != false && one != nil || has && !hasAll(own, one) {
				return false
			}
		}
		return ok || value == nil && len(other) == 0
	case []any:
		return equalJSON(value, other)
	case nil:
		return true
	}
	return value == other || other == false && value == true
}

func equalJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// confirmation is what a session has been told from memory that no process has been compared with yet. It outlives a process that ends
// before it has answered, and the daemon. Guarded by the session's lock.
type confirmation struct {
	lists    map[mcp.Method][32]byte // remembered.Sum of those that are still to be compared, one at least
	declared family                  // of which the agent was told that it would hear of changes
}

// attachedLocked notes that a session that was opened from memory has a process.
func (s *session) attachedLocked() {
	if s.recalled == nil {
		return
	}
	if len(s.recalled.lists) > 0 {
		s.confirmation = &confirmation{lists: s.recalled.lists, declared: declaredBy(s.recalled.result)}
	}
	s.recalled = nil
}

// declaredBy returns of which lists a result of initialize promises notifications.
func declaredBy(result []byte) (all family) {
	capabilities := mcp.MemberOf(result, "capabilities")
	for _, f := range families {
		if string(mcp.MemberOf(mcp.MemberOf(capabilities, f.name), "listChanged")) == "true" {
			all |= f.family
		}
	}
	return all
}

// confirm asks a process for the lists that the session was given from memory, or may have been given by a cache, as soon as the process
// has been told that it is initialized and before it is told anything else. Nobody waits for the answers: they are compared when they
// come. What has no answer when the process ends, the next one is asked for.
func (s *session) confirm(ctx context.Context, l *link) {
	confirmed := s.unconfirmed(l)
	for _, method := range confirmed {
		if f := askList(ctx, l, method, s.compare); f != nil {
			return // it has ended
		}
	}
	for _, method := range s.unlearned(l) {
		if slices.Contains(confirmed, method) {
			continue
		}
		if f := askList(ctx, l, method, s.learn); f != nil {
			return
		}
	}
}

// askList asks a process for a list, and has take take the answer when it comes.
func askList(ctx context.Context, l *link, method mcp.Method, take func(*link, mcp.Method, []byte, *mcp.Message)) *mcp.Failure {
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"method":%q}`, method.String())
	_, f := l.server.Request(ctx, body, scanned(body), func(data []byte, m *mcp.Message) {
		if m.Kind.IsAnswer() {
			take(l, method, data, m)
		}
	})
	return f
}

// unconfirmed returns the lists that a process is to be asked for, once for each process.
func (s *session) unconfirmed(l *link) (methods []mcp.Method) {
	if s.f.opts.Memory == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.confirmation
	if own == nil || s.link != l || l.compared {
		return nil
	}
	l.compared = true
	for _, method := range remembered.Lists {
		if _, ok := own.lists[method]; ok {
			methods = append(methods, method)
		}
	}
	return methods
}

// confirmedLocked takes a list out of those that are still to be compared, and returns what the agent was given; false where there is
// nothing to compare it with.
func (s *session) confirmedLocked(method mcp.Method) (given [32]byte, declared family, ok bool) {
	own := s.confirmation
	if own == nil {
		return given, 0, false
	}
	if given, ok = own.lists[method]; ok {
		delete(own.lists, method)
		s.f.opts.Store.saver.Changed()
	}
	if len(own.lists) == 0 {
		s.confirmation = nil
	}
	return given, own.declared, ok
}

// compare compares a list of a process with that which the agent was given.
func (s *session) compare(l *link, method mcp.Method, data []byte, m *mcp.Message) {
	of := familyOf(method)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.listed |= of
	given, declared, ok := s.confirmedLocked(method)
	if m.Kind == mcp.KindResult && !m.Loose && !m.Ambiguous {
		result := m.Result.Of(data)
		if !s.state { // else what was called meanwhile may have changed it, for this session alone
			l.observe(method, result)
		}
		if remembered.Sum(result) == given {
			return
		}
	} else {
		s.f.opts.Memory.Withdraw(method)
	}
	if !ok || declared&of == 0 || l.changed&of != 0 { // it has said so itself, or the agent has had this one
		return
	}
	l.changed |= of
	s.f.opts.Log.Info("a list has changed that a session was given from memory", "upstream", s.f.opts.Upstream, "method", method.String())
	s.tellAgentLocked(noticeOf(of))
}

func familyOf(method mcp.Method) family {
	for _, f := range families {
		if slices.Contains(f.lists, method) {
			return f.family
		}
	}
	return 0
}

func noticeOf(of family) []byte {
	for _, f := range families {
		if f.family == of {
			return f.notice
		}
	}
	return nil
}

// tellAgentLocked puts a notification of the daemon's own on the session's GET stream, else on that of the oldest call under way, else on
// that of the next one.
func (s *session) tellAgentLocked(notice []byte) {
	e := &event{data: notice, m: *scanned(notice), general: true}
	if s.get.reader == nil {
		for _, c := range s.calls {
			if c.st.carriesGeneral() && !c.cancelled {
				c.st.addLocked(e)
				return
			}
		}
	}
	s.get.addLocked(e)
}

// The rest is what is learned from processes.

// diskReader is a Server that says what was on disk before its process was started. Of others nothing is learned.
type diskReader interface{ OnDisk() string }

// know notes whose answers a link gives.
func (l *link) know(server Server) {
	d, ok := server.(diskReader)
	if !ok || l.s.f.opts.Memory == nil {
		return
	}
	if l.form, ok = l.s.form(); ok {
		l.onDisk, l.process = d.OnDisk(), mathrand.Uint64()|1
		l.roots = hasRoots(l.s.initialize)
	}
}

// hasRoots reports whether an initialize declares that its agent may be asked for roots.
func hasRoots(initialize []byte) bool {
	return mcp.MemberOf(mcp.MemberOf(mcp.MemberOf(initialize, "params"), "capabilities"), "roots") != nil
}

// observe learns from a list that a process gave. Once its agent has answered something that it had asked, with its roots say, what it
// says may be that agent's alone: then only what it had said before, in the same words, is not.
func (l *link) observe(method mcp.Method, result []byte) {
	if l.process != 0 && (!l.answered || l.own[method] == remembered.Sum(result)) {
		l.s.f.opts.Memory.Listed(l.form, l.onDisk, l.process, method, result)
	}
}

// lateLocked notes that an agent asks for a list after it has answered the process: the next processes are asked before.
func (s *session) lateLocked(l *link, method mcp.Method) {
	if i := slices.Index(remembered.Lists, method); l.answered && l.roots {
		s.f.late.Or(1 << i)
	}
}

// unlearned returns the lists that a process is asked for because nobody remembers them, and its agent may answer the process before it
// asks for them: then nothing would ever be learned of them. Once for each process.
func (s *session) unlearned(l *link) (methods []mcp.Method) {
	late := s.f.late.Load()
	if late == 0 || l.process == 0 || !l.roots {
		return nil
	}
	for i, method := range remembered.Lists {
		if late&(1<<i) != 0 && s.f.opts.Memory.List(l.form, method) == nil {
			methods = append(methods, method)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || l.asked || l.answered || s.state {
		return nil
	}
	l.asked, l.own = true, make(map[mcp.Method][32]byte)
	return methods
}

// learn notes what a process has given before its agent answered it. It is believed where the agent is given the same after that.
func (s *session) learn(l *link, method mcp.Method, data []byte, m *mcp.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.listed |= familyOf(method)
	if m.Kind == mcp.KindResult && !m.Loose && !m.Ambiguous && !l.answered && !s.state {
		l.own[method] = remembered.Sum(m.Result.Of(data))
	}
}

// listedLocked learns from the answer to a call of the agent's for a list. Only what a process answers that has been asked for nothing
// else says what another one will.
func (s *session) listedLocked(c *call, data []byte, m *mcp.Message) {
	of := familyOf(c.m.Method)
	if of == 0 {
		return
	}
	c.l.listed |= of
	if m.Kind == mcp.KindResult && c.lists && !c.cancelled {
		s.confirmedLocked(c.m.Method) // from now on the agent has what a process gave
	}
	if c.learns && !s.state && m.Kind == mcp.KindResult && !m.Loose && !m.Ambiguous {
		s.lateLocked(c.l, c.m.Method)
		c.l.observe(c.m.Method, m.Result.Of(data))
	}
}

// afterRoots is how soon after it was given roots a server that has other lists for them says so.
const afterRoots = 5 * time.Second

// changedLocked takes notice of a list_changed of a process's. Before it has given the list that says nothing: some servers say so of each
// tool that they have as soon as they are initialized. Soon after its agent has given it roots it speaks of what it has for these, and
// agents with other capabilities may get what they got before.
func (s *session) changedLocked(l *link, data []byte, m *mcp.Message) {
	if m.Kind != mcp.KindNotification || m.Method != mcp.MethodOther || s.f.opts.Memory == nil {
		return
	}
	name, _ := mcp.Text(m.MethodName.Of(data))
	for _, f := range families {
		if name != "notifications/"+f.name+"/list_changed" {
			continue
		}
		l.changed |= f.family
		switch {
		case l.listed&f.family == 0:
		case l.process != 0 && !l.rooted.IsZero() && time.Since(l.rooted) < afterRoots:
			s.f.opts.Memory.WithdrawOf(l.form, f.lists...)
		default:
			s.f.opts.Memory.Withdraw(f.lists...)
		}
	}
}
