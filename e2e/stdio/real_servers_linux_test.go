// Real servers: what the official clients see of them over stdio and through the daemon.

package stdio

import (
	"path/filepath"

	"fluentd-perf/e2e/harness"
)

// step is one thing that is asked of a server: a tool, a prompt, a resource or another method. It ends well unless fails or either
// says something else.
type step struct {
	Tool      string         `json:"tool,omitempty"`
	Prompt    string         `json:"prompt,omitempty"`
	Resource  string         `json:"resource,omitempty"`
	Method    string         `json:"method,omitempty"` // TypeScript only: the Go client has no call for a method that it does not know
	Arguments map[string]any `json:"arguments,omitempty"`
	Fails     bool           `json:"fails,omitempty"`
	Either    bool           `json:"either,omitempty"` // its end depends on the version of the protocol
	Legacy    bool           `json:"legacy,omitempty"` // for versions with sessions only
}

// cast is a server and what there is to ask it.
type cast struct {
	name    string
	command []string
	env     map[string]string
	npm     bool // legacy only, and quicker to ask for roots than a dialogue can tell

	Steps   []step `json:"steps"`
	Roots   bool   `json:"roots"`
	Bare    bool   `json:"bare"` // the client has no capabilities, and the sessions of the server share a process
	Same    int    `json:"same"` // the step that two agents ask again and again
	tells   bool   // its answers have the progress token in them: the daemon writes one of its own there
	rare    bool   // with E2E_FULL only
	Changes int    `json:"changes"` // how often the server says after the handshake that its tools have changed
	Row     bool   `json:"row"`     // one after the other: the answers depend on the order
}

// folder is in a command, an environment or an argument for the folder that a server works in. Each play has one of its own.
const folder = "/FOLDER/"

type values = map[string]any

func tool(name string, arguments values) step { return step{Tool: name, Arguments: arguments} }

// either is a step that may fail, which is then the same both ways.
func (s step) either() step { s.Either = true; return s }

func (s step) fails() step { s.Fails = true; return s }

// faults are steps that fail at every server, or may.
var faults = []step{
	tool("no-such-tool", values{}).either(),
	step{Prompt: "no-such-prompt"}.fails(),
	step{Resource: "no:such/resource"}.fails(),
	step{Method: "no/such/method"}.fails(),
}

func npm(name, program string, env map[string]string, arguments []string, steps ...step) cast {
	command := append([]string{harness.Node, harness.NPMServerScript(program)}, arguments...)
	return cast{name: "npm " + name, command: command, env: env, npm: true, Steps: append(steps, faults...)}
}

func program(name, path string, steps ...step) cast {
	return cast{name: name, command: []string{filepath.Join(harness.CacheBin, path)}, Roots: true, Steps: append(steps, faults...)}
}

func oneByOne(c cast) cast { c.Row = true; return c }

