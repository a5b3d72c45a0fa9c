package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packed is an entry of a chart's archive: a link if it has somewhere to lead.
type packed struct {
	name, text, link string
}

const underYAML = "apiVersion: v2\nname: under\nversion: 1.0.0\n"

// A chart in an archive in charts/ may say that it is called something else than a name, have entries that lead out of it, or
// unfold into more than there is. Nothing of it reaches a file, and what is refused is refused with the archive's name.
func TestAnArchiveThatLeadsOutOfItselfOrUnfoldsWithoutEndIsRefused(t *testing.T) {
	engine := start(t, enginePath, nil)
	for name, c := range map[string]struct {
		entries []packed
		alias   string
	}{
		"a way up":                    {entries: []packed{{name: "under/../../a.yaml", text: "a: b\n"}}},
		"an absolute path":            {entries: []packed{{name: "under//etc/passwd", text: "a: b\n"}}},
		"a drive":                     {entries: []packed{{name: "under/c:/a.yaml", text: "a: b\n"}}},
		"a chart that is called ..":   {entries: []packed{{name: "under/Chart.yaml", text: strings.Replace(underYAML, "under", "..", 1)}}},
		"a chart that is called a/b":  {entries: []packed{{name: "under/Chart.yaml", text: strings.Replace(underYAML, "under", "../b", 1)}}},
		"an alias that leads up":      {alias: "../up"},
		"a file that unfolds":         {entries: []packed{{name: "under/templates/a.yaml", text: strings.Repeat("#", 128<<20)}}},
		"files that unfold together":  {entries: many(64)},
		"a Chart.yaml that is a link": {entries: []packed{{name: "under/Chart.yaml", link: "/etc/passwd"}}},
		"a packed chart that unfolds": {entries: []packed{{name: "under/charts/x-1.0.0.tgz", text: bomb(t)}}},
	} {
		t.Run(name, func(t *testing.T) {
			engine.t = t
			folder := chartOver(t, c.entries, c.alias)

			documents, failed := engine.render(folder, request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "shop"}})

			if failed == nil {
				t.Fatalf("it should fail, and gives\n%s", documents)
			}
			if failed.File != "chart/charts/under-1.0.0.tgz" && failed.File != "chart/Chart.yaml" {
				t.Errorf("it is said of `%s`: %s", failed.File, failed.Message)
			}
			t.Logf("%s: %s", failed.Code, failed.Message)
		})
	}
	engine.t = t
}

// A link is an empty file: what it leads to is not read.
func TestALinkInAnArchiveLeadsNowhere(t *testing.T) {
	engine := start(t, enginePath, nil)
	entries := []packed{
		{name: "under/templates/a.yaml", link: "../../../secret.yaml"},
		{name: "under/templates/b.yaml", text: "kind: ConfigMap\napiVersion: v1\nmetadata: {name: b}\ndata: {a: '{{ .Files.Get \"link\" }}'}\n"},
		{name: "under/link", link: "/etc/hostname"},
	}
	folder := chartOver(t, entries, "")

	documents, failed := engine.render(folder, request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "shop"}})

	if failed != nil {
		t.Fatalf("%+v", *failed)
	}
	if strings.Contains(documents, "hush") || !strings.Contains(documents, "data: {a: ''}") {
		t.Errorf("it gives\n%s", documents)
	}
}

// What a chart in folders calls itself, its charts or their aliases leads to nothing: whether it renders or not, only what lies
// in its own folder is asked for.
func TestAChartThatIsCalledAsAWayUpAsksForNothingOutsideOfItsFolder(t *testing.T) {
	engine := start(t, enginePath, nil)
	const template = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {a: '{{ .Files.Get \"../secret.yaml\" }}{{ .Files.Glob \"../**\" | len }}'}\n"
	for name, c := range map[string]struct{ main, under string }{
		"a chart":                      {main: "name: .."},
		"a chart with a path":          {main: "name: ../../shop"},
		"an absolute path":             {main: "name: /etc"},
		"a chart below":                {main: "name: shop", under: "name: .."},
		"a chart below that is wanted": {main: "name: shop, dependencies: [{name: .., version: 1.0.0}]", under: "name: .."},
		"an alias":                     {main: "name: shop, dependencies: [{name: under, version: 1.0.0, alias: ..}]", under: "name: under"},
		"an alias with a path":         {main: "name: shop, dependencies: [{name: under, version: 1.0.0, alias: ../../secret}]", under: "name: under"},
		"an absolute folder":           {main: "name: shop, dependencies: [{name: under, version: 1.0.0, repository: 'file:///etc'}]"},
		"a folder above the root":      {main: "name: shop, dependencies: [{name: under, version: 1.0.0, repository: 'file://../../..'}]"},
	} {
		t.Run(name, func(t *testing.T) {
			engine.t = t
			files := map[string]string{
				"chart/Chart.yaml":       "{apiVersion: v2, version: 1.0.0, " + c.main + "}",
				"chart/templates/a.yaml": template,
				"secret.yaml":            "a: hush\n",
			}
			if c.under != "" {
				files["chart/charts/x/Chart.yaml"] = "{apiVersion: v2, version: 1.0.0, " + c.under + "}"
				files["chart/charts/x/templates/a.yaml"] = strings.Replace(template, "{name: a}", "{name: b}", 1)
			}

			documents, failed := engine.render(folderOf(t, files), request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "shop"}})

			for _, asked := range engine.asked {
				if _, name, _ := strings.Cut(asked, " "); name != "chart" && !strings.HasPrefix(name, "chart/") || strings.Contains(name, "..") {
					t.Errorf("it asked to %s", asked)
				}
			}
			if strings.Contains(documents, "hush") {
				t.Errorf("it gives\n%s", documents)
			}
			t.Logf("%+v", failed)
		})
	}
	engine.t = t
}

func many(count int) []packed {
	entries := make([]packed, count)
	for i := range entries {
		entries[i] = packed{name: "under/files/" + string(rune('a'+i%26)) + strings.Repeat("x", i), text: strings.Repeat("#", 4<<20)}
	}
	return entries
}

// bomb is a packed chart of some KiB that is a chart of 128 MiB.
func bomb(t *testing.T) string {
	t.Helper()
	folder := chartOver(t, []packed{{name: "under/templates/a.yaml", text: strings.Repeat("#", 128<<20)}}, "")
	content, err := os.ReadFile(filepath.Join(folder, "chart/charts/under-1.0.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// chartOver writes a chart that has a packed one, whose Chart.yaml is right unless the entries say another.
func chartOver(t *testing.T, entries []packed, alias string) string {
	t.Helper()
	folder := t.TempDir()
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	written := tar.NewWriter(zipped)
	if len(entries) == 0 || entries[0].name != "under/Chart.yaml" {
		entries = append([]packed{{name: "under/Chart.yaml", text: underYAML}}, entries...)
	}
	for _, each := range entries {
		header := &tar.Header{Name: each.name, Mode: 0o644, Size: int64(len(each.text)), Typeflag: tar.TypeReg}
		if each.link != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, each.link
		}
		if err := written.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := written.Write([]byte(each.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := written.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	main := "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies: [{name: under, version: 1.0.0"
	if alias != "" {
		main += ", alias: " + alias
	}
	for name, content := range map[string][]byte{
		"chart/Chart.yaml":             []byte(main + "}]\n"),
		"chart/charts/under-1.0.0.tgz": archive.Bytes(),
		"secret.yaml":                  []byte("a: hush\n"),
	} {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
