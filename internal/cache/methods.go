package cache

import "fluentd-perf/internal/mcp"

// family is a group of methods whose answers are invalidated together.
type family uint8

// The families of an upstream.
const (
	familyOther     family = iota // whatever else may share a flight, and all of a server without MCP
	familyTools                   // tools/list
	familyPrompts                 // prompts/list
	familyResources               // resources/list and resources/templates/list
	familyRead                    // resources/read
	familyDiscover                // server/discover
	familyCalls                   // tools/call
	familyCount
)

var familyNames = [familyCount]string{"other", "tools", "prompts", "resources", "read", "discover", "calls"}

// methodRule is what the cache may do with a method.
type methodRule struct {
	family family
	cache  bool // its answers may be kept (2026-07-28, server/utilities/caching); those of tools/call only as the operator says
	share  bool // equal calls in flight may be one call
	list   bool // the answer is a list in pages
	reads  bool // it leaves what the server shows the session as it is
}

// methodRules is the table of methods; those that are not in it are only relayed.
var methodRules = [mcp.MethodCount]methodRule{
	mcp.MethodServerDiscover:         {familyDiscover, true, true, false, true},
	mcp.MethodToolsList:              {familyTools, true, true, true, true},
	mcp.MethodPromptsList:            {familyPrompts, true, true, true, true},
	mcp.MethodResourcesList:          {familyResources, true, true, true, true},
	mcp.MethodResourcesTemplatesList: {familyResources, true, true, true, true},
	mcp.MethodResourcesRead:          {familyRead, true, true, false, true},
	mcp.MethodPromptsGet:             {familyOther, false, true, false, true},
	mcp.MethodCompletionComplete:     {familyOther, false, true, false, true},
	mcp.MethodToolsCall:              {family: familyCalls},
	mcp.MethodInitialize:             {reads: true},
	mcp.MethodPing:                   {reads: true},
	mcp.MethodLoggingSetLevel:        {reads: true},
}

// isCached reports whether answers to a method of MCP's are ever cached.
func isCached(m mcp.Method) bool { return methodRules[m].cache || m == mcp.MethodToolsCall }