// casts are the servers. The node that runs them is known once the tests are.
func casts() []cast {
	entities := values{"entities": []values{{"name": "Ada", "entityType": "person", "observations": []string{"grüßt 世界"}}, {"name": "Bob", "entityType": "person", "observations": []string{}}}}
	relations := values{"relations": []values{{"from": "Ada", "to": "Bob", "relationType": "knows"}}}
	memory := []step{
		tool("search_nodes", values{"query": "Carl"}), tool("read_graph", values{}), tool("create_entities", entities), tool("create_relations", relations),
		tool("search_nodes", values{"query": "Ada"}), tool("open_nodes", values{"names": []string{"Bob"}}),
		tool("delete_entities", values{"entityNames": []string{"Bob"}}), tool("read_graph", values{}), tool("create_entities", values{"entities": 7}).either(),
	}
	everything := npm("everything", "everything", nil, []string{"stdio"},
		tool("echo", values{"message": "grüße, 世界 \u2028 \"quoted\""}), tool("get-tiny-image", values{}),
		tool("trigger-long-running-operation", values{"duration": 0.3, "steps": 3}),
		tool("trigger-sampling-request", values{"prompt": "hello", "maxTokens": 7}), tool("trigger-elicitation-request", values{}),
		tool("get-structured-content", values{"location": "Chicago"}), tool("get-sum", values{"a": "one"}).either(),
		step{Prompt: "args-prompt", Arguments: values{"city": "Zürich"}}, step{Resource: "demo://resource/dynamic/blob/1"})
	// The TypeScript client never answers a ping of 2026-07-28. The daemon does, where it is between.
	pings := step{Tool: "ping", Legacy: true}
	everything.Changes = 3 // one each for the client's capabilities
	all := []cast{
		npm("filesystem", "filesystem", nil, []string{folder},
			tool("write_file", values{"path": folder + "a.txt", "content": "one\ntwo\r\nthree \u2028 世界\n"}), tool("read_text_file", values{"path": folder + "a.txt"}),
			tool("edit_file", values{"path": folder + "a.txt", "edits": []values{{"oldText": "two", "newText": "zwei"}}}),
			tool("create_directory", values{"path": folder + "d"}), tool("move_file", values{"source": folder + "a.txt", "destination": folder + "d/b.txt"}),
			tool("read_media_file", values{"path": folder + "d/b.txt"}), tool("directory_tree", values{"path": folder}),
			tool("list_directory_with_sizes", values{"path": folder}), tool("search_files", values{"path": folder, "pattern": "**/*.txt"}),
			tool("list_allowed_directories", values{}), tool("read_text_file", values{"path": "/etc/passwd"}).either()),
		npm("memory", "memory", map[string]string{"MEMORY_FILE_PATH": folder + "memory.jsonl"}, nil, memory...),
		oneByOne(npm("sequential thinking", "sequential-thinking", nil, nil,
			tool("sequentialthinking", values{"thought": "first", "nextThoughtNeeded": true, "thoughtNumber": 1, "totalThoughts": 2}),
			tool("sequentialthinking", values{"thought": "again", "nextThoughtNeeded": false, "thoughtNumber": 2, "totalThoughts": 2, "isRevision": true, "revisesThought": 1}),
			tool("sequentialthinking", values{"thought": 7}).either())),
		everything,
		program("go memory", "memory", memory...),
		program("go sequential thinking", "sequentialthinking", tool("review_thinking", values{"sessionId": "t"}).either(),
			tool("start_thinking", values{"problem": "why", "sessionId": "s", "estimatedSteps": 2}),
			tool("continue_thinking", values{"sessionId": "s", "thought": "because"}), tool("review_thinking", values{"sessionId": "s"}),
			tool("continue_thinking", values{"sessionId": "t", "thought": "because"}).either()),
		program("go hello", "hello", tool("greet", values{"name": "Ada"}), tool("greet", values{"name": 7}).either()),
		program("go tool schemas", "toolschemas", tool("simple greeting", values{"Name": "Ada"}).either(),
			tool("manual greeting", values{"name": "Ada"}).either(), tool("customized greeting 1", values{"name": "Ada"}).either()),
		program("go everything", "everything",
			tool("greet", values{"name": "Ada"}), tool("greet (structured)", values{"name": "Ada"}), tool("greet (content with ResourceLink)", values{"name": "Ada"}),
			pings, tool("log", nil).either(), tool("sample", nil).either(), tool("roots", nil).either(), tool("elicit (url)", nil).either(),
			step{Prompt: "greet", Arguments: values{"name": "Ada"}}, step{Resource: "embedded:info"}),
		program("go conformance", "everything-server",
			tool("test_simple_text", nil), tool("test_multiple_content_types", nil), tool("test_tool_with_progress", nil), tool("test_tool_with_logging", nil).either(),
			tool("test_error_handling", nil), tool("test_sampling", values{"prompt": "hello"}).either(), tool("test_elicitation", values{"message": "who?"}).either(),
			step{Prompt: "test_simple_prompt"}, step{Resource: "test://static-binary"}),
		// Not longRunningOperation: it sends the last progress before or after the result, as it comes.
		program("mcp-go everything", "mcp-go/everything",
			tool("echo", values{"message": "grüße"}), tool("add", values{"a": 1, "b": 2}), tool("getTinyImage", nil),
			tool("get_resource_link", nil),
			step{Prompt: "complex_prompt", Arguments: values{"temperature": "1", "style": "plain"}}, step{Resource: "test://static/resource/2"}),
	}
	for i := range all {
		all[i].tells = all[i].name == "go conformance"
		all[i].rare = all[i].name == "go tool schemas"
	}
	return all
}
