// Command generate writes the schemas that `bellwether validate` carries.
//
//	go -C validate/schemas/generate run . .. 1.31.14 1.32.13 …
//
// For each version it takes the OpenAPI document of the module k8s.io/kubernetes and, for the values that a text may have
// (the document has none), the types of k8s.io/api that are marked `+enum`; of the newest k8s.io/api also when each API was
// introduced, deprecated and removed. Both come from the Go proxy and are Apache-2.0. It needs `go` and `zstd`.
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// What a field may hold: a letter, the number of a type, a list of one, `{"m": …}` for a map, `{"e": […]}` for an enum.
type form any

type fields struct {
	Fields   map[string]form     `json:"f,omitempty"`
	Required []string            `json:"r,omitempty"`
	Keys     map[string][]string `json:"k,omitempty"` // of lists whose items are told apart; empty for sets
}

type kind struct {
	Group      string `json:"group"`
	Version    string `json:"version"`
	Kind       string `json:"kind"`
	Type       int    `json:"type"`
	Namespaced bool   `json:"namespaced,omitempty"`
}

type output struct {
	Version string   `json:"version"`
	Kinds   []kind   `json:"kinds"`
	Types   []fields `json:"types"`
}

type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Items                *schema            `json:"items"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	Kinds                []groupVersionKind `json:"x-kubernetes-group-version-kind"`
	ListType             string             `json:"x-kubernetes-list-type"`
	ListMapKeys          []string           `json:"x-kubernetes-list-map-keys"`
}

type groupVersionKind struct{ Group, Version, Kind string }

type operation struct {
	Action string           `json:"x-kubernetes-action"`
	Kind   groupVersionKind `json:"x-kubernetes-group-version-kind"`
}

type document struct {
	Definitions map[string]*schema                    `json:"definitions"`
	Paths       map[string]map[string]json.RawMessage `json:"paths"`
}

const definitions = "#/definitions/"

// Types that read JSON by a method of their own, so that the document says too little of them.
var own = map[string]string{
	"io.k8s.apimachinery.pkg.api.resource.Quantity":                                         "q",
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString":                                       "x",
	"io.k8s.apimachinery.pkg.apis.meta.v1.Time":                                             "t",
	"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime":                                        "t",
	"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1":                                         "o",
	"io.k8s.apimachinery.pkg.runtime.RawExtension":                                          "o",
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON":                         "*",
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray":       "*",
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool":        "*",
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "*",
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: generate FOLDER VERSION…")
	}
	folder, versions := os.Args[1], os.Args[2:]
	for _, version := range versions {
		out := compact(version)
		name := strings.Join(strings.Split(version, ".")[:2], ".")
		write(filepath.Join(folder, name+".json"), out, true)
	}
	write(filepath.Join(folder, "lifecycle.json"), lifecycle(module("k8s.io/api", apiVersion(versions[len(versions)-1]))), false)
}

// The module k8s.io/api of Kubernetes 1.33.1 is v0.33.1.
func apiVersion(version string) string { return "v0." + strings.SplitN(version, ".", 2)[1] }

func module(path, version string) string {
	command := exec.Command("go", "mod", "download", "-json", path+"@"+version)
	command.Dir, command.Stderr = os.TempDir(), os.Stderr
	answer, err := command.Output()
	check(err, path, version)
	var found struct{ Dir string }
	check(json.Unmarshal(answer, &found), path)
	return found.Dir
}

func compact(version string) output {
	text, err := os.ReadFile(filepath.Join(module("k8s.io/kubernetes", "v"+version), "api/openapi-spec/swagger.json"))
	check(err)
	var spec document
	check(json.Unmarshal(text, &spec), version)
	out := &compactor{spec: spec, enums: enums(module("k8s.io/api", apiVersion(version))), numbers: map[string]int{}}
	out.output.Version = version
	namespaced := postable(spec)
	var kinds []groupVersionKind
	for kind := range namespaced {
		kinds = append(kinds, kind)
	}
	sort.Slice(kinds, func(i, j int) bool { return fmt.Sprint(kinds[i]) < fmt.Sprint(kinds[j]) })
	names := map[groupVersionKind]string{}
	for name, definition := range spec.Definitions {
		for _, kind := range definition.Kinds {
			names[kind] = name
		}
	}
	for _, gvk := range kinds {
		name, isKnown := names[gvk]
		if !isKnown {
			log.Printf("%s: no schema for %v", version, gvk)
			continue
		}
		out.output.Kinds = append(out.output.Kinds, kind{gvk.Group, gvk.Version, gvk.Kind, out.number(name), namespaced[gvk]})
	}
	return out.output
}

// The kinds that can be created, and whether they have a namespace.
func postable(spec document) map[groupVersionKind]bool {
	found := map[groupVersionKind]bool{}
	for path, operations := range spec.Paths {
		text, isThere := operations["post"]
		if !isThere || strings.Contains(path, "{name}") {
			continue
		}
		var post operation
		check(json.Unmarshal(text, &post), path)
		if post.Action == "post" && post.Kind.Kind != "" {
			found[post.Kind] = found[post.Kind] || strings.Contains(path, "/namespaces/{namespace}/")
		}
	}
	return found
}

type compactor struct {
	spec    document
	enums   map[string]map[string][]string
	numbers map[string]int
	output  output
}

func (c *compactor) number(name string) int {
	if number, isKnown := c.numbers[name]; isKnown {
		return number
	}
	number := len(c.output.Types)
	c.numbers[name] = number
	c.output.Types = append(c.output.Types, fields{})
	definition := c.spec.Definitions[name]
	made := fields{Fields: map[string]form{}, Required: definition.Required, Keys: map[string][]string{}}
	var properties []string
	for property := range definition.Properties {
		properties = append(properties, property)
	}
	sort.Strings(properties)
	for _, property := range properties {
		of := definition.Properties[property]
		made.Fields[property] = c.form(of, c.enums[name][property])
		switch of.ListType {
		case "map":
			made.Keys[property] = of.ListMapKeys
		case "set":
			made.Keys[property] = []string{}
		}
	}
	c.output.Types[number] = made
	return number
}

func (c *compactor) form(of *schema, enum []string) form {
	if name, isRef := strings.CutPrefix(of.Ref, definitions); isRef {
		if letter, isOwn := own[name]; isOwn {
			return letter
		}
		definition := c.spec.Definitions[name]
		if definition.Type != "object" && definition.Type != "" {
			return c.form(definition, enum)
		}
		return c.number(name)
	}
	switch of.Type {
	case "array":
		return []form{c.form(of.Items, enum)}
	case "object":
		if of.AdditionalProperties == nil {
			return "o"
		}
		return map[string]form{"m": c.form(of.AdditionalProperties, nil)}
	case "boolean":
		return "b"
	case "integer":
		return map[string]string{"int32": "i", "int64": "l", "": "l"}[of.Format]
	case "number":
		return "d"
	case "string":
		if of.Format == "byte" {
			return "y"
		}
		if len(enum) > 0 {
			return map[string][]string{"e": enum}
		}
		return "s"
	}
	return "*"
}

// By definition and field, the values of the types that are marked as enums.
func enums(api string) map[string]map[string][]string {
	found := map[string]map[string][]string{}
	folders, err := filepath.Glob(filepath.Join(api, "*", "*", "types.go"))
	check(err)
	for _, file := range folders {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		check(err, file)
		relative, err := filepath.Rel(api, filepath.Dir(file))
		check(err)
		prefix := "io.k8s.api." + strings.ReplaceAll(relative, string(filepath.Separator), ".") + "."
		values, structs := declared(tree)
		for name := range structs {
			if of := enumFields(structs, name, values); len(of) > 0 {
				found[prefix+name] = of
			}
		}
	}
	return found
}

func declared(tree *ast.File) (map[string][]string, map[string]*ast.StructType) {
	values, structs := map[string][]string{}, map[string]*ast.StructType{}
	for _, one := range tree.Decls {
		group, isGroup := one.(*ast.GenDecl)
		if !isGroup || group.Tok != token.TYPE {
			continue
		}
		for _, one := range group.Specs {
			spec := one.(*ast.TypeSpec)
			if fields, isStruct := spec.Type.(*ast.StructType); isStruct {
				structs[spec.Name.Name] = fields
			}
			if isMarked(group.Doc) || isMarked(spec.Doc) {
				values[spec.Name.Name] = nil
			}
		}
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		spec, isValue := node.(*ast.ValueSpec)
		if !isValue || len(spec.Values) != 1 {
			return true
		}
		name, isNamed := spec.Type.(*ast.Ident)
		value, isLiteral := spec.Values[0].(*ast.BasicLit)
		if !isNamed || !isLiteral || value.Kind != token.STRING {
			return true
		}
		if _, isEnum := values[name.Name]; isEnum {
			text, err := strconv.Unquote(value.Value)
			check(err)
			values[name.Name] = append(values[name.Name], text)
		}
		return true
	})
	for _, of := range values {
		sort.Strings(of)
	}
	return values, structs
}

func isMarked(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, line := range doc.List {
		if strings.TrimSpace(strings.TrimPrefix(line.Text, "//")) == "+enum" {
			return true
		}
	}
	return false
}

func enumFields(structs map[string]*ast.StructType, name string, values map[string][]string) map[string][]string {
	found := map[string][]string{}
	for _, field := range structs[name].Fields.List {
		if field.Tag == nil {
			continue
		}
		tag, err := strconv.Unquote(field.Tag.Value)
		check(err)
		json, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		of := element(field.Type)
		if strings.Contains(options, "inline") {
			if _, isHere := structs[of]; isHere {
				for inner, texts := range enumFields(structs, of, values) {
					found[inner] = texts
				}
			}
		} else if texts := values[of]; len(texts) > 0 {
			found[json] = texts
		}
	}
	return found
}

func element(expression ast.Expr) string {
	switch of := expression.(type) {
	case *ast.Ident:
		return of.Name
	case *ast.StarExpr:
		return element(of.X)
	case *ast.ArrayType:
		return element(of.Elt)
	}
	return ""
}

type life struct {
	Group       string `json:"group"`
	Version     string `json:"version"`
	Kind        string `json:"kind"`
	Introduced  int    `json:"introduced,omitempty"`
	Deprecated  int    `json:"deprecated,omitempty"`
	Removed     int    `json:"removed,omitempty"`
	Replacement string `json:"replacement,omitempty"`
}

var (
	groupName = regexp.MustCompile(`const GroupName = "([^"]*)"`)
	method    = regexp.MustCompile(`func \(in \*(\w+)\) APILifecycle(\w+)\(\)[^{]*\{\s*return ([^\n]*)\n`)
	minor     = regexp.MustCompile(`^1, (\d+)$`)
	part      = regexp.MustCompile(`(Group|Version|Kind): "([^"]*)"`)
)

