package mcp

// Repeatable reports whether the call may be sent again though nobody knows whether it ran: a request that is valid in a
// version that the daemon knows, of a method that only reads or says the same twice. What belongs to one request alone
// (2026-07-28, SEP-2322: inputResponses, requestState; a task; a progress token; a log level) makes it none. The operator's
// lists of tools and methods come beside it.
func (c *Call) Repeatable() bool {
	return repeatable(c.Message.Method) && c.Regular()
}

func repeatable(m Method) bool {
	switch m {
	case MethodServerDiscover, MethodToolsList, MethodPromptsList, MethodResourcesList, MethodResourcesTemplatesList,
		MethodResourcesRead, MethodPromptsGet, MethodCompletionComplete,
		MethodPing, MethodLoggingSetLevel, MethodResourcesSubscribe, MethodResourcesUnsubscribe, MethodTasksGet:
		return true
	}
	return false
}

// Hedgeable reports whether a second call may be sent to another server beside it: one of the six methods with nothing but
// an answer.
func (c *Call) Hedgeable() bool {
	switch c.Message.Method {
	case MethodServerDiscover, MethodToolsList, MethodPromptsList, MethodResourcesList, MethodResourcesTemplatesList,
		MethodResourcesRead:
		return c.Regular()
	}
	return false
}

// Regular reports whether a request is valid in a version that the daemon knows and has nothing in it that belongs to it
// alone or that reads in two ways: what may be done with its method may be done with it. Of a plain one the version is no
// matter.
func (c *Call) Regular() bool {
	m := &c.Message
	if c.Lane != LaneRequest || m.Kind != KindRequest || m.Ambiguous || m.Loose || c.Mismatch || isNullID(c.ID()) {
		return false
	}
	if c.Era == EraPlain {
		return true
	}
	return c.knownVersion() && c.WellFormed() && !m.InputResponses.Present() && !m.RequestState.Present() &&
		!m.Task.Present() && !m.ProgressToken.Present() && !m.LogLevel.Present()
}

func (c *Call) knownVersion() bool {
	return KnownVersion(c.Version) || c.Version == "" && c.Era == EraLegacy
}

// WellFormed reports whether the params of a request are what its method asks for, as far as Message has them.
func (c *Call) WellFormed() bool {
	m, b := &c.Message, c.Body
	if p := m.Params.Of(b); p != nil && p[0] != '{' {
		return false
	}
	switch m.Method {
	case MethodResourcesRead, MethodResourcesSubscribe, MethodResourcesUnsubscribe:
		return isString(m.URI.Of(b))
	case MethodToolsCall, MethodPromptsGet:
		return isString(m.Name.Of(b))
	}
	return !m.Cursor.Present() || isString(m.Cursor.Of(b))
}

func isString(token []byte) bool { return len(token) > 0 && token[0] == '"' }

func isNullID(id []byte) bool { return len(id) == 0 || id[0] == 'n' }
