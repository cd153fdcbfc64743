package config

import (
	"encoding/json"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema returns the JSON schema (draft 2020-12) of the YAML file, indented, by which editors complete and check. It takes
// whatever Load takes. What keys say together, and the ranges of durations and sizes with a unit, only Load knows.
func Schema() ([]byte, error) {
	s := newLoader(Sources{}).table.schema("")
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.Title = "fluentd-perf"
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// schema is the schema of a mapping of the keys below a prefix.
func (t table) schema(prefix string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for _, r := range t.children(prefix) {
		name := lastPart(r.name)
		s.Properties[name] = t.property(r)
		s.PropertyOrder = append(s.PropertyOrder, name)
	}
	return s
}

func (t table) property(r *row) *jsonschema.Schema {
	if r.into == nil {
		s := t.schema(r.name + ".")
		if r.off != nil {
			s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Enum: []any{"off", false}}, s}}
		}
		if r.word != "" {
			s = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{made(t.find(r.word).schema), s}}
		}
		s.Description = r.help
		return s
	}
	s := &jsonschema.Schema{Description: r.help + "; " + r.what}
	r.schema(s)
	if r.sample == "" {
		s.Default = jsonDefault(r.usual())
	}
	return s
}

// jsonDefault writes a default of YAML in JSON.
func jsonDefault(usual string) json.RawMessage {
	if json.Valid([]byte(usual)) {
		return json.RawMessage(usual)
	}
	quoted, _ := json.Marshal(usual) // a string is never refused
	return quoted
}

// ofType is the schema of a plain type.
func ofType(name string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.Type = name }
}

// made is the schema that a function of the same kind as ofType fills in.
func made(fill func(*jsonschema.Schema)) *jsonschema.Schema {
	s := &jsonschema.Schema{}
	fill(s)
	return s
}
