package config

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// SchemaError says what the schema has against a file. Tests of what Load takes call it, so that an editor takes it, too.
func SchemaError(text string) error {
	schema, err := resolvedSchema()
	if err != nil {
		return err
	}
	var value any
	if err := yaml.Load([]byte(text), &value); err != nil {
		return err
	}
	encoded, err := json.Marshal(value) // so that numbers and mappings are those of JSON
	if err == nil {
		err = json.Unmarshal(encoded, &value)
	}
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

var resolvedSchema = sync.OnceValues(func() (*jsonschema.Resolved, error) {
	text, err := Schema()
	if err != nil {
		return nil, err
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	return schema.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
})

// TestSchemaRefuses: what an editor can know to be wrong it is told.
func TestSchemaRefuses(t *testing.T) {
	const ok = "upstreams: {a: {url: http://h}}\n"
	if err := SchemaError(ok); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"- a", "drian: 5s", "drain: 5", "drain: 5 s", "drain: -5s", "drain: [5s]", "listen: 7300", "listen: []", "errors: HTTP",
		"limits: {body: 16M}", "limits: {body: 1023}", "limits: {in_flight: 0}", "limits: {in_flight: 1.5}", "limits: 5",
		"hosts: a", "hosts: [5]", "auth: {token: 5}", "cache: {database: {pool: 4}}", "cache: {database: {private_reads: on}}",
		"upstreams: {a: {url: 5}}", "upstreams: {a: {urls: []}}", "upstreams: {a: {url: http://h, transport: ws}}",
		"upstreams: {.a: {url: http://h}}", "upstreams: {a: {url: http://h, breaker: on}}", "upstreams: {a: {url: http://h, pool: {max: 1}}}",
		"upstreams: {a: {url: http://h, retry: {budget: 1.5}}}", "upstreams: {a: {url: http://h, cache: {ttl: {tools/list: 5}}}}",
		"upstreams: {a: {url: http://h, batch: {max: 1}}}", "upstreams: {a: {url: http://h, headers: {X: 5}}}",
	} {
		if !strings.HasPrefix(text, "upstreams") && text != "- a" {
			text = ok + text
		}
		if SchemaError(text) == nil {
			t.Errorf("the schema takes %s", text)
		}
		if _, err := load(text); err == nil {
			t.Errorf("Load takes %s", text)
		}
	}
}
