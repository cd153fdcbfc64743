package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v4"
)

// The bounds of one file. They are far above any real configuration and far below what hurts.
const (
	maxFile   = 1 << 20 // bytes
	maxValues = 100_000 // values that are looked at, each counted as often as aliases and merges repeat it
)

// shape is what a value is, as faults say it. YAML and JSON have the same, and become the same nodes.
type shape = string

const (
	isNull    shape = ""
	isBoolean shape = "a boolean"
	isNumber  shape = "a number"
	isText    shape = "a string"
	isList    shape = "a list"
	isMapping shape = "a mapping"
)

// shapes are the shapes of what is neither quoted nor plain text.
var shapes = map[string]shape{
	"!!null": isNull, "!!bool": isBoolean, "!!int": isNumber, "!!float": isNumber, "!!seq": isList, "!!map": isMapping,
}

func shapeOf(n *yaml.Node) shape {
	if s, ok := shapes[n.Tag]; ok {
		return s
	}
	return isText
}

// target returns what a node stands for, which is another one where it is an alias.
func target(n *yaml.Node) *yaml.Node { return cmp.Or(n.Alias, n) }

// syntaxError is a file that cannot be read at all. Its text quotes nothing of the file but single characters.
type syntaxError struct {
	line int
	text string
}

func (e *syntaxError) Error() string { return e.text }

// parseYAML reads one document. An empty one is a mapping with nothing in it.
func parseYAML(text []byte) (*yaml.Node, error) {
	if rest, ok := bytes.CutPrefix(text, []byte("%YAML 1.2")); ok { // which the parser reads and does not know by name
		text = append([]byte("%YAML 1.1"), rest...)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var first, second yaml.Node
	if err := loader.Load(&first); err != nil && err != io.EOF {
		return nil, yamlError(err, text)
	}
	switch err := loader.Load(&second); {
	case err == nil:
		return nil, &syntaxError{second.Line, "has more than one document"}
	case err != io.EOF:
		return nil, yamlError(err, text)
	case len(first.Content) == 0 || shapeOf(first.Content[0]) == isNull:
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: first.Line}, nil
	}
	return first.Content[0], nil
}

func yamlError(err error, text []byte) error {
	var at *yaml.LoadError
	if !errors.As(err, &at) {
		return &syntaxError{0, "is not valid YAML"}
	}
	why := at.Message
	if strings.HasPrefix(why, "unknown anchor") { // which the parser quotes: with a * at its beginning a password looks like an alias
		why = "an alias has no anchor above it"
	}
	if at.ContextMark.Line > 0 && at.ContextMark.Line != at.Mark.Line {
		why += fmt.Sprintf(", %s from line %d on", at.ContextMsg, at.ContextMark.Line)
	}
	last := 1 + bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) // the parser counts on behind it
	return &syntaxError{min(at.Mark.Line, last), "is not valid YAML: " + why}
}

// parseJSON reads one JSON value, with the comments and trailing commas that agents' files have.
func parseJSON(text []byte) (*yaml.Node, error) {
	text = plainJSON(text)
	options := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)} // a lone surrogate is no fault
	j := jsonReader{jsontext.NewDecoder(bytes.NewReader(text), options...), text, 0, 1}
	root, err := j.node()
	if err == nil {
		if _, err = j.node(); err == nil {
			return nil, &syntaxError{j.line, "is not valid JSON: there is something after its end"}
		}
	}
	var at *jsontext.SyntacticError
	switch {
	case errors.As(err, &at):
		return nil, &syntaxError{j.lineAt(int(at.ByteOffset)), "is not valid JSON: " + at.Err.Error()}
	case root == nil:
		return nil, &syntaxError{j.line, "is not valid JSON: " + io.ErrUnexpectedEOF.Error()}
	}
	return root, nil
}

// What agents write and JSON does not have. Strings are matched so that nothing within them is.
var (
	jsonComment = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"?|//[^\n]*|/\*.*?\*/`)
	jsonComma   = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"?|(?:[\[{,]\s*)?,\s*[\]}]`)
	notNewline  = regexp.MustCompile(`[^\n]`)
)

// plainJSON returns text with comments and commas before a closing bracket replaced by spaces, so that lines stay. A comma
// with no value before it, and a comment without an end, are left for the parser to refuse.
func plainJSON(text []byte) []byte {
	text = jsonComment.ReplaceAllFunc(text, func(found []byte) []byte {
		if found[0] == '"' {
			return found
		}
		return notNewline.ReplaceAll(found, []byte(" "))
	})
	return jsonComma.ReplaceAllFunc(text, func(found []byte) []byte {
		if found[0] == ',' && bytes.Count(found, []byte(",")) == 1 {
			return append([]byte(" "), found[1:]...)
		}
		return found
	})
}

// jsonReader makes nodes of JSON. Lines are counted as it goes.
type jsonReader struct {
	*jsontext.Decoder
	text    []byte
	counted int // offset up to which lines are counted
	line    int // at counted
}

func (j *jsonReader) lineAt(offset int) int {
	if offset = min(offset, len(j.text)); offset > j.counted {
		j.line += bytes.Count(j.text[j.counted:offset], []byte("\n"))
		j.counted = offset
	}
	return j.line
}

var jsonTags = map[jsontext.Kind]string{
	'n': "!!null", 't': "!!bool", 'f': "!!bool", '0': "!!int", '"': "!!str", '[': "!!seq", '{': "!!map",
}

// node reads a value, or the name of one. The content of an object is names and values by turns, as in a mapping of YAML.
func (j *jsonReader) node() (*yaml.Node, error) {
	token, err := j.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: jsonTags[token.Kind()], Value: token.String(), Line: j.lineAt(int(j.InputOffset()))}
	if kind, ok := map[string]yaml.Kind{"!!seq": yaml.SequenceNode, "!!map": yaml.MappingNode}[n.Tag]; ok {
		n.Kind = kind
		for !strings.ContainsRune("]}", rune(j.PeekKind())) {
			child, err := j.node()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err = j.ReadToken()
	}
	return n, err
}

// pairs are the names and values of a mapping.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(name, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
			if !yield(n.Content[i], target(n.Content[i+1])) {
				return
			}
		}
	}
}

// find returns the first value of that name, or nil.
func find(n *yaml.Node, name string) *yaml.Node {
	for k, value := range pairs(n) {
		if k.Value == name {
			return value
		}
	}
	return nil
}
