package main

import (
	"cmp"
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

// remoteFile is a single file at a URL.
type remoteFile struct {
	URL string `json:"url"`
}

// findRemotes asks for what a kustomization names in other places, which Kustomize would clone or fetch, and gives the paths
// that it can be read at, by what names it.
func (b *kustomizeBuild) findRemotes(name string, content []byte, kustomization *types.Kustomization) (places, *failure) {
	folder, _ := split(name)
	folders := slices.Concat(kustomization.Resources, kustomization.Components, kustomization.Bases)
	found := places{}
	var first *failure
	for _, reference := range references(kustomization) {
		asked, below, isTaken := parseRemote(reference, slices.Contains(folders, reference))
		if found[reference] != "" || !isTaken || !isRemote(reference, folder, b.repository) {
			continue
		}
		asked.File, asked.Line = name, lineWith(content, reference)
		mount, err := b.repository.find(asked)
		if err != nil {
			first = b.repository.refusal
			continue // the others are asked for, too: whoever is asked may have to look for them first
		}
		found[reference] = upwards(folder) + path.Join(mount, below)
	}
	return found, first
}

// parseRemote says what is to be asked for, and where it is in that. Kustomize takes for a folder what is no file.
func parseRemote(reference string, mayBeFolder bool) (asked sourceAsked, below string, isTaken bool) {
	if base, below, isBase := parseBase(reference); isBase && mayBeFolder {
		return sourceAsked{Git: &base}, below, true
	}
	if found := singleFile.FindStringSubmatch(reference); found != nil {
		return sourceAsked{Remote: &remoteFile{URL: reference}}, found[1], true
	}
	return asked, "", false
}

// singleFile has no query: what is in one is seldom the same for long, and often a secret.
var singleFile = regexp.MustCompile(`(?i)^https?://[^/?#]+/(?:[^?#]*/)?([a-z0-9_-][a-z0-9._-]*\.(?:yaml|yml|json))$`)

// places are the paths that stand for what is in other places.
type places map[string]string

// take puts the paths into the lists that are told from a kustomization later on.
func (p places) take(kustomization *types.Kustomization) {
	for _, list := range [][]string{
		kustomization.Resources, kustomization.Components, kustomization.Bases,
		kustomization.Generators, kustomization.Transformers, kustomization.Validators,
	} {
		for index, reference := range list {
			list[index] = cmp.Or(p[reference], reference)
		}
	}
}

// in gives a kustomization with the paths in the places of what they stand for.
func (p places) in(name string, content []byte) ([]byte, *failure) {
	if len(p) == 0 {
		return content, nil
	}
	var fields map[string]any
	err := yaml.Unmarshal(content, &fields)
	if err == nil {
		p.replace(fields)
		content, err = yaml.Marshal(fields)
	}
	if err != nil {
		return nil, &failure{Code: kustomizeFailed, Message: name + ": " + err.Error(), File: name}
	}
	return content, nil
}

// replace knows the same fields as `references`.
func (p places) replace(fields map[string]any) {
	p.members(fields, "resources", "components", "bases", "crds", "configurations", "generators", "transformers",
		"validators", "patchesStrategicMerge")
	p.members(fields["openapi"], "path")
	for _, field := range []string{
		"patches", "patchesJson6902", "replacements", "configMapGenerator", "secretGenerator",
	} {
		list, _ := fields[field].([]any)
		for _, each := range list {
			p.members(each, "path", "env", "envs", "files")
		}
	}
}

// members replaces what these members of an object have, which is a text or a list of them.
func (p places) members(object any, names ...string) {
	members, _ := object.(map[string]any)
	for _, name := range names {
		switch value := members[name].(type) {
		case string:
			members[name] = p.of(value)
		case []any:
			for index, each := range value {
				if text, isText := each.(string); isText {
					value[index] = p.of(text)
				}
			}
		}
	}
}

// of gives the path, also of what a generator has under a name of its own: `key=https://…`.
func (p places) of(text string) string {
	if key, reference, named := strings.Cut(text, "="); named && p[text] == "" && p[reference] != "" {
		return key + "=" + p[reference]
	}
	return cmp.Or(p[text], text)
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
