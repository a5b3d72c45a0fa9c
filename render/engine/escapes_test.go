//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// startEscapes starts the test build with an open file that it should not have.
func startEscapes(t *testing.T, leftOut ...string) *child {
	t.Helper()
	var flags []string
	for _, name := range leftOut {
		flags = append(flags, "-leave-out", name)
	}
	leftOver, err := os.Create(filepath.Join(t.TempDir(), "left-over"))
	if err != nil {
		t.Fatal(err)
	}
	defer leftOver.Close()
	return start(t, escapesPath, leftOver, flags...)
}

// tryAll gives the kernel's answer for each escape.
func (c *child) tryAll() map[string]string {
	c.t.Helper()
	report, failed := c.render("", request{Kind: "escape"})
	if failed != nil {
		c.t.Fatal(failed)
	}
	answers := map[string]string{}
	for line := range strings.Lines(report) {
		name, answer, _ := strings.Cut(strings.TrimSpace(line), ": ")
		answers[name] = answer
	}
	return answers
}

func TestNoEscapeGoesThrough(t *testing.T) {
	engine := startEscapes(t)
	if !slices.Contains(engine.hello.Layers, "seccomp") {
		t.Fatalf("the filter could not be set: missing %v", engine.hello.Missing)
	}

	answers := engine.tryAll()

	ownAnswers := map[string]string{"read the environment": "it is empty", "use a left-over file": "bad file descriptor"}
	for name, answer := range answers {
		expected := ownAnswers[name]
		if expected == "" {
			expected = "operation not permitted"
		}
		if answer != expected {
			t.Errorf("%s: expected %q, got %q", name, expected, answer)
		}
	}
	if len(answers) < 30 {
		t.Errorf("only %d escapes were tried", len(answers))
	}
}

func TestWithoutTheFilterNoPathIsReachedAllTheSame(t *testing.T) {
	engine := startEscapes(t, "seccomp", "rlimits")
	if !slices.Contains(engine.hello.Layers, "landlock") {
		t.Skip("this kernel has no Landlock")
	}

	answers := engine.tryAll()

	for _, name := range []string{"read a file", "list a folder", "write a file", "make a folder", "make a link", "run a program", "connect"} {
		if answers[name] != "permission denied" {
			t.Errorf("%s: %s", name, answers[name])
		}
	}
}

// The escapes are real ones: where nothing holds them, they go through.
func TestWithoutAnyLayerTheEscapesGoThrough(t *testing.T) {
	engine := startEscapes(t, "descriptors", "rlimits", "no_new_privs", "landlock", "seccomp")

	answers := engine.tryAll()

	for _, name := range []string{"read a file", "write a file", "make a TCP socket", "fork", "map code", "run from memory"} {
		if answers[name] != "WENT THROUGH" {
			t.Errorf("%s: %s", name, answers[name])
		}
	}
	if answers["run a program"] != "bad address" {
		t.Errorf("run a program: %s", answers["run a program"])
	}
}

func TestAMissingLayerIsNamed(t *testing.T) {
	all := []string{"descriptors", "rlimits", "no_new_privs", "landlock", "seccomp"}

	engine := startEscapes(t, "landlock", "rlimits")

	if !slices.Equal(engine.hello.Missing, []string{"rlimits", "landlock"}) {
		t.Errorf("missing: %v", engine.hello.Missing)
	}
	if together := len(engine.hello.Layers) + len(engine.hello.Missing); together != len(all) {
		t.Errorf("of %d layers, %d are told", len(all), together)
	}
}