// Of the versions of APIs that have an end. Minor versions: all are of Kubernetes 1.
func lifecycle(api string) []life {
	files, err := filepath.Glob(filepath.Join(api, "*", "*", "zz_generated.prerelease-lifecycle.go"))
	check(err)
	var lives []life
	for _, file := range files {
		register, err := os.ReadFile(filepath.Join(filepath.Dir(file), "register.go"))
		check(err)
		text, err := os.ReadFile(file)
		check(err)
		group, version := groupName.FindSubmatch(register), filepath.Base(filepath.Dir(file))
		byKind := map[string]*life{}
		var order []string
		for _, found := range method.FindAllSubmatch(text, -1) {
			kind := string(found[1])
			if byKind[kind] == nil {
				byKind[kind] = &life{Group: string(group[1]), Version: version, Kind: kind}
				order = append(order, kind)
			}
			byKind[kind].learn(string(found[2]), string(found[3]))
		}
		for _, kind := range order {
			if !strings.HasSuffix(kind, "List") && (byKind[kind].Removed > 0 || byKind[kind].Deprecated > 0) {
				lives = append(lives, *byKind[kind])
			}
		}
	}
	return lives
}

func (l *life) learn(what, returned string) {
	if what == "Replacement" {
		parts := map[string]string{}
		for _, found := range part.FindAllStringSubmatch(returned, -1) {
			parts[found[1]] = found[2]
		}
		l.Replacement = strings.TrimPrefix(parts["Group"]+"/"+parts["Version"], "/") + " " + parts["Kind"]
		return
	}
	found := minor.FindStringSubmatch(returned)
	if found == nil {
		log.Fatalf("%v: %s is %s", l, what, returned)
	}
	number, err := strconv.Atoi(found[1])
	check(err)
	switch what {
	case "Introduced":
		l.Introduced = number
	case "Deprecated":
		l.Deprecated = number
	case "Removed":
		l.Removed = number
	}
}

func write(file string, content any, isPacked bool) {
	text, err := json.Marshal(content)
	check(err)
	if !isPacked {
		text = []byte(strings.ReplaceAll(string(text), "},{", "},\n{") + "\n")
	}
	check(os.WriteFile(file, text, 0o644))
	if isPacked {
		check(exec.Command("zstd", "-19", "--quiet", "--force", "--rm", file, "-o", file+".zst").Run(), file)
	}
}

func check(err error, about ...any) {
	if err != nil {
		log.Fatal(append(about, ": ", err)...)
	}
}
