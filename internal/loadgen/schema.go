package loadgen

import (
	"encoding/json"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema returns the JSON schema (draft 2020-12) of a Report, indented.
func Schema() ([]byte, error) {
	return schemaOf[Report](SchemaID, "what fluentd-perf benchmark -o json prints")
}

// ComparisonSchema returns that of a Comparison.
func ComparisonSchema() ([]byte, error) {
	return schemaOf[Comparison](ComparisonSchemaID, "what fluentd-perf benchmark compare -o json prints")
}

func schemaOf[T any](id, title string) ([]byte, error) {
	s, err := jsonschema.For[T](nil)
	if err != nil {
		return nil, err
	}
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", id, title
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}
