package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The parser takes quadratic time in the number of keys of a block and quadratic memory in depth, so the tokens are
// looked at before it sees them.
const (
	maxTokens = 20_000
	maxColumn = 256 // of "- " and "? ", which open a level each without taking a line
)

// syntaxError is a file that cannot be read at all. Its text quotes nothing of the file but single characters.
type syntaxError struct {
	line int
	text string
}

func (e *syntaxError) Error() string { return e.text }

// parseYAML reads one document. An empty one is a mapping with nothing in it.
func parseYAML(text []byte) (root *node, err error) {
	// The parser is the one part here that is not ours and has to stand arbitrary bytes.
	defer func() {
		if recover() != nil {
			root, err = nil, &syntaxError{0, "is not valid YAML"}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, yamlError(err)
	}
	return yamlRoot(file)
}

func checkTokens(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return &syntaxError{0, fmt.Sprintf("is too long: more than %d words and signs", maxTokens)}
	}
	depth := 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			if tk.Position.Column > maxColumn {
				return &syntaxError{tk.Position.Line, "is nested too deep"}
			}
		}
		if depth > maxDepth {
			return &syntaxError{tk.Position.Line, "is nested too deep"}
		}
	}
	return nil
}

// yamlError keeps the message and the line; the parser's own text shows lines of the file, secrets included.
func yamlError(err error) error {
	var at yaml.Error
	if !errors.As(err, &at) {
		return &syntaxError{0, "is not valid YAML"}
	}
	line := 0
	if tk := at.GetToken(); tk != nil && tk.Position != nil {
		line = tk.Position.Line
	}
	return &syntaxError{line, "is not valid YAML: " + strings.ReplaceAll(at.GetMessage(), "\t", `\t`)}
}

func yamlRoot(file *ast.File) (*node, error) {
	b := yamlBuilder{anchors: map[string]*node{}}
	root := &node{kind: kindNull}
	seen := false
	for _, doc := range file.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); directive || doc.Body == nil {
			continue // "%YAML 1.2" comes as a document of its own
		}
		if seen {
			return nil, &syntaxError{lineOf(doc.Body), "has more than one document"}
		}
		root, seen = b.value(doc.Body, 0), true
	}
	if b.values > maxValues {
		return nil, &syntaxError{0, fmt.Sprintf("is too long: more than %d values", maxValues)}
	}
	if root.kind == kindNull {
		root = &node{kind: kindMapping, line: root.line}
	}
	return root, nil
}

// yamlBuilder turns the parser's tree into nodes.
type yamlBuilder struct {
	anchors map[string]*node // those whose value is complete, so that an alias never closes a circle
	values  int              // made so far
}

func (b *yamlBuilder) value(n ast.Node, depth int) *node {
	b.values++
	line := lineOf(n)
	if depth > maxDepth {
		return broken(line, "is nested too deep")
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{kind: kindNull, line: line}
	case *ast.BoolNode:
		return &node{kind: kindBoolean, line: line, text: n.Token.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &node{kind: kindNumber, line: line, text: n.GetToken().Value}
	case *ast.StringNode:
		return &node{kind: kindText, line: line, text: n.Value}
	case *ast.LiteralNode:
		return b.literal(n, line)
	case *ast.SequenceNode:
		return b.list(n, line, depth)
	case *ast.MappingNode:
		return b.mapping(n.Values, line, depth)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, line, depth)
	case *ast.AnchorNode:
		return b.anchor(n, depth)
	case *ast.AliasNode:
		return b.alias(n, line)
	case *ast.TagNode:
		return broken(line, "has a tag, which means nothing here")
	}
	return broken(line, "is not a value")
}

func (b *yamlBuilder) literal(n *ast.LiteralNode, line int) *node {
	if n.Value == nil {
		return &node{kind: kindText, line: line}
	}
	return &node{kind: kindText, line: line, text: n.Value.Value}
}

func (b *yamlBuilder) list(n *ast.SequenceNode, line, depth int) *node {
	list := &node{kind: kindList, line: line}
	for _, v := range n.Values {
		list.items = append(list.items, b.value(v, depth+1))
	}
	return list
}

func (b *yamlBuilder) mapping(values []*ast.MappingValueNode, line, depth int) *node {
	mapping := &node{kind: kindMapping, line: line}
	var merged []*node
	for _, mv := range values {
		value := b.value(mv.Value, depth+1)
		if _, ok := mv.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, value)
			continue
		}
		mapping.fields = append(mapping.fields, namedField(mv.Key, value))
	}
	for _, m := range merged {
		b.merge(mapping, m)
	}
	return mapping
}

// merge adds what `<<` brings and the mapping does not say itself (YAML's merge key type, yaml.org/type/merge.html).
func (b *yamlBuilder) merge(into, from *node) {
	switch from.kind {
	case kindList:
		for _, item := range from.items {
			b.merge(into, item)
		}
	case kindMapping:
		given := make(map[string]bool, len(into.fields))
		for _, f := range into.fields {
			given[f.name] = true
		}
		b.values += len(into.fields) + len(from.fields)
		for _, f := range from.fields {
			if b.values <= maxValues && !given[f.name] {
				into.fields = append(into.fields, f)
			}
		}
	default:
		into.fields = append(into.fields, unnamedField(from.line, "<< must have an alias of a mapping"))
	}
}

func (b *yamlBuilder) anchor(n *ast.AnchorNode, depth int) *node {
	value := b.value(n.Value, depth)
	b.anchors[n.Name.GetToken().Value] = value
	return value
}

func (b *yamlBuilder) alias(n *ast.AliasNode, line int) *node {
	if value, ok := b.anchors[n.Value.GetToken().Value]; ok {
		return value
	}
	return broken(line, "is an alias of an anchor that is not above it")
}

// namedField makes a field. As a name, numbers and words such as true count as written.
func namedField(k ast.MapKeyNode, value *node) field {
	switch k := k.(type) {
	case *ast.StringNode:
		return field{name: k.Value, line: lineOf(k), value: value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return field{name: k.GetToken().Value, line: lineOf(k), value: value}
	}
	return unnamedField(lineOf(k), "a key must be plain text")
}

func unnamedField(line int, why string) field {
	return field{line: line, value: broken(line, why), unnamed: true}
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 0
}
