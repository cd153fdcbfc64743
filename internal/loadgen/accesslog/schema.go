package accesslog

import (
	"encoding/json"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema returns the JSON schema (draft 2020-12) of a Report, indented.
func Schema() ([]byte, error) {
	s, err := jsonschema.For[Report](nil)
	if err != nil {
		return nil, err
	}
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", SchemaID, "what fluentd-perf benchmark --from-log -o json prints"
	text, err := json.MarshalIndent(s, "", "  ")
	return append(text, '\n'), err
}
