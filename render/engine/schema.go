package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	invalid "github.com/santhosh-tekuri/jsonschema/v6/kind"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// checkSchemas checks values against the schemas of a chart and of those under it, as Helm does, and gives what Helm
// would say, and the first schema that they do not fit, named as templates are. Helm's own check would read files and URLs
// that a schema refers to.
func checkSchemas(of *chart.Chart, values map[string]any) (wrong, first string, err error) {
	schema := of.ChartFullPath() + "/values.schema.json"
	if of.Schema != nil {
		found, err := checkSchema(of.Schema, values)
		if err != nil {
			return "", schema, fmt.Errorf("%s: cannot use values.schema.json: %w", of.ChartFullPath(), err)
		}
		if found != "" {
			wrong, first = fmt.Sprintf("%s:\n%s", of.Name(), found), schema
		}
	}
	for _, under := range of.Dependencies() {
		given := values[under.Name()]
		if given == nil {
			continue
		}
		table, isTable := given.(map[string]any)
		if !isTable {
			wrong += fmt.Sprintf("%s:\ninvalid type for values: expected object (map), got %T\n", under.Name(), given)
			continue
		}
		found, in, err := checkSchemas(under, table)
		if err != nil {
			return "", in, err
		}
		wrong, first = wrong+found, cmp.Or(first, in)
	}
	return wrong, first, nil
}

// schemaName is the one that Helm compiles a schema under; relative references are resolved against it.
const schemaName = "file:///values.schema.json"

func checkSchema(schema []byte, values map[string]any) (string, error) {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return "", err
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noSchemas{})
	if err := compiler.AddResource(schemaName, parsed); err != nil {
		return "", err
	}
	compiled, err := compiler.Compile(schemaName)
	if err != nil {
		return "", err
	}
	if err := compiled.Validate(values); err != nil {
		if wrong := (*jsonschema.ValidationError)(nil); errors.As(err, &wrong) {
			hideValues(wrong)
		}
		text := strings.TrimPrefix(err.Error(), "jsonschema validation failed with '"+schemaName+"#'\n")
		return text + "\n", nil
	}
	return "", nil
}

// hideValues takes out of what is said the texts that do not fit: they may be secrets, and what is said is kept.
func hideValues(wrong *jsonschema.ValidationError) {
	const hidden = "the value"
	switch what := wrong.ErrorKind.(type) {
	case *invalid.Pattern:
		what.Got = hidden
	case *invalid.Format:
		what.Got, what.Err = hidden, fmt.Errorf("it has another form")
	}
	for _, cause := range wrong.Causes {
		hideValues(cause)
	}
}

// noSchemas refuses every schema that another one refers to. Helm lets a `urn:` that nobody knows pass anything.
type noSchemas struct{}

func (noSchemas) Load(url string) (any, error) {
	if strings.HasPrefix(url, "urn:") {
		return true, nil
	}
	return nil, fmt.Errorf("it refers to %s, and a schema cannot be read from elsewhere", url)
}
