package main

import (
	"slices"
	"strings"
	"testing"
)

// chartWith is a chart with one template.
func chartWith(t *testing.T, template string) string {
	t.Helper()
	return folderOf(t, map[string]string{
		"chart/Chart.yaml":            "{apiVersion: v2, name: greedy, version: 1.0.0}",
		"chart/templates/greedy.yaml": template,
	})
}

var ofChart = request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "r", Namespace: "n"}}

// expectOver renders something that goes over a limit, which it names; the engine ends with that.
func expectOver(t *testing.T, engine *child, from, says string) {
	t.Helper()
	_, failed := engine.render(from, ofChart)
	if failed == nil || failed.Code != overLimit || !strings.Contains(failed.Message, says) {
		t.Fatalf("expected that it %q, got %v", says, failed)
	}
	if code := engine.exitCode(); code != exitGaveUp {
		t.Errorf("it ended with %d: %s", code, engine.stderr)
	}
}

func TestATemplateThatGoesOnForEverIsEnded(t *testing.T) {
	engine := start(t, enginePath, nil, "-deadline", "300ms")
	loop := chartWith(t, "{{ range $i := until 1000000 }}{{ range $j := until 1000000 }}{{ end }}{{ end }}")

	expectOver(t, engine, loop, "took longer than 300ms")
}

func TestATemplateThatFillsTheMemoryIsEnded(t *testing.T) {
	engine := start(t, enginePath, nil, "-memory", "200000000")
	growing := chartWith(t, `{{ range $i := until 1000000 }}{{ repeat 1000000 "x" }}{{ end }}`)

	expectOver(t, engine, growing, "of memory")
}

func TestOneHugeAllocationEndsTheEngine(t *testing.T) {
	engine := start(t, enginePath, nil, "-memory", "200000000")
	from := chartWith(t, `{{ repeat 4000000000 "x" }}`)

	engine.send(map[string]any{"render": ofChart})
	for {
		var frame toParent
		if readFrame(engine.out, &frame) != nil {
			break
		}
		if frame.Read == nil && frame.List == nil {
			t.Fatalf("it went on: %+v", frame)
		}
		engine.answer(from, frame)
	}

	if code := engine.exitCode(); code != 2 || !strings.Contains(engine.stderr.String(), "out of memory") {
		t.Errorf("it ended with %d: %s", code, engine.stderr)
	}
}

func TestDocumentsOverTheBoundAreNotGiven(t *testing.T) {
	engine := start(t, enginePath, nil, "-output", "1000")
	large := chartWith(t, `a: {{ repeat 1000 "x" }}`)

	_, failed := engine.render(large, ofChart)
	if failed == nil || failed.Code != overLimit {
		t.Fatalf("got %v", failed)
	}

	if _, failed := engine.render(chartWith(t, "a: b"), ofChart); failed != nil {
		t.Errorf("the next render fails: %v", failed)
	}
}

func TestAChartTellsWhichOfItsFunctionsGiveSomethingElseNextTime(t *testing.T) {
	engine := start(t, enginePath, nil)

	for template, expected := range map[string][]string{
		`a: {{ uuidv4 }}{{ randAlphaNum 3 }}{{ tpl "{{ now | date \"2006\" }}" . }}`: {"now", "randAlphaNum", "uuidv4"},
		`a: {{ upper "b" }}{{ if false }}{{ uuidv4 }}{{ end }}`:                      nil,
		`a: {{ (genCA "ca" 1).Cert | b64enc }}{{ htpasswd "a" "b" | quote }}`:        {"genCA", "htpasswd"},
	} {
		if _, failed := engine.render(chartWith(t, template), ofChart); failed != nil {
			t.Fatal(failed)
		}
		if !slices.Equal(engine.volatile, expected) {
			t.Errorf("%s: got %v", template, engine.volatile)
		}
	}
}
