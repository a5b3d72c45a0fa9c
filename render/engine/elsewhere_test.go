package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
)

// What a case has in other places lies in its folder `elsewhere`: the charts of Helm repositories and of registries in
// `HOST/PATH/NAME-VERSION`, Git repositories, at each of their tags, in `HOST/PATH@TAG`, and single files where their URLs
// have them. The engine is given these folders, and the real commands fetch them: charts and files through a proxy that
// has nothing else, and repositories by what Git's configuration puts into the place of a URL.
const elsewhere = "elsewhere"

// findElsewhere gives the folder of what the engine asks for, which is empty if there is none.
func findElsewhere(from string, asked *sourceAsked) string {
	if base := asked.Git; base != nil {
		_, place, _ := strings.Cut(base.URL, "://")
		return folderIn(from, path.Join(elsewhere, place+"@"+base.Reference))
	}
	if single := asked.Remote; single != nil {
		_, place, _ := strings.Cut(single.URL, "://")
		return folderIn(from, path.Join(elsewhere, path.Dir(place)))
	}
	_, place, _ := strings.Cut(asked.Chart.Repository, "://")
	place = path.Join(elsewhere, place)
	newest := ""
	for _, version := range versionsOf(filepath.Join(from, place), asked.Chart.Name) {
		fits := asked.Chart.Versions == "" || chartutil.IsCompatibleRange(asked.Chart.Versions, version)
		if fits && (newest == "" || chartutil.IsCompatibleRange(">"+newest, version)) {
			newest = version
		}
	}
	return folderIn(from, path.Join(place, asked.Chart.Name+"-"+newest))
}

func folderIn(from, name string) string {
	if about, err := os.Stat(filepath.Join(from, name)); err != nil || !about.IsDir() {
		return ""
	}
	return name
}

func versionsOf(folder, chart string) (versions []string) {
	found, _ := filepath.Glob(filepath.Join(folder, chart+"-[0-9]*"))
	for _, each := range found {
		versions = append(versions, strings.TrimPrefix(filepath.Base(each), chart+"-"))
	}
	return versions
}

// dependsOnOthers says whether a chart has dependencies that are not in its charts/.
func (c corpusCase) dependsOnOthers() bool {
	about, _ := os.ReadFile(filepath.Join(c.folder, "chart", "Chart.yaml"))
	return folderIn(c.folder, elsewhere) != "" || strings.Contains(string(about), "file://")
}

// fetchDependencies lets the command do what the parent does for the engine: a repository has to be known for a lock.
func (c corpusCase) fetchDependencies(t *testing.T, command string, run *exec.Cmd) {
	arguments := [][]string{{"dependency", "build", "chart", "--plain-http"}}
	if folderIn(c.folder, path.Join(elsewhere, "charts.example.org/stable")) != "" {
		arguments = slices.Insert(arguments, 0, []string{"repo", "add", "stable", "http://charts.example.org/stable"})
	}
	for _, each := range arguments {
		fetch := exec.Command(command, each...)
		fetch.Dir, fetch.Env = run.Dir, run.Env
		if said, err := fetch.CombinedOutput(); err != nil && c.fault.Code == "" {
			t.Fatalf("%v: %s", err, said)
		}
	}
}

// prepare gives a copy of the case that a command may write into, and the environment in which it finds the rest.
func (c corpusCase) prepare(t *testing.T) (folder string, environment []string) {
	t.Helper()
	folder, home := t.TempDir(), t.TempDir()
	environment = []string{"HOME=" + home, "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	if err := os.CopyFS(folder, os.DirFS(c.folder)); err != nil {
		t.Fatal(err)
	}
	places := filepath.Join(folder, elsewhere)
	if _, err := os.Stat(places); err != nil {
		return folder, environment
	}
	proxy := httptest.NewServer(chartServer{places})
	t.Cleanup(proxy.Close)
	return folder, append(environment, append(repositoriesIn(t, places, home),
		"HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL)...)
}

// repositoriesIn makes a repository of each that a case has, and gives the configuration by which Git finds it.
func repositoriesIn(t *testing.T, places, home string) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(places, "*", "*", "*@*"))
	for _, each := range found {
		within, _ := filepath.Rel(places, each)
		place, tag, _ := strings.Cut(within, "@")
		tree := filepath.Join(home, "git", place)
		script := `git init -q "$1" && ln -sfn "$1" "$1.git" && cp -r "$2/." "$1" && cd "$1" && git add -A &&
			git -c user.name=a -c user.email=a@b.c commit -qm a && git tag "$3"`
		if said, err := exec.Command("sh", "-c", script, "sh", tree, each, tag).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}
	return []string{
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=url.file://" + filepath.Join(home, "git") + "/git.example.org/.insteadOf",
		"GIT_CONFIG_VALUE_0=https://git.example.org/",
	}
}

