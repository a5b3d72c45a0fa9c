package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The tests speak to the engine as the hub does: they start the program and answer its questions.

var enginePath, escapesPath string

func TestMain(m *testing.M) {
	flag.Parse()
	folder, err := os.MkdirTemp("", "render-engine-")
	if err == nil {
		enginePath, err = buildEngine(filepath.Join(folder, "engine"))
	}
	if err == nil {
		escapesPath, err = buildEngine(filepath.Join(folder, "escapes"), "-tags", "escapes")
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(folder)
	os.Exit(code)
}

// versionFlags make the libraries tell the versions that the commands of the oracles have.
const versionFlags = "-X helm.sh/helm/v4/internal/version.version=v4.3.1" +
	" -X sigs.k8s.io/kustomize/api/provenance.version=kustomize/v5.8.2"

func buildEngine(program string, flags ...string) (string, error) {
	build := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags", versionFlags, "-o", program}, flags...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return program, nil
}

// child is an engine that runs.
type child struct {
	t       testing.TB
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	stderr  *strings.Builder
	hello   hello
	// asked are the questions of the last render, and volatile what it told of its functions.
	asked, volatile []string
	// lookedAt is what of its cluster the last chart has looked at.
	lookedAt []string
}

// toParent is any frame of the engine's.
type toParent struct {
	Hello  *hello   `json:"hello"`
	Done   *done    `json:"done"`
	Failed *failure `json:"failed"`
	Read   *string  `json:"read"`
	List   *string  `json:"list"`

	Source *sourceAsked `json:"source"`
}

// start takes a file that the engine inherits, or nil.
func start(t testing.TB, program string, leftOver *os.File, flags ...string) *child {
	t.Helper()
	c := &child{t: t, process: exec.Command(program, flags...), stderr: &strings.Builder{}}
	c.process.Dir = t.TempDir()
	c.process.Env = []string{"CANARY=from the environment"}
	c.process.Stderr = c.stderr
	if leftOver != nil {
		c.process.ExtraFiles = []*os.File{leftOver}
	}
	var err error
	if c.in, err = c.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.process.Process.Kill()
		c.process.Wait()
	})
	c.hello = *c.next().Hello
	return c
}

func (c *child) send(frame any) {
	c.t.Helper()
	if err := writeFrame(c.in, frame); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) next() toParent {
	c.t.Helper()
	var frame toParent
	if err := readFrame(c.out, &frame); err != nil {
		c.t.Fatalf("%v\n%s", err, c.stderr)
	}
	return frame
}

// render asks for a render from a folder of the disk, and answers until it is done.
func (c *child) render(from string, asked request) (string, *failure) {
	c.t.Helper()
	c.asked = nil
	c.send(map[string]any{"render": asked})
	for {
		frame := c.next()
		switch {
		case frame.Failed != nil:
			c.lookedAt = frame.Failed.LookedAt
			return "", frame.Failed
		case frame.Done != nil:
			c.volatile, c.lookedAt = frame.Done.Volatile, frame.Done.LookedAt
			return frame.Done.Documents, nil
		}
		c.answer(from, frame)
	}
}

func (c *child) answer(from string, frame toParent) {
	c.t.Helper()
	if frame.Source != nil {
		name := ""
		switch asked := frame.Source; {
		case asked.Chart != nil:
			name = asked.Chart.Name
		case asked.Remote != nil:
			name = asked.Remote.URL
		default:
			name = asked.Git.URL
		}
		c.asked = append(c.asked, "source "+name)
		if found := findElsewhere(from, frame.Source); found != "" {
			c.send(map[string]any{"source": found})
		} else {
			c.send(map[string]any{"refused": "nobody has `" + name + "`"})
		}
	} else if frame.Read != nil {
		c.asked = append(c.asked, "read "+*frame.Read)
		c.send(readAnswer(from, *frame.Read))
	} else {
		c.asked = append(c.asked, "list "+*frame.List)
		c.send(listAnswer(from, *frame.List))
	}
}

// exitCode waits for the engine's end.
func (c *child) exitCode() int {
	c.in.Close()
	c.process.Wait()
	return c.process.ProcessState.ExitCode()
}

func readAnswer(from, name string) any {
	path := filepath.Join(from, name)
	about, err := os.Lstat(path)
	switch {
	case err != nil:
		return map[string]any{"absent": true}
	case about.Mode()&fs.ModeSymlink != 0:
		return map[string]any{"refused": "a symbolic link is not followed"}
	case about.IsDir():
		return map[string]any{"directory": true}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return map[string]any{"refused": err.Error()}
	}
	return map[string]any{"file": content}
}

func listAnswer(from, name string) any {
	about, err := os.Stat(filepath.Join(from, name))
	if err != nil {
		return map[string]any{"absent": true}
	}
	if !about.IsDir() {
		return map[string]any{"notDirectory": true}
	}
	found, err := os.ReadDir(filepath.Join(from, name))
	if err != nil {
		return map[string]any{"refused": err.Error()}
	}
	entries := []entry{}
	for _, each := range found {
		kind := "file"
		if each.IsDir() {
			kind = "directory"
		}
		entries = append(entries, entry{Name: each.Name(), Kind: kind})
	}
	return map[string]any{"entries": entries}
}

// folderOf writes files to a folder on the disk.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func readJSON(t *testing.T, path string, into any) bool {
	t.Helper()
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return true
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}
