package stdio

import (
	"encoding/json"
	"strconv"
	"sync"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// maxTools is of how many tools it is remembered which of their arguments have headers.
const maxTools = 1_000

// paramHeaders are the Mcp-Param-* headers of the tools on the lists that have passed (2026-07-28, SEP-2243). A server over HTTP checks
// them; here nobody else can. What was never listed is not checked.
type paramHeaders struct {
	mu     sync.Mutex // guards byTool
	byTool map[string]mcp.ParamHeaders
}

// learn takes in a list of tools.
func (p *paramHeaders) learn(result []byte) {
	var list struct {
		Tools []struct {
			Name        string
			InputSchema mcp.ParamHeaders
		}
	}
	if json.Unmarshal(result, &list) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, tool := range list.Tools {
		delete(p.byTool, tool.Name)
		if len(tool.InputSchema) == 0 || len(p.byTool) >= maxTools {
			continue
		}
		if p.byTool == nil {
			p.byTool = make(map[string]mcp.ParamHeaders)
		}
		p.byTool[tool.Name] = tool.InputSchema
	}
}

// differ reports whether a header is missing from a tools/call, or says something else than the argument.
func (p *paramHeaders) differ(c *mcp.Call) bool {
	if c.Method() != mcp.MethodToolsCall {
		return false
	}
	name, _ := mcp.Text(c.Message.Name.Of(c.Body))
	p.mu.Lock()
	headers := p.byTool[name]
	p.mu.Unlock()
	if headers == nil {
		return false
	}
	var want header.List
	headers.Set(&want, c.Message.Params.Of(c.Body))
	for _, f := range want {
		got, fields := c.Header.Find(f.Name)
		if fields != 1 || !sameParam(mcp.HeaderText(got), mcp.HeaderText(f.Value)) {
			return true
		}
	}
	return false
}

// sameParam compares two values: as numbers where both are.
func sameParam(a, b string) bool {
	if a == b {
		return true
	}
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && x == y
}
