package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The bounds of the slow tool: at most maxSteps steps of at most maxPause each.
const (
	maxSteps = 100
	maxPause = 10 * time.Second
)

func (d *Server) addTools() {
	readOnly := &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: new(bool)}
	mcp.AddTool(d.server, &mcp.Tool{Name: "echo", Description: "Gives the text back.", Annotations: readOnly}, echoTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "add", Description: "Adds two numbers.", Annotations: readOnly}, addTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "slow", Description: "Takes its time and reports progress at each step."}, d.slowTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "ask", Description: "Asks the user for a name and greets them."}, askTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "fail", Description: "Fails, as tools do: a result with isError."}, failTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "count", Description: "Adds one to the resource " + counterURI + ", whose subscribers are told."}, d.countTool)
	mcp.AddTool(d.server, &mcp.Tool{Name: "switch", Description: "Adds the tool bonus to the list, or takes it off again; agents are told that the list changed."}, d.switchTool)
}

type echoInput struct {
	Text string `json:"text" jsonschema:"what to give back"`
}

func echoTool(_ context.Context, _ *mcp.CallToolRequest, in echoInput) (*mcp.CallToolResult, any, error) {
	return textResult(in.Text), nil, nil
}

type addInput struct {
	A float64 `json:"a" jsonschema:"the first number"`
	B float64 `json:"b" jsonschema:"the second number"`
}

type addOutput struct {
	Sum float64 `json:"sum" jsonschema:"a + b"`
}

func addTool(_ context.Context, _ *mcp.CallToolRequest, in addInput) (*mcp.CallToolResult, addOutput, error) {
	return nil, addOutput{Sum: in.A + in.B}, nil
}

type slowInput struct {
	Steps  int `json:"steps,omitempty" jsonschema:"how many steps, 1 to 100, 5 if left out"`
	Millis int `json:"millis,omitempty" jsonschema:"milliseconds per step, up to 10000, 500 if left out"`
}

// slowTool tells progress to a caller that asked for it and log messages to one that wants them, and stops in mid-way
// when it is cancelled or the server closes.
func (d *Server) slowTool(ctx context.Context, req *mcp.CallToolRequest, in slowInput) (*mcp.CallToolResult, any, error) {
	steps := min(max(in.Steps, 0), maxSteps)
	if steps == 0 {
		steps = 5
	}
	pause := min(time.Duration(max(in.Millis, 0))*time.Millisecond, maxPause)
	if pause == 0 {
		pause = 500 * time.Millisecond
	}
	sendLog(ctx, req, fmt.Sprintf("starting %d steps of %s", steps, pause))
	for step := 1; step <= steps; step++ {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("cancelled in step %d of %d", step, steps)
		case <-d.closed:
			return nil, nil, fmt.Errorf("the server stopped in step %d of %d", step, steps)
		}
		if err := sendProgress(ctx, req, step, steps); err != nil {
			return nil, nil, err
		}
	}
	sendLog(ctx, req, "done")
	return textResult(fmt.Sprintf("%d steps done", steps)), nil, nil
}

func sendProgress(ctx context.Context, req *mcp.CallToolRequest, step, steps int) error {
	token := req.Params.GetProgressToken()
	if token == nil {
		return nil
	}
	return req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
		ProgressToken: token,
		Progress:      float64(step),
		Total:         float64(steps),
		Message:       fmt.Sprintf("step %d of %d", step, steps),
	})
}

// sendLog sends a log message of level info, if the agent wants those. One that cannot be sent is lost: the tool goes on.
func sendLog(ctx context.Context, req *mcp.CallToolRequest, text string) {
	//lint:ignore SA1019 deprecated in 2026-07-28 (SEP-2577), used by agents of every version
	_ = req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: "info", Logger: "demo", Data: text})
}

// askTool asks for a name. It returns input requests, which the SDK turns into an `input_required` result for modern
// clients (SEP-2322) and into an elicitation/create request for legacy ones, and runs again with the answer.
func askTool(_ context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	if answer, ok := req.Params.InputResponses["name"].(*mcp.ElicitResult); ok {
		return greet(answer), nil, nil
	}
	if !canAsk(req.ClientCapabilities()) {
		return textResult("This agent cannot ask its user (it declares no elicitation of forms)."), nil, nil
	}
	return &mcp.CallToolResult{InputRequests: mcp.InputRequestMap{"name": &mcp.ElicitParams{
		Message: "What is your name?",
		RequestedSchema: &jsonschema.Schema{
			Type:       "object",
			Properties: map[string]*jsonschema.Schema{"name": {Type: "string", Description: "your name"}},
			Required:   []string{"name"},
		},
	}}}, nil, nil
}

// canAsk reports whether the client shows forms to its user. An empty elicitation capability means forms
// (2025-11-25, client/elicitation).
func canAsk(caps *mcp.ClientCapabilities) bool {
	if caps == nil || caps.Elicitation == nil {
		return false
	}
	return caps.Elicitation.Form != nil || caps.Elicitation.URL == nil
}

func greet(answer *mcp.ElicitResult) *mcp.CallToolResult {
	name, _ := answer.Content["name"].(string)
	if answer.Action != "accept" || name == "" {
		return textResult("No name given (" + answer.Action + ").")
	}
	return textResult("Hello, " + name + "!")
}

func failTool(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return nil, nil, errors.New("this tool always fails")
}

func (d *Server) countTool(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
	d.mu.Lock()
	d.count++
	n := d.count
	d.mu.Unlock()
	err := d.server.ResourceUpdated(ctx, &mcp.ResourceUpdatedNotificationParams{URI: counterURI})
	return textResult(fmt.Sprintf("%s is now %d", counterURI, n)), nil, err
}

func (d *Server) switchTool(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	d.mu.Lock()
	defer d.mu.Unlock() // held over the SDK's calls: two callers must not both add or both remove
	d.bonus = !d.bonus
	if !d.bonus {
		d.server.RemoveTools("bonus")
		return textResult("bonus is off the list"), nil, nil
	}
	mcp.AddTool(d.server, &mcp.Tool{Name: "bonus", Description: "Is there only when switch has put it on the list."}, bonusTool)
	return textResult("bonus is on the list"), nil, nil
}

func bonusTool(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
	return textResult("You found it."), nil, nil
}

func textResult(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}
