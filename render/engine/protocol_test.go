package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestItAsksForEachPathOnceAndForNoMoreThanItNeeds(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"base/kustomization.yaml": "resources: [config.yaml]",
		"base/config.yaml":        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
		"base/README.md":          "not asked for",
		"app/kustomization.yaml":  "resources: [../base]\nconfigMapGenerator: [{name: a-file, files: [one=../base/config.yaml]}]",
		"other/config.yaml":       "not asked for",
	})

	if _, failed := engine.render(from, request{Kind: "kustomize", Path: "app"}); failed != nil {
		t.Fatal(failed)
	}

	expected := []string{
		"read app", "read app/kustomization.yaml", "read app/kustomization.yml", "read app/Kustomization",
		"read base", "read base/kustomization.yaml", "read base/kustomization.yml", "read base/Kustomization",
		"read base/config.yaml",
	}
	if !slices.Equal(engine.asked, expected) {
		t.Errorf("it asked\n%s", strings.Join(engine.asked, "\n"))
	}
}

func TestAChartIsAskedForWithoutWhatItIgnores(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"chart/.helmignore":       "docs/\n*.md\n",
		"chart/Chart.yaml":        "{apiVersion: v2, name: c, version: 1.0.0}",
		"chart/README.md":         "",
		"chart/docs/page.txt":     "",
		"chart/templates/a.yaml":  "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
		"values/production.yaml":  "a: b",
		"values/not-wanted.yaml":  "a: b",
		"other-chart/Chart.yaml":  "",
		"chart/templates/b/c.tpl": "",
	})
	asked := ofChart
	asked.Helm = &helmRequest{Release: "r", ValuesFiles: []string{"values/production.yaml"}}

	if _, failed := engine.render(from, asked); failed != nil {
		t.Fatal(failed)
	}

	slices.Sort(engine.asked)
	expected := []string{
		"list chart", "list chart/templates", "list chart/templates/b",
		"read chart/.helmignore", "read chart/Chart.yaml", "read chart/templates/a.yaml",
		"read chart/templates/b/c.tpl", "read values/production.yaml",
	}
	if !slices.Equal(engine.asked, expected) {
		t.Errorf("it asked\n%s", strings.Join(engine.asked, "\n"))
	}
}

func TestAFileThatTheParentRefusesIsToldWithItsReason(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := chartWith(t, "")
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "chart", "values.yaml")); err != nil {
		t.Fatal(err)
	}

	_, failed := engine.render(from, ofChart)

	expected := "chart/values.yaml: a symbolic link is not followed"
	if failed == nil || failed.Code != fileRefused || failed.Message != expected || failed.File != "chart/values.yaml" {
		t.Errorf("got %+v", failed)
	}
}

func TestAPathOutsideIsNeverAskedFor(t *testing.T) {
	engine := start(t, enginePath, nil)

	for _, path := range []string{"..", "../x", "/etc", "a/../../x"} {
		for _, kind := range []string{"kustomize", "helm"} {
			_, failed := engine.render(t.TempDir(), request{Kind: kind, Path: path, Helm: ofChart.Helm})
			if failed == nil || failed.Code != outsideRepository {
				t.Errorf("%s %s: got %v", kind, path, failed)
			}
			if len(engine.asked) > 0 {
				t.Errorf("%s %s: it asked %v", kind, path, engine.asked)
			}
		}
	}
}

func TestTheRootOfTheRepositoryCanBeRendered(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"kustomization.yaml": "resources: [config.yaml]",
		"config.yaml":        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
	})

	for _, path := range []string{"", ".", "./"} {
		if _, failed := engine.render(from, request{Kind: "kustomize", Path: path}); failed != nil {
			t.Errorf("%q: %v", path, failed)
		}
	}
}

func TestAKindThatIsNotKnownIsABadRequest(t *testing.T) {
	engine := start(t, enginePath, nil)

	_, failed := engine.render("", request{Kind: "jsonnet"})

	if failed == nil || failed.Code != badRequest {
		t.Errorf("got %v", failed)
	}
}

func TestItEndsWithItsInput(t *testing.T) {
	engine := start(t, enginePath, nil)

	if code := engine.exitCode(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

func TestAParentThatDoesNotKeepToTheProtocolIsLeft(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"a frame over the bound": binary.BigEndian.AppendUint32(nil, frameBytesMax+1),
		"no JSON":                {0, 0, 0, 1, '{'},
		"no request":             {0, 0, 0, 2, '{', '}'},
		"half a frame":           {0, 0, 0, 9, '{'},
	} {
		t.Run(name, func(t *testing.T) {
			engine := start(t, enginePath, nil)

			engine.in.Write(bytes)

			if code := engine.exitCode(); code != exitProtocol || engine.stderr.Len() == 0 {
				t.Errorf("it ended with %d: %s", code, engine.stderr)
			}
		})
	}
}

func TestItTellsWhatItIs(t *testing.T) {
	engine := start(t, enginePath, nil)

	if hello := engine.hello; hello.Engine != version || hello.Helm != "v4.3.1" || hello.Kustomize != "v0.21.2" {
		t.Errorf("got %+v", hello)
	}
}
