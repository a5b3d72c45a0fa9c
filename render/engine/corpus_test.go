package main

import (
	"flag"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A case of the corpus is a small repository that shows one feature or one fault. The folder `app` is the overlay and
// `chart` the chart that is rendered; request.json has what else is asked. Beside them stands what is expected:
// expected.yaml, which the real command has written, or expected.json, what is said about the fault. What lies in `over` is
// another repository, whose overlay is laid over the chart.

const overApp = "over/app"

var update = flag.Bool("update", false, "let the real commands write what is expected")

type corpusCase struct {
	name    string
	folder  string
	request request
	// expected is nil for a fault.
	expected []byte
	fault    fault
}

type fault struct {
	Code string `json:"code"`
	File string `json:"file"`
	Line int    `json:"line"`
	// Says is a part of the message, or how it begins.
	Says  string `json:"says"`
	First bool   `json:"first"`
	// Hides is what the message must not have.
	Hides string `json:"hides"`
	// NotAsTheCommand is why the command is not asked: what it does, or tries to do, that the engine does not.
	NotAsTheCommand string `json:"notAsTheCommand"`
}

func corpus(t *testing.T, kind, rendered string) []corpusCase {
	t.Helper()
	folders, err := os.ReadDir(filepath.Join("testdata", kind))
	if err != nil {
		t.Fatal(err)
	}
	var cases []corpusCase
	for _, each := range folders {
		c := corpusCase{name: each.Name(), folder: filepath.Join("testdata", kind, each.Name())}
		c.request = request{Kind: kind, Path: rendered}
		if kind == "over" {
			over := overApp
			c.request.Kind, c.request.Kustomize, c.request.KustomizeSource = "helm", &over, path.Dir(over)
		}
		if kind != "kustomize" {
			c.request.Helm = &helmRequest{Release: "shop", Namespace: "default", KubeVersion: "1.33.0"}
			readJSON(t, filepath.Join(c.folder, "request.json"), c.request.Helm)
		}
		if !readJSON(t, filepath.Join(c.folder, "expected.json"), &c.fault) {
			c.expected, err = os.ReadFile(filepath.Join(c.folder, "expected.yaml"))
			if err != nil && !*update {
				t.Fatal(err)
			}
		}
		cases = append(cases, c)
	}
	return cases
}

func TestAnOverlayGivesWhatKustomizeGives(t *testing.T) {
	checkCorpus(t, corpus(t, "kustomize", "app"))
}
func TestAChartGivesWhatHelmGives(t *testing.T) { checkCorpus(t, corpus(t, "helm", "chart")) }
func TestAKustomizationOverAChartGivesWhatBothCommandsGive(t *testing.T) {
	checkCorpus(t, corpus(t, "over", "chart"))
}

// checkCorpus lets one engine render all cases, forwards and backwards: none may leave anything behind for another one.
func checkCorpus(t *testing.T, cases []corpusCase) {
	engine := start(t, enginePath, nil)
	for _, order := range []string{"forwards", "backwards"} {
		for _, each := range cases {
			t.Run(order+"/"+each.name, func(t *testing.T) {
				engine.t = t
				each.check(t, engine)
			})
		}
		slices.Reverse(cases)
	}
	engine.t = t
	if engine.stderr.Len() > 0 {
		t.Errorf("standard error is for crashes, and has: %s", engine.stderr)
	}
}

func (c corpusCase) check(t *testing.T, engine *child) {
	documents, failed := engine.render(c.folder, c.request)
	if c.fault.Code == "" {
		if failed != nil {
			t.Fatalf("%+v", *failed)
		}
		if documents != string(c.expected) {
			t.Errorf("the engine gives\n%s\nand the command gives\n%s", documents, c.expected)
		}
		return
	}
	if failed == nil {
		t.Fatalf("it should fail with %s, and gives\n%s", c.fault.Code, documents)
	}
	c.fault.check(t, failed)
}

func (f fault) check(t *testing.T, got *failure) {
	t.Helper()
	said := strings.Contains(got.Message, f.Says) && (!f.First || strings.HasPrefix(got.Message, f.Says))
	placed := (f.File == "" || f.File == got.File) && (f.Line == 0 || f.Line == got.Line)
	if got.Code != f.Code || !said || !placed {
		t.Errorf("expected %+v\ngot %s in %s:%d: %s", f, got.Code, got.File, got.Line, got.Message)
	}
	if f.Hides != "" && strings.Contains(got.Message, f.Hides) {
		t.Errorf("the message has what a file has: %s", got.Message)
	}
	if strings.Contains(got.Message, root) {
		t.Errorf("the message has a path of the engine's own: %s", got.Message)
	}
}

func TestKustomizeItselfGivesWhatIsExpected(t *testing.T) {
	command := os.Getenv("BELLWETHER_KUSTOMIZE")
	if command == "" {
		t.Skip("BELLWETHER_KUSTOMIZE does not name the command")
	}
	for _, each := range corpus(t, "kustomize", "app") {
		arguments := []string{"build", "--load-restrictor", "LoadRestrictionsNone", "app"}
		if helm := os.Getenv("BELLWETHER_HELM"); helm != "" {
			arguments = append(arguments, "--enable-helm", "--helm-command", helm)
		} else if strings.Contains(each.name, "helm-") {
			continue
		}
		each.checkCommand(t, command, arguments...)
	}
}

func TestHelmItselfGivesWhatIsExpected(t *testing.T) {
	command := os.Getenv("BELLWETHER_HELM")
	if command == "" {
		t.Skip("BELLWETHER_HELM does not name the command")
	}
	for _, each := range corpus(t, "helm", "chart") {
		each.checkCommand(t, command, helmArguments(t, each.request.Helm)...)
	}
}

// TestHelmAndKustomizeThemselvesGiveWhatIsExpected pipes the one command into the other, as people do.
func TestHelmAndKustomizeThemselvesGiveWhatIsExpected(t *testing.T) {
	helm, kustomize := os.Getenv("BELLWETHER_HELM"), os.Getenv("BELLWETHER_KUSTOMIZE")
	if helm == "" || kustomize == "" {
		t.Skip("BELLWETHER_HELM and BELLWETHER_KUSTOMIZE do not name the commands")
	}
	script := `over=$1 kustomize=$2 && shift 2 && "$@" >"$over/release.yaml" &&
		(cd "$over" && "$kustomize" edit add resource release.yaml) && exec "$kustomize" build "$over"`
	for _, each := range corpus(t, "over", "chart") {
		arguments := []string{"-euc", script, "sh", overApp, kustomize, helm}
		each.checkCommand(t, "/bin/sh", append(arguments, helmArguments(t, each.request.Helm)...)...)
	}
}

func helmArguments(t *testing.T, asked *helmRequest) []string {
	arguments := []string{"template", asked.Release, "chart", "--namespace", asked.Namespace}
	if asked.KubeVersion != "" {
		arguments = append(arguments, "--kube-version", asked.KubeVersion)
	}
	for _, name := range asked.ValuesFiles {
		arguments = append(arguments, "--values", name)
	}
	if asked.Values != nil {
		arguments = append(arguments, "--values", inlineValues(t, asked.Values))
	}
	for _, setting := range asked.Set {
		arguments = append(arguments, "--set", setting)
	}
	for _, setting := range asked.SetString {
		arguments = append(arguments, "--set-string", setting)
	}
	for _, version := range asked.APIVersions {
		arguments = append(arguments, "--api-versions", version)
	}
	if asked.IncludeCRDs {
		arguments = append(arguments, "--include-crds")
	}
	if asked.SkipTests {
		arguments = append(arguments, "--skip-tests")
	}
	return arguments
}

func inlineValues(t *testing.T, values map[string]any) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "values.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(mustJSON(t, values)); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// checkCommand runs the real command on a case, unless that says why they differ.
func (c corpusCase) checkCommand(t *testing.T, command string, arguments ...string) {
	if c.fault.NotAsTheCommand != "" {
		return
	}
	t.Run(c.name, func(t *testing.T) {
		run := exec.Command(command, arguments...)
		run.Dir, run.Env = c.prepare(t)
		if c.request.Helm != nil && c.dependsOnOthers() {
			c.fetchDependencies(t, command, run)
		}
		var complaint strings.Builder
		run.Stderr = &complaint
		printed, err := run.Output()
		if c.fault.Code != "" {
			if err == nil {
				t.Errorf("the command should fail, and prints\n%s", printed)
			}
			return
		}
		if err != nil {
			t.Fatalf("%v: %s", err, complaint.String())
		}
		if *update {
			err = os.WriteFile(filepath.Join(c.folder, "expected.yaml"), printed, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !*update && string(printed) != string(c.expected) {
			t.Errorf("the command prints\n%s\nand expected.yaml has\n%s", printed, c.expected)
		}
	})
}