// chartServer answers for the hosts of a case, as Helm repositories and as a registry.
type chartServer struct{ folder string }

func (s chartServer) ServeHTTP(to http.ResponseWriter, asked *http.Request) {
	place, isOfRegistry := strings.CutPrefix(asked.URL.Path, "/v2/")
	folder := filepath.Join(s.folder, asked.URL.Host, path.Dir(asked.URL.Path))
	switch {
	case asked.Method == http.MethodConnect:
		to.WriteHeader(http.StatusBadGateway)
	case isOfRegistry && place == "":
	case isOfRegistry:
		s.answerAsRegistry(to, asked.URL.Host, strings.Split(place, "/"))
	case path.Base(asked.URL.Path) == "index.yaml":
		fmt.Fprint(to, index(folder))
	case slices.Contains([]string{".yaml", ".json"}, path.Ext(asked.URL.Path)):
		http.ServeFile(to, asked, filepath.Join(folder, path.Base(asked.URL.Path)))
	case strings.HasSuffix(asked.URL.Path, ".tgz"):
		to.Write(pack(filepath.Join(folder, strings.TrimSuffix(path.Base(asked.URL.Path), ".tgz"))))
	default:
		to.WriteHeader(http.StatusNotFound)
	}
}

func index(folder string) string {
	text := "apiVersion: v1\nentries:\n"
	found, _ := filepath.Glob(filepath.Join(folder, "*-[0-9]*"))
	charts := map[string]string{}
	for _, each := range found {
		name, version, _ := strings.Cut(filepath.Base(each), "-")
		charts[name] += fmt.Sprintf("  - {apiVersion: v2, name: %s, version: %s, digest: %x, urls: [%s-%s.tgz]}\n",
			name, version, sha256.Sum256(pack(each)), name, version)
	}
	for name, versions := range charts {
		text += "  " + name + ":\n" + versions
	}
	return text
}

func (s chartServer) answerAsRegistry(to http.ResponseWriter, host string, parts []string) {
	end := len(parts) - 2
	name, what, which := path.Join(parts[:end]...), parts[end], parts[end+1]
	folder, chart := filepath.Split(filepath.Join(s.folder, host, name))
	tags := versionsOf(folder, chart)
	if what == "tags" {
		fmt.Fprintf(to, `{"name": %q, "tags": ["%s"]}`, name, strings.Join(tags, `", "`))
		return
	}
	blobs := map[string][]byte{}
	for _, tag := range tags {
		layer := pack(filepath.Join(folder, chart+"-"+tag))
		config := []byte(fmt.Sprintf(`{"name": %q, "version": %q, "apiVersion": "v2"}`, chart, tag))
		manifest := []byte(fmt.Sprintf(`{"schemaVersion": 2, "mediaType": %q, "config": %s, "layers": [%s]}`, manifestType,
			descriptor("application/vnd.cncf.helm.config.v1+json", config),
			descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", layer)))
		blobs[tag], blobs[digestOf(manifest)], blobs[digestOf(config)], blobs[digestOf(layer)] = manifest, manifest, config, layer
	}
	blob, found := blobs[which]
	if !found {
		to.WriteHeader(http.StatusNotFound)
		return
	}
	if what == "manifests" {
		to.Header().Set("Content-Type", manifestType)
	}
	to.Header().Set("Docker-Content-Digest", digestOf(blob))
	to.Header().Set("Content-Length", fmt.Sprint(len(blob)))
	to.Write(blob)
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func digestOf(blob []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(blob)) }

func descriptor(mediaType string, blob []byte) string {
	return fmt.Sprintf(`{"mediaType": %q, "digest": %q, "size": %d}`, mediaType, digestOf(blob), len(blob))
}

// pack gives a chart's folder as `helm package` would, the same each time.
func pack(folder string) []byte {
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	name, _, _ := strings.Cut(filepath.Base(folder), "-")
	filepath.Walk(folder, func(each string, about os.FileInfo, err error) error {
		if err != nil || about.IsDir() {
			return err
		}
		within, _ := filepath.Rel(folder, each)
		content, err := os.ReadFile(each)
		archive.WriteHeader(&tar.Header{Name: path.Join(name, within), Mode: 0o644, Size: int64(len(content))})
		archive.Write(content)
		return err
	})
	archive.Close()
	zipped.Close()
	return packed.Bytes()
}
