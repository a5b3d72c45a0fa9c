package main

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const applyOnce = "bellwether.dev/apply"

// objectsOf reads what was printed, and gives what the mark says on each object. It takes the mark off.
func objectsOf(t *testing.T, documents string) (objects []map[string]any, marks []any) {
	t.Helper()
	for _, document := range strings.Split(documents, "---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if object == nil {
			continue
		}
		metadata := object["metadata"].(map[string]any)
		annotations, _ := metadata["annotations"].(map[string]any)
		marks = append(marks, annotations[applyOnce])
		delete(annotations, applyOnce)
		if len(annotations) == 0 {
			delete(metadata, "annotations")
		}
		objects = append(objects, object)
	}
	return objects, marks
}

func TestDefinitionsOfAChartAreMarkedAndElseAsTheyAre(t *testing.T) {
	engine := start(t, enginePath, nil)
	folder := filepath.Join("testdata", "helm", "crds")
	asked := request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "shop", Namespace: "default", IncludeCRDs: true}}
	plain, failed := engine.render(folder, asked)
	if failed != nil {
		t.Fatalf("%+v", *failed)
	}
	expected, none := objectsOf(t, plain)

	asked.Helm.MarkCRDs = &crdMark{Annotation: applyOnce, Value: "once"}
	marked, failed := engine.render(folder, asked)
	if failed != nil {
		t.Fatalf("%+v", *failed)
	}

	objects, marks := objectsOf(t, marked)
	if !reflect.DeepEqual(objects, expected) {
		t.Errorf("got\n%s\nexpected, but for the mark,\n%s", marked, plain)
	}
	if !reflect.DeepEqual(none, []any{nil, nil, nil}) || !reflect.DeepEqual(marks, []any{"once", "once", nil}) {
		t.Errorf("marks %v, and %v where none are asked for", marks, none)
	}
}
