package main

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// written is how texts with a variable in them stand in the files of a build. Some of Kustomize's steps, such as a JSON
// patch, lose the quotes of a whole object, and a generator of Secrets encodes what it is given.
type written struct {
	// inQuotes and plain are texts by how they were written.
	inQuotes, plain map[string]bool
	// inSecrets are texts that are given to a generator of Secrets.
	inSecrets []string
}

// note looks into a file that Kustomize reads. One that is no YAML has no quotes.
func (w *written) note(content []byte) {
	if !bytes.Contains(content, []byte("${")) || !utf8.Valid(content) {
		return
	}
	if w.inQuotes == nil {
		w.inQuotes, w.plain = map[string]bool{}, map[string]bool{}
	}
	w.inSecrets = append(w.inSecrets, strings.TrimSuffix(string(content), "\n"))
	for _, line := range strings.Split(string(content), "\n") {
		if _, value, isSetting := strings.Cut(line, "="); isSetting && strings.Contains(value, "${") {
			w.inSecrets = append(w.inSecrets, strings.TrimSpace(value))
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document yaml.Node
		if decoder.Decode(&document) != nil {
			return
		}
		w.noteNode(&document, 0)
	}
}

func (w *written) noteNode(node *yaml.Node, depth int) {
	if node.Kind == yaml.ScalarNode && strings.Contains(node.Value, "${") {
		switch {
		case node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 && depth == 0:
			w.noteText(node.Value) // it may be a patch
		case node.Style&inQuotes != 0:
			w.inQuotes[node.Value] = true
		default:
			w.plain[node.Value] = true
		}
	}
	for _, each := range node.Content {
		w.noteNode(each, depth)
	}
}

func (w *written) noteText(text string) {
	w.inQuotes[text] = true
	var patch yaml.Node
	if yaml.Unmarshal([]byte(text), &patch) == nil {
		w.noteNode(&patch, 1)
	}
}

func (w *written) noteSecrets(kustomization *types.Kustomization) {
	for _, generator := range kustomization.SecretGenerator {
		for _, literal := range generator.LiteralSources {
			_, value, _ := strings.Cut(literal, "=")
			if strings.Contains(value, "${") {
				w.inSecrets = append(w.inSecrets, strings.Trim(value, `"'`))
			}
		}
	}
}

// mayStandIn says whether an object has a variable.
func (w *written) mayStandIn(object *resource.Resource, text []byte) bool {
	return bytes.Contains(text, []byte("${")) || object.GetKind() == "Secret" && len(w.inSecrets) > 0
}

// quote puts a plain text into quotes that the API takes as a string, and, where that is not known, one that is only written
// in quotes.
func (w *written) quote(node *yaml.Node, schema *openapi.ResourceSchema) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Style&inQuotes != 0 || !strings.Contains(node.Value, "${") {
			return
		}
		if isString(schema) || w.inQuotes[node.Value] && !w.plain[node.Value] && !isNumber(schema) {
			node.Style = yaml.DoubleQuotedStyle
		}
	case yaml.MappingNode:
		for at := 0; at+1 < len(node.Content); at += 2 {
			w.quote(node.Content[at+1], fieldOf(schema, node.Content[at].Value))
		}
	case yaml.SequenceNode:
		for _, each := range node.Content {
			w.quote(each, elementsOf(schema))
		}
	}
}

func fieldOf(schema *openapi.ResourceSchema, name string) *openapi.ResourceSchema {
	if schema == nil {
		return nil
	}
	return schema.Field(name)
}

func elementsOf(schema *openapi.ResourceSchema) *openapi.ResourceSchema {
	if schema == nil {
		return nil
	}
	return schema.Elements()
}

func isString(schema *openapi.ResourceSchema) bool {
	return schema != nil && schema.Schema != nil && slices.Equal(schema.Schema.Type, []string{"string"}) &&
		schema.Schema.Format != "int-or-string"
}

func isNumber(schema *openapi.ResourceSchema) bool {
	return schema != nil && schema.Schema != nil && len(schema.Schema.Type) == 1 &&
		slices.Contains([]string{"integer", "number", "boolean"}, schema.Schema.Type[0])
}

// reveal puts what a generator has encoded where it can be filled in: an API server encodes it again.
func (w *written) reveal(secret *yaml.Node) {
	data := valueOf(secret, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return
	}
	var kept, revealed []*yaml.Node
	for at := 0; at+1 < len(data.Content); at += 2 {
		decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data.Content[at+1].Value), ""))
		if text := string(decoded); err == nil && utf8.Valid(decoded) && strings.Contains(text, "${") && w.isOfGenerator(text) {
			value := &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Style: yaml.DoubleQuotedStyle, Value: text}
			revealed = append(revealed, data.Content[at], value)
		} else {
			kept = append(kept, data.Content[at], data.Content[at+1])
		}
	}
	if revealed == nil {
		return
	}
	data.Content = kept
	texts := valueOf(secret, "stringData")
	if texts == nil {
		name := &yaml.Node{Kind: yaml.ScalarNode, Tag: yaml.NodeTagString, Value: "stringData"}
		texts = &yaml.Node{Kind: yaml.MappingNode, Tag: yaml.NodeTagMap}
		secret.Content = append(secret.Content, name, texts)
	}
	texts.Content = append(texts.Content, revealed...)
}

func (w *written) isOfGenerator(text string) bool {
	return slices.Contains(w.inSecrets, strings.TrimSuffix(text, "\n"))
}
