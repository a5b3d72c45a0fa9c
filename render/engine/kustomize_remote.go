package main

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"
)

// remoteFolder is a Git repository at a branch, a tag or a commit.
type remoteFolder struct {
	URL       string `json:"url"`
	Reference string `json:"reference"`
}

// findBases asks for the remote bases that a kustomization names, which Kustomize would clone, and puts the folders that
// they can be read in into their places.
func (b *kustomizeBuild) findBases(name string, content []byte, kustomization *types.Kustomization) (map[string]string, *failure) {
	folder, _ := split(name)
	places := map[string]string{}
	var first *failure
	for _, list := range [][]string{kustomization.Resources, kustomization.Components, kustomization.Bases} {
		for index, reference := range list {
			base, below, isBase := parseBase(reference)
			if !isBase || !isRemote(reference, folder, b.repository) {
				continue
			}
			if places[reference] == "" {
				mount, err := b.repository.find(sourceAsked{File: name, Line: lineWith(content, reference), Git: &base})
				if err != nil {
					first = b.repository.refusal
					continue // the others are asked for, too: whoever is asked may have to look for them first
				}
				places[reference] = upwards(folder) + path.Join(mount, below)
			}
			list[index] = places[reference]
		}
	}
	return places, first
}

// withBases gives a kustomization with these folders in the places of remote bases.
func withBases(name string, content []byte, places map[string]string) ([]byte, *failure) {
	if len(places) == 0 {
		return content, nil
	}
	var fields map[string]any
	err := yaml.Unmarshal(content, &fields)
	if err == nil {
		for _, field := range []string{"resources", "components", "bases"} {
			list, _ := fields[field].([]any)
			for index, reference := range list {
				if text, isText := reference.(string); isText && places[text] != "" {
					list[index] = places[text]
				}
			}
		}
		content, err = yaml.Marshal(fields)
	}
	if err != nil {
		return nil, &failure{Code: kustomizeFailed, Message: name + ": " + err.Error(), File: name}
	}
	return content, nil
}

// upwards leads from a folder to the root. It begins with a dot, and so is never taken for a host or a user.
func upwards(folder string) string {
	if folder == "" {
		return "./"
	}
	return strings.Repeat("../", strings.Count(folder, "/")+1)
}

var (
	ofHost = regexp.MustCompile(`(?i)^((?:https?|ssh)://)([^/@]+@)?([^/@]+)/(.+)$`)
	scp    = regexp.MustCompile(`(?i)^([a-z][a-z0-9-]*@[^/:]+:)/?(.+)$`)
	github = regexp.MustCompile(`(?i)^(?:https?://)?github\.com[/:](.+)$`)
)

// parseBase tells the repository of a remote base from the folder in it, as Kustomize does: by `_git/`, `//` or `.git`, and
// else after two names. What seems to be a single file is none.
func parseBase(reference string) (base remoteFolder, below string, isBase bool) {
	if strings.HasPrefix(strings.ToLower(reference), "git::") {
		reference = reference[len("git::"):]
	}
	text, query, _ := strings.Cut(reference, "?")
	host, rest := "", ""
	if found := github.FindStringSubmatch(text); found != nil {
		host, rest = "https://github.com/", found[1]
	} else if found := ofHost.FindStringSubmatch(text); found != nil {
		host, rest = strings.ToLower(found[1])+found[3]+"/", found[4]
		if strings.HasPrefix(host, "ssh:") {
			host = "ssh://" + found[2] + found[3] + "/"
		}
	} else if found := scp.FindStringSubmatch(text); found != nil {
		host, rest = found[1], found[2]
	} else {
		return base, "", false
	}
	repo, below, isBase := splitBase(rest)
	below, inside := clean(strings.TrimPrefix(below, "/"))
	repo = strings.TrimSuffix(strings.Trim(repo, "/"), ".git")
	if !isBase || !inside || repo == "" {
		return base, "", false
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		values = nil // as Kustomize has it
	}
	asked := values.Get("ref")
	if asked == "" {
		asked = values.Get("version")
	}
	return remoteFolder{URL: host + repo, Reference: asked}, below, true
}

func splitBase(rest string) (repo, below string, isBase bool) {
	if above, within, found := strings.Cut(rest, "_git/"); found {
		name, below, _ := strings.Cut(within, "/")
		return above + "_git/" + name, below, true
	}
	if repo, below, found := strings.Cut(rest, "//"); found {
		return repo, below, true
	}
	if repo, below, found := strings.Cut(rest, ".git"); found {
		return repo, below, true
	}
	if slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(path.Ext(rest))) {
		return "", "", false
	}
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) < 2 {
		return "", "", false
	}
	return parts[0] + "/" + parts[1], strings.Join(parts[2:], "/"), true
}

// stays refuses what a kustomization of another repository names outside of that: files of whoever uses it are not its own.
func (b *kustomizeBuild) stays(name string, content []byte, kustomization *types.Kustomization) *failure {
	folder, _ := split(name)
	if b.repository.sourceOf(folder) == "" {
		return nil
	}
	named := append(references(kustomization), ofCharts(kustomization)...)
	for _, plugins := range [][]string{kustomization.Generators, kustomization.Transformers, kustomization.Validators} {
		for _, plugin := range plugins {
			named = append(named, b.pathsIn(folder, plugin)...)
		}
	}
	for _, reference := range named {
		if reference == "" || strings.Contains(reference, "\n") || isRemote(reference, folder, b.repository) {
			continue
		}
		if _, inside := b.repository.within(folder, reference); !inside {
			return &failure{
				Code:    outsideRepository,
				Message: name + ": `" + reference + "` is outside of its repository",
				File:    name,
				Line:    lineWith(content, reference),
				Hint:    "a kustomization of another repository may name what is in that, or remote bases",
			}
		}
	}
	return nil
}

func ofCharts(kustomization *types.Kustomization) (files []string) {
	if globals := kustomization.HelmGlobals; globals != nil {
		files = append(files, globals.ChartHome)
	}
	for _, chart := range kustomization.HelmCharts {
		files = append(append(files, chart.Name, chart.ValuesFile), chart.AdditionalValuesFiles...)
	}
	return files
}

// pathsIn are those that a plugin's configuration may name, and that lead upwards: whatever its fields mean.
func (b *kustomizeBuild) pathsIn(folder, plugin string) (paths []string) {
	content := []byte(plugin)
	if !strings.Contains(plugin, "\n") {
		name, inside := b.repository.within(folder, plugin)
		if !inside || b.repository.kindOf(name) != file {
			return nil // it is told by its own name, or is a kustomization
		}
		content, _ = b.repository.read(name)
	}
	decoder := kyaml.NewDecoder(strings.NewReader(string(content)))
	for {
		var document kyaml.Node
		if decoder.Decode(&document) != nil {
			return paths
		}
		paths = append(paths, upwardPaths(&document)...)
	}
}

func upwardPaths(node *kyaml.Node) (paths []string) {
	if node.Kind == kyaml.ScalarNode {
		text := node.Value
		if _, file, named := strings.Cut(text, "="); named {
			text = file
		}
		if slices.Contains(strings.Split(text, "/"), "..") {
			return []string{text}
		}
	}
	for _, each := range node.Content {
		paths = append(paths, upwardPaths(each)...)
	}
	return paths
}
