package demo

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The demo server's resources.
const (
	aboutURI    = "demo://about"
	counterURI  = "demo://counter"
	greetingURI = "demo://greeting/{name}"
)

// About is the text of the resource demo://about.
const About = `This server is built into fluentd-perf. The daemon stands between you and it: what you
read here went through the daemon, and nothing was changed on the way.
`

// topics and names are what completion/complete offers.
var (
	topics = []string{"cancellation", "connections", "elicitation", "progress", "sessions", "streams"}
	names  = []string{"Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken"}
)

func (d *Server) addResources() {
	d.server.AddResource(&mcp.Resource{URI: aboutURI, Name: "about", Description: "What this server is; never changes.", MIMEType: "text/plain"},
		func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
			return textResource(About), nil
		})
	d.server.AddResource(&mcp.Resource{URI: counterURI, Name: "counter", Description: "A number that the tool count adds one to; can be subscribed to.", MIMEType: "text/plain"},
		d.readCounter)
	d.server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: greetingURI, Name: "greeting", Description: "A greeting for any name.", MIMEType: "text/plain"},
		readGreeting)
}

func (d *Server) readCounter(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return textResource(strconv.Itoa(d.count)), nil
}

func readGreeting(_ context.Context, req *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(req.Params.URI, "demo://greeting/"))
	if err != nil {
		return nil, mcp.ResourceNotFoundError(req.Params.URI)
	}
	return textResource("Hello, " + name + "!"), nil
}

// textResource makes a result of one text. The SDK fills in URI and MIME type.
func textResource(text string) *mcp.ReadResourceResult {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{Text: text}}}
}

func (d *Server) addPrompts() {
	d.server.AddPrompt(&mcp.Prompt{
		Name:        "explain",
		Description: "Asks for an explanation of one part of MCP.",
		Arguments:   []*mcp.PromptArgument{{Name: "topic", Description: "what to explain", Required: true}},
	}, explainPrompt)
}

func explainPrompt(_ context.Context, req *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	text := "Explain in five sentences how " + req.Params.Arguments["topic"] + " works in the Model Context Protocol."
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: text}}}}, nil
}

// complete offers topics for the prompt's argument and names for the greeting's.
func (d *Server) complete(_ context.Context, req *mcp.CompleteRequest) (*mcp.CompleteResult, error) {
	words := []string{} // an empty list must not become null
	for _, word := range completionsFor(req.Params) {
		if strings.HasPrefix(strings.ToLower(word), strings.ToLower(req.Params.Argument.Value)) {
			words = append(words, word)
		}
	}
	return &mcp.CompleteResult{Completion: mcp.CompletionResultDetails{Values: words, Total: len(words)}}, nil
}

func completionsFor(p *mcp.CompleteParams) []string {
	switch {
	case p.Ref == nil:
		return nil
	case p.Ref.Type == "ref/prompt" && p.Ref.Name == "explain" && p.Argument.Name == "topic":
		return topics
	case p.Ref.Type == "ref/resource" && p.Ref.URI == greetingURI && p.Argument.Name == "name":
		return names
	}
	return nil
}
