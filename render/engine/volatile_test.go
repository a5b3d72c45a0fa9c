package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/types"
)

const ofData = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  d: %s\n"

// twice renders a chart as a parent does that wants to know whether it stays the same.
func (c *child) twice(from string, asked request) (first, again string, failed *failure) {
	first, failed = c.render(from, asked)
	if failed == nil {
		asked.Again = true
		again, failed = c.render(from, asked)
	}
	return first, again, failed
}

func TestASecondRenderDiffersWhereverTheClockOrChanceCount(t *testing.T) {
	engine := start(t, enginePath, nil)
	for _, expression := range []string{
		`now | unixEpoch`, `now | date "2006-01-02"`, `now | date "15"`, `date "Monday" ""`, `date "01" nil`,
		`dateInZone "05.000000000" "" "UTC"`, `date_in_zone "2006" "" "UTC"`, `htmlDate ""`, `htmlDateInZone "" "UTC"`,
		`ago (toDate "2006-01-02" "2020-01-01")`, `durationRound (toDate "2006-01-02" "2020-01-01")`,
		`now | date_modify "1h" | date "2006"`,
		`randInt 0 2`, `shuffle "ab"`, `shuffle "aba"`, `randNumeric 1`, `randAlpha 1`, `randAlpha 1 | lower`,
		`randAlphaNum 1`, `randAscii 1 | b64enc`, `randBytes 1`, `uuidv4`, `bcrypt "a"`, `htpasswd "a" "b"`,
		`encryptAES "a" "b"`, `genPrivateKey "ecdsa" | sha256sum`,
	} {
		from := chartWith(t, strings.Replace(ofData, "%s", "{{ "+expression+" | quote }}", 1))
		for range 20 {
			first, again, failed := engine.twice(from, ofChart)
			if failed != nil {
				t.Fatalf("%s: %+v", expression, failed)
			}
			if first == again || len(engine.volatile) == 0 {
				t.Fatalf("%s: twice\n%s, and told was %v", expression, first, engine.volatile)
			}
		}
	}
}

func TestWhatDependsOnNoClockAndNoChanceIsTheSame(t *testing.T) {
	engine := start(t, enginePath, nil)
	for _, expression := range []string{
		`keys (dict "a" 1 "b" 2 "c" 3 "d" 4) (dict "y" 1 "x" 2) | join ","`, `values (dict "b" 2 "a" 1 "c" 3) | join ","`,
		`randAlphaNum 8 | len`, `default (randAlphaNum 8) "given"`, `randInt 3 4`, `shuffle "aaa"`, `randAlphaNum 0`,
		`date "2006" 0`, `htmlDateInZone (toDate "2006-01-02" "2020-01-01") "UTC"`, `durationRound "2h3m"`, `ago nil`,
	} {
		from := chartWith(t, strings.Replace(ofData, "%s", "{{ "+expression+" | quote }}", 1))
		seen := map[string]bool{}
		for range 10 {
			first, again, failed := engine.twice(from, ofChart)
			if failed != nil {
				t.Fatalf("%s: %+v", expression, failed)
			}
			seen[first], seen[again] = true, true
		}
		if len(seen) != 1 {
			t.Errorf("%s gives %v", expression, seen)
		}
	}
}

func TestChartsOfAKustomizationAreSeenToChangeToo(t *testing.T) {
	engine := start(t, enginePath, nil)
	for _, chart := range []string{
		"- {name: web, releaseName: r}", `- {name: web, nameTemplate: 'r-{{ randAlpha 4 | lower }}'}`,
	} {
		from := folderOf(t, map[string]string{
			"app/kustomization.yaml":            "helmCharts:\n" + chart,
			"app/charts/web/Chart.yaml":         "{apiVersion: v2, name: web, version: 1.0.0}",
			"app/charts/web/values.yaml":        "a: b",
			"app/charts/web/templates/web.yaml": strings.Replace(ofData, "%s", `"{{ .Release.Name }} {{ now | unixEpoch }}"`, 1),
		})

		first, again, failed := engine.twice(from, request{Kind: "kustomize", Path: "app"})

		if failed != nil || first == again || !slices.Contains(engine.volatile, "now") {
			t.Errorf("%s: %+v\n%s%s%v", chart, failed, first, again, engine.volatile)
		}
	}
}

func TestEachFieldOfAChartInAKustomizationIsKnown(t *testing.T) {
	known := []string{
		"Name", "Version", "Repo", "ReleaseName", "Namespace", "AdditionalValuesFiles", "ValuesFile", "ValuesInline",
		"ValuesMerge", "IncludeCRDs", "SkipHooks", "ApiVersions", "KubeVersion", "NameTemplate", "SkipTests",
		"Debug", "Devel", // they change what is fetched or what is said
	}
	fields := reflect.VisibleFields(reflect.TypeFor[types.HelmChart]())
	for _, field := range fields {
		if !slices.Contains(known, field.Name) {
			t.Errorf("nobody reads %s, by which the command may print something else", field.Name)
		}
	}
	if len(fields) != len(known) {
		t.Errorf("there are %d fields, and %d are known", len(fields), len(known))
	}
}
