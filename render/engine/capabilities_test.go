package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func seenBy(version string, served ...string) request {
	helm := *ofChart.Helm
	helm.KubeVersion, helm.ClusterAPIVersions = version, served
	return request{Kind: "helm", Path: "chart", Helm: &helm}
}

func TestAChartSeesTheClusterThatItIsRenderedFor(t *testing.T) {
	engine := start(t, enginePath, nil)
	chart := chartWith(t, strings.Replace(ofData, "%s",
		`"{{ .Capabilities.KubeVersion }} {{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.KubeVersion.Minor }}`+
			` {{ .Capabilities.APIVersions.Has "a.io/v1" }} {{ .Capabilities.APIVersions.Has "apps/v1" }}"`, 1))

	documents, failed := engine.render(chart, seenBy("v1.32.3+k3s1", "a.io/v1", "v1"))

	if failed != nil || !strings.Contains(documents, `"v1.32.3 v1.32.3+k3s1 32 true false"`) {
		t.Fatalf("%+v\n%s", failed, documents)
	}
	documents, failed = engine.render(chart, seenBy(""))
	if failed != nil || !strings.Contains(documents, ` false true"`) {
		t.Fatalf("Helm's own are not there where none are known: %+v\n%s", failed, documents)
	}
}

func TestWhatAChartLooksAtIsToldAndNothingElse(t *testing.T) {
	engine := start(t, enginePath, nil)
	for _, one := range []struct {
		expression string
		expected   []string
	}{
		{`"a"`, nil},
		{`.Capabilities.HelmVersion.Version`, nil},
		{`.Capabilities.KubeVersion.Minor`, []string{"version"}},
		{`semverCompare ">=1.20-0" .Capabilities.KubeVersion.GitVersion`, []string{"version"}},
		{`.Capabilities.APIVersions.Has "a.io/v1/A"`, []string{"api:a.io/v1/A"}},
		{`and (.Capabilities.APIVersions.Has "a/v1") ($.Capabilities.APIVersions.Has "v1")`, []string{"api:a/v1"}},
		{`or (.Capabilities.APIVersions.Has "b") (.Capabilities.APIVersions.Has "v1")`, []string{"api:b", "api:v1"}},
		{`.Capabilities.APIVersions | len`, []string{"apis"}},
		{`has "v1" .Capabilities.APIVersions`, []string{"apis"}},
		{`tpl "{{ .Capabilities.APIVersions.Has \"v1\" }}" .`, []string{"api:v1"}},
		{`.Capabilities | toJson | sha256sum`, []string{"apis", "version"}},
		{`.Capabilities | toString | sha256sum`, []string{"apis", "version"}},
		{`(deepCopy .).Capabilities.KubeVersion.Minor`, []string{"version"}},
		{`(deepCopy .).Capabilities.APIVersions.Has "v1"`, []string{"api:v1"}},
	} {
		chart := chartWith(t, strings.Replace(ofData, "%s", "{{ "+one.expression+" | toString | quote }}", 1))

		documents, failed := engine.render(chart, seenBy("v1.32.3", "v1"))

		if failed != nil || !slices.Equal(engine.lookedAt, one.expected) {
			t.Errorf("%s: %v, %+v\n%s", one.expression, engine.lookedAt, failed, documents)
		}
	}
	chart := chartWith(t, `{{ with .Capabilities }}{{ if not (.APIVersions.Has "v2") }}{{ fail "no v2" }}{{ end }}{{ end }}`)
	if _, failed := engine.render(chart, seenBy("", "v1")); failed == nil || !slices.Equal(engine.lookedAt, []string{"api:v2"}) {
		t.Errorf("for another cluster it may not fail: %v", engine.lookedAt)
	}
	past := chartWith(t, strings.Replace(ofData, "%s", `"{{ .Capabilities.BehindTheView.KubeVersion.Minor }}"`, 1))
	documents, failed := engine.render(past, seenBy("v1.32.3"))
	if slices.Sort(engine.lookedAt); failed == nil || !slices.Equal(engine.lookedAt, []string{"apis", "version"}) {
		t.Errorf("it got past the view, which Helm does not have: %v\n%s", engine.lookedAt, documents)
	}
	if _, failed := engine.render(chartWith(t, ""), seenBy("", "v1")); failed != nil || engine.lookedAt != nil {
		t.Errorf("another render's: %v", engine.lookedAt)
	}
}

func TestWhoAsksForManyAPIsLooksAtAll(t *testing.T) {
	engine := start(t, enginePath, nil)
	chart := chartWith(t, strings.Replace(ofData, "%s",
		fmt.Sprintf(`"{{ range until %d }}{{ $.Capabilities.APIVersions.Has (toString .) }}{{ end }}"`, looksMax+10), 1))

	_, failed := engine.render(chart, seenBy("", "v1"))

	if failed != nil || !slices.Equal(engine.lookedAt, []string{"apis"}) {
		t.Fatalf("%v, %+v", len(engine.lookedAt), failed)
	}
}

func TestAChartThatNeedsAVersionHasLookedAtIt(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"chart/Chart.yaml":       `{apiVersion: v2, name: a, version: 1.0.0, kubeVersion: ">=1.33.0-0"}`,
		"chart/templates/a.yaml": strings.Replace(ofData, "%s", "a", 1),
	})

	_, failed := engine.render(from, seenBy("v1.32.3"))

	if failed == nil || !slices.Equal(engine.lookedAt, []string{"version"}) {
		t.Fatalf("%v, %+v", engine.lookedAt, failed)
	}
	if _, failed := engine.render(from, seenBy("v1.33.0-eks-1234")); failed != nil {
		t.Fatalf("%+v", failed)
	}
}

func TestAChartOfAKustomizationTellsWhatItLookedAtOfTheCluster(t *testing.T) {
	engine := start(t, enginePath, nil)
	asks := `"{{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.APIVersions.Has "a.io/v1" }}"`
	for _, one := range []struct {
		said, gives string
		expected    []string
	}{
		{"", "32 true", []string{"api:a.io/v1", "version"}},
		{", kubeVersion: 1.30.0", "30 true", []string{"api:a.io/v1"}},
		{", apiVersions: [b.io/v1]", "32 false", []string{"version"}},
		{", kubeVersion: 1.30.0, apiVersions: [a.io/v1]", "30 true", nil},
		// What another chart of it has looked at stays.
		{"}, {name: app, releaseName: s, kubeVersion: 1.30.0, valuesInline: {name: b}", "32 true", []string{"api:a.io/v1", "version"}},
	} {
		from := folderOf(t, map[string]string{
			"app/kustomization.yaml":          "helmCharts: [{name: app, releaseName: r" + one.said + "}]\n",
			"app/charts/app/Chart.yaml":       "{apiVersion: v2, name: app, version: 1.0.0}",
			"app/charts/app/values.yaml":      "name: a\n",
			"app/charts/app/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.name }}}\ndata: {a: " + asks + "}\n",
		})
		seen := seenBy("v1.32.3", "a.io/v1", "v1").Helm

		documents, failed := engine.render(from, request{Kind: "kustomize", Path: "app", Helm: seen})

		if failed != nil || !strings.Contains(documents, one.gives) || !slices.Equal(engine.lookedAt, one.expected) {
			t.Errorf("%s: %v, %+v\n%s", one.said, engine.lookedAt, failed, documents)
		}
	}
}
