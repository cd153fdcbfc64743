package demo

import (
	"io"
	"strings"
)

// Help is what the demo verb prints; every 127.0.0.1:7300 in it becomes the daemon's real address, PROGRAM the name
// by which it was started, and SOCKET its admin socket. docs/getting-started.md shows the same curl
// commands, and a test runs them.
const Help = `The demo server is running behind fluentd-perf at http://127.0.0.1:7300/mcp/demo

Try it with curl. The new way (protocol 2026-07-28) needs no session:

  curl -s http://127.0.0.1:7300/mcp/demo \
    -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' \
    -H 'Mcp-Method: tools/list' \
    -d '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{
         "io.modelcontextprotocol/protocolVersion":"2026-07-28",
         "io.modelcontextprotocol/clientCapabilities":{}}}}'

The old way (up to 2025-11-25, what most agents speak) opens a session first:

  SESSION=$(curl -s -o /dev/null -D - http://127.0.0.1:7300/mcp/demo \
    -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' \
    -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",
         "capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}' |
    tr -d '\r' | awk 'tolower($1) == "mcp-session-id:" {print $2}')

  curl -s http://127.0.0.1:7300/mcp/demo \
    -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2025-11-25' \
    -H "Mcp-Session-Id: $SESSION" \
    -d '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":40,"b":2}}}'

Ask twice for something that the server lets be kept: the second answer has
"Cache-Status: fluentd-perf; hit; ttl=...; detail=memory" among its headers, and never went to the server.

  curl -s -i http://127.0.0.1:7300/mcp/demo \
    -H 'Content-Type: application/json' \
    -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' \
    -H 'Mcp-Method: prompts/list' \
    -d '{"jsonrpc":"2.0","id":3,"method":"prompts/list","params":{"_meta":{
         "io.modelcontextprotocol/protocolVersion":"2026-07-28",
         "io.modelcontextprotocol/clientCapabilities":{}}}}'

What the cache has, and what it was good for:

  PROGRAM cache-stats --socket SOCKET

Point an agent at it.

  Claude Code:
    claude mcp add --transport http demo http://127.0.0.1:7300/mcp/demo

  Cursor, .cursor/mcp.json:
    {"mcpServers": {"demo": {"url": "http://127.0.0.1:7300/mcp/demo"}}}

  VS Code, .vscode/mcp.json:
    {"servers": {"demo": {"type": "http", "url": "http://127.0.0.1:7300/mcp/demo"}}}

  Claude Desktop (by a bridge, since it starts its local servers as processes), claude_desktop_config.json:
    {"mcpServers": {"demo": {"command": "npx", "args": ["-y", "mcp-remote", "http://127.0.0.1:7300/mcp/demo", "--allow-http"]}}}

The same server is there a second time, as a command that the daemon starts and speaks with over stdin and stdout, with a
process for each session: put /mcp/demo-stdio in the place of /mcp/demo. "PROGRAM status --socket SOCKET" shows both.

What it is doing: http://127.0.0.1:7300/metrics    Stop it with Ctrl-C.
`

// PrintHelp tells a newcomer what to do next with the daemon at addr (host:port), which has the demo server as the
// upstream named demo, and is called by the name of program.
func PrintHelp(w io.Writer, addr, program, socket string) {
	strings.NewReplacer("127.0.0.1:7300", addr, "PROGRAM", program, "SOCKET", socket).WriteString(w, Help)
}
