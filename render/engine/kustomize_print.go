package main

import (
	"bytes"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// printObjects gives what `AsYaml` gives, but that a text with a variable in it, `${name}`, stays in quotes if it was
// written in quotes. `AsYaml` goes through JSON, which knows no difference; whoever fills in the variables takes the type
// of a value where there are no quotes.
func printObjects(objects resmap.ResMap, variables *written) (string, error) {
	var all bytes.Buffer
	for number, object := range objects.Resources() {
		text, err := object.AsYAML()
		if err == nil && variables.mayStandIn(object, text) {
			text, err = keepQuotes(object, text, variables)
		}
		if err != nil {
			return "", err
		}
		if number > 0 {
			all.WriteString("---\n")
		}
		all.Write(text)
	}
	return all.String(), nil
}

func keepQuotes(object *resource.Resource, text []byte, variables *written) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	for _, printed := range document.Content {
		quoteAsWritten(printed, object.RNode.YNode())
		variables.quote(printed, openapi.SchemaForResourceType(object.GetGvk().AsTypeMeta()))
		if object.GetKind() == "Secret" {
			variables.reveal(printed)
		}
		if object.GetKind() == "ConfigMap" {
			quoteAll(valueOf(printed, "data"))
		}
	}
	var quoted bytes.Buffer
	encoder := yaml.NewEncoder(&quoted)
	if err := encoder.Encode(&document); err != nil {
		return nil, err
	}
	return quoted.Bytes(), encoder.Close()
}

var inQuotes = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// alwaysText are maps of texts. Kustomize makes them anew, and the quotes are gone; so it is with a ConfigMap's data.
var alwaysText = []string{"labels", "annotations", "matchLabels", "selector"}

func quoteAsWritten(printed, written *yaml.Node) {
	if printed == nil || written == nil || printed.Kind != written.Kind {
		return
	}
	switch printed.Kind {
	case yaml.ScalarNode:
		if written.Style&inQuotes != 0 {
			quote(printed)
		}
	case yaml.MappingNode:
		for at := 0; at+1 < len(printed.Content); at += 2 {
			key, value := printed.Content[at].Value, printed.Content[at+1]
			quoteAsWritten(value, valueOf(written, key))
			if slices.Contains(alwaysText, key) {
				quoteAll(value)
			}
		}
	case yaml.SequenceNode:
		for at := range min(len(printed.Content), len(written.Content)) {
			quoteAsWritten(printed.Content[at], written.Content[at])
		}
	}
}

func quoteAll(mapping *yaml.Node) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return
	}
	for at := 1; at < len(mapping.Content); at += 2 {
		quote(mapping.Content[at])
	}
}

func quote(scalar *yaml.Node) {
	if scalar.Kind == yaml.ScalarNode && scalar.Style&inQuotes == 0 && strings.Contains(scalar.Value, "${") {
		scalar.Style = yaml.DoubleQuotedStyle
	}
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil
	}
	for at := 0; at+1 < len(mapping.Content); at += 2 {
		if mapping.Content[at].Value == key {
			return mapping.Content[at+1]
		}
	}
	return nil
}
