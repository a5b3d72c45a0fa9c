package main

import "testing"

func TestARemoteBaseIsTakenApartAsKustomizeDoesIt(t *testing.T) {
	for reference, want := range map[string][3]string{
		"https://github.com/org/repo//base?ref=v1.0":             {"https://github.com/org/repo", "base", "v1.0"},
		"https://github.com/org/repo/deploy/base?ref=main":       {"https://github.com/org/repo", "deploy/base", "main"},
		"https://github.com/org/repo.git/base?version=v2":        {"https://github.com/org/repo", "base", "v2"},
		"github.com/org/repo?ref=v1&timeout=90s":                 {"https://github.com/org/repo", "", "v1"},
		"git@github.com:org/repo.git//base?ref=v1":               {"git@github.com:org/repo", "base", "v1"},
		"git::ssh://git@git.example.org/a/b/c//x/y?ref=abcde":    {"ssh://git@git.example.org/a/b/c", "x/y", "abcde"},
		"https://git.example.org/org/repo/deploy":                {"https://git.example.org/org/repo", "deploy", ""},
		"https://git.example.org/group/sub/repo.git":             {"https://git.example.org/group/sub/repo", "", ""},
		"https://token@git.example.org/org/repo//a":              {"https://git.example.org/org/repo", "a", ""},
		"https://me@dev.azure.com/org/project/_git/repo/x?ref=a": {"https://dev.azure.com/org/project/_git/repo", "x", "a"},
	} {
		base, below, isBase := parseBase(reference)
		if got := [3]string{base.URL, below, base.Reference}; !isBase || got != want {
			t.Errorf("%s: %v %v", reference, isBase, got)
		}
	}
	for _, other := range []string{
		"../base", "base.yaml", "https://example.org/a/b.yaml", "file:///etc//passwd", "https://github.com/org/repo//../../x",
		"https://example.org/a", "git@example.org:a.yaml",
	} {
		if _, _, isBase := parseBase(other); isBase {
			t.Errorf("%s is a remote base", other)
		}
	}
}

func TestASingleFileIsToldByItsNameAndHasNoQuery(t *testing.T) {
	for reference, name := range map[string]string{
		"https://example.org/releases/v1/install.yaml": "install.yaml",
		"http://example.org/crds.yml":                  "crds.yml",
		"HTTPS://example.org/a.b/schema.json":          "schema.json",
	} {
		asked, below, isTaken := parseRemote(reference, true)
		if !isTaken || asked.Remote == nil || asked.Remote.URL != reference || below != name {
			t.Errorf("%s: %+v %s", reference, asked, below)
		}
	}
	for _, other := range []string{
		"https://example.org/install", "https://example.org/install.yaml?token=a", "https://example.org/.yaml", "https://a.yaml",
		"https://example.org/a%2f..%2fb.yaml", "file:///etc/a.yaml", "ssh://example.org/a.yaml", "install.yaml",
	} {
		if asked, _, isTaken := parseRemote(other, false); isTaken {
			t.Errorf("%s is taken for %+v", other, asked)
		}
	}
	if asked, _, _ := parseRemote("https://example.org/org/repo//base.yaml", true); asked.Git == nil {
		t.Error("what has two slashes is a folder of a repository first")
	}
}
