package mcp

// Method is a method name that the daemon knows, as a small number fit for tables and metric labels.
type Method uint8

// The methods of all five protocol versions that a client may send, and the two names that stand for the rest.
const (
	MethodNone  Method = iota // no method: a response, a GET, a DELETE
	MethodOther               // a name that the daemon does not know
	MethodInitialize
	MethodPing
	MethodServerDiscover
	MethodToolsList
	MethodToolsCall
	MethodPromptsList
	MethodPromptsGet
	MethodResourcesList
	MethodResourcesTemplatesList
	MethodResourcesRead
	MethodResourcesSubscribe
	MethodResourcesUnsubscribe
	MethodCompletionComplete
	MethodLoggingSetLevel
	MethodSubscriptionsListen
	MethodTasksGet
	MethodTasksResult
	MethodTasksList
	MethodTasksCancel
	MethodTasksUpdate
	MethodInitialized
	MethodCancelled
	MethodProgress
	MethodRootsListChanged
	methodCount
)

// MethodCount is the number of Methods, for tables indexed by Method.
const MethodCount = int(methodCount)

var methodNames = [methodCount]string{
	MethodNone:                   "none",
	MethodOther:                  "other",
	MethodInitialize:             "initialize",
	MethodPing:                   "ping",
	MethodServerDiscover:         "server/discover",
	MethodToolsList:              "tools/list",
	MethodToolsCall:              "tools/call",
	MethodPromptsList:            "prompts/list",
	MethodPromptsGet:             "prompts/get",
	MethodResourcesList:          "resources/list",
	MethodResourcesTemplatesList: "resources/templates/list",
	MethodResourcesRead:          "resources/read",
	MethodResourcesSubscribe:     "resources/subscribe",
	MethodResourcesUnsubscribe:   "resources/unsubscribe",
	MethodCompletionComplete:     "completion/complete",
	MethodLoggingSetLevel:        "logging/setLevel",
	MethodSubscriptionsListen:    "subscriptions/listen",
	MethodTasksGet:               "tasks/get",
	MethodTasksResult:            "tasks/result",
	MethodTasksList:              "tasks/list",
	MethodTasksCancel:            "tasks/cancel",
	MethodTasksUpdate:            "tasks/update",
	MethodInitialized:            "notifications/initialized",
	MethodCancelled:              "notifications/cancelled",
	MethodProgress:               "notifications/progress",
	MethodRootsListChanged:       "notifications/roots/list_changed",
}

// String returns the method's name on the wire, "other" or "none".
func (m Method) String() string { return methodNames[m] }

var methodsByName = func() map[string]Method {
	byName := make(map[string]Method, methodCount)
	for m := MethodOther + 1; m < methodCount; m++ {
		byName[methodNames[m]] = m
	}
	return byName
}()

// MethodOf returns the Method of a name on the wire, or MethodOther. It does not allocate.
func MethodOf(name []byte) Method {
	if m, ok := methodsByName[string(name)]; ok {
		return m
	}
	return MethodOther
}

// Handshake reports whether a call of the method asks no more than whether the server is there and what it is. It answers
// within `timeouts.handshake`.
func (m Method) Handshake() bool {
	return m == MethodInitialize || m == MethodServerDiscover || m == MethodPing
}

// Unhurried reports whether a call of the method may take as long as `timeouts.call` to its first byte and between
// events: tools/call, tasks/result and what the daemon does not know run for as long as the work takes. All others but Handshake
// answer within `timeouts.first_byte` and `timeouts.idle`.
func (m Method) Unhurried() bool {
	return m == MethodToolsCall || m == MethodTasksResult || m == MethodOther
}
