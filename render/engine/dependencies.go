package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// dependenciesDepthMax is far above what charts of charts of charts have, and ends those that name each other.
const dependenciesDepthMax = 8

// dependency is one that is not in charts/: what the chart says of it, and where its files are.
type dependency struct {
	*chart.Dependency
	source *chartSource
}

// addDependencies gives a chart what it names and does not have in charts/, as `helm dependency build` would: at the version
// of its Chart.lock, if it has one. What is elsewhere is asked for; nothing is fetched here.
func (s *chartSource) addDependencies(of *chart.Chart) error {
	if err := s.findDependencies(of); err != nil {
		return err
	}
	for _, wanted := range s.elsewhere {
		if slices.ContainsFunc(of.Dependencies(), wanted.isMetBy) {
			continue // the same one under another alias
		}
		if s.depth == dependenciesDepthMax {
			text := fmt.Sprintf("charts depend on each other over more than %d charts", dependenciesDepthMax)
			return s.dependencyFailure(wanted.Dependency, text, "")
		}
		found, err := wanted.source.loadChart()
		if err != nil {
			return err
		}
		if !wanted.isMetBy(found) {
			text := fmt.Sprintf("wants `%s` at %s, and what `%s` has is `%s` at %s",
				wanted.Name, wanted.Version, withoutSecrets(wanted.Repository), found.Name(), found.Metadata.Version)
			return s.dependencyFailure(wanted.Dependency, text, "correct its version, or run `helm dependency update`")
		}
		of.AddDependency(found)
	}
	return nil
}

// findDependencies asks for all of them before it reads any: whoever is asked may have to look for them first.
func (s *chartSource) findDependencies(of *chart.Chart) error {
	folders := map[string]*chartSource{}
	var first error
	for _, wanted := range of.Metadata.Dependencies {
		// What is there has its way, as it has with the command.
		if wanted == nil || slices.ContainsFunc(of.Dependencies(), func(c *chart.Chart) bool { return c.Name() == wanted.Name }) {
			continue
		}
		folder, err := s.find(of, wanted)
		if first == nil {
			first = err
		}
		if err != nil || folder == "" {
			continue // checkUsable tells of one that can only be in charts/
		}
		if folders[folder] == nil {
			folders[folder] = &chartSource{repository: s.repository, folder: folder, depth: s.depth + 1}
		}
		s.elsewhere = append(s.elsewhere, dependency{wanted, folders[folder]})
	}
	return first
}

// isMetBy is as Helm finds the chart of a dependency among those that are there.
func (d dependency) isMetBy(c *chart.Chart) bool {
	return c.Name() == d.Name && chartutil.IsCompatibleRange(d.Version, c.Metadata.Version)
}

// find gives the folder of a dependency, which is empty if it can only be in charts/.
func (s *chartSource) find(of *chart.Chart, wanted *chart.Dependency) (string, error) {
	scheme, rest, _ := strings.Cut(wanted.Repository, "://")
	switch {
	case wanted.Repository == "":
		return "", nil
	case scheme == "file":
		folder, inside := s.repository.within(s.folder, rest)
		if !inside || s.repository.kindOf(folder) != directory {
			text := fmt.Sprintf("names `%s` in `%s`, which is no folder of the repository", wanted.Name, wanted.Repository)
			return "", s.dependencyFailure(wanted, text, "write the path from the chart's own folder on")
		}
		return folder, nil
	case scheme == "https" || scheme == "http" || scheme == "oci":
		version, err := s.versionOf(of, wanted)
		if err != nil {
			return "", err
		}
		name, line := s.placeOf(wanted)
		return s.repository.find(sourceAsked{
			File:  name,
			Line:  line,
			Chart: &remoteChart{Repository: wanted.Repository, Name: wanted.Name, Versions: version},
		})
	default:
		text := fmt.Sprintf("names `%s` in `%s`, which only a Helm of somebody's own knows",
			wanted.Name, withoutSecrets(wanted.Repository))
		return "", s.dependencyFailure(wanted, text, "write the repository's URL")
	}
}

// versionOf gives what Chart.lock says, and what Chart.yaml says where there is none.
func (s *chartSource) versionOf(of *chart.Chart, wanted *chart.Dependency) (string, error) {
	if of.Lock == nil {
		return wanted.Version, nil
	}
	is := func(locked *chart.Dependency) bool {
		return locked != nil && locked.Name == wanted.Name && locked.Repository == wanted.Repository &&
			chartutil.IsCompatibleRange(wanted.Version, locked.Version)
	}
	at := slices.IndexFunc(of.Lock.Dependencies, is)
	if at >= 0 && isInSync(of) {
		return of.Lock.Dependencies[at].Version, nil
	}
	name, _ := s.placeOf(wanted)
	lock := "Chart.lock"
	if path.Base(name) != "Chart.yaml" {
		lock = "requirements.lock"
	}
	text := fmt.Sprintf("%s is out of sync with %s", lock, path.Base(name))
	if at < 0 {
		text = fmt.Sprintf("%s: it has no version of `%s` that is %s", text, wanted.Name, cmp.Or(wanted.Version, "any"))
	}
	return "", &failure{
		Code:    helmDependency,
		File:    path.Join(s.folder, lock),
		Message: text,
		Hint:    "run `helm dependency update` and commit " + lock,
	}
}

// isInSync says whether a lock was made of these dependencies. Helm 2 made its digest of something else.
func isInSync(of *chart.Chart) bool {
	if of.Metadata.APIVersion == chart.APIVersionV1 {
		return true
	}
	data, err := json.Marshal([2][]*chart.Dependency{of.Metadata.Dependencies, of.Lock.Dependencies})
	return err == nil && of.Lock.Digest == fmt.Sprintf("sha256:%x", sha256.Sum256(data))
}

func (s *chartSource) dependencyFailure(wanted *chart.Dependency, text, hint string) error {
	name, line := s.placeOf(wanted)
	return &failure{Code: helmDependency, File: name, Line: line, Message: name + " " + text, Hint: hint}
}

// placeOf is where a dependency is named: in a file that has no others, in charts of the first version.
func (s *chartSource) placeOf(wanted *chart.Dependency) (string, int) {
	type named struct{ Name, Version, Alias string }
	for _, name := range []string{"requirements.yaml", "Chart.yaml"} {
		at := slices.IndexFunc(s.files, func(file *archive.BufferedFile) bool { return file.Name == name })
		var written struct {
			Dependencies []kyaml.Node `yaml:"dependencies"`
		}
		if at < 0 || kyaml.Unmarshal(s.files[at].Data, &written) != nil {
			continue
		}
		for _, each := range written.Dependencies {
			var is named
			if each.Decode(&is) == nil && is == (named{wanted.Name, wanted.Version, wanted.Alias}) {
				return path.Join(s.folder, name), each.Line
			}
		}
	}
	return path.Join(s.folder, "Chart.yaml"), 0
}

// withoutSecrets gives a URL without what may be a password: its user, its query, and all of it where neither can be told from
// the rest.
func withoutSecrets(url string) string {
	if end := strings.IndexAny(url, "?#"); end >= 0 {
		url = url[:end]
	}
	scheme, rest, isURL := strings.Cut(url, "://")
	if !isURL {
		return url
	}
	host, path, _ := strings.Cut(rest, "/")
	host = host[strings.LastIndex(host, "@")+1:]
	after := host[strings.LastIndex(host, "]")+1:]
	if _, port, _ := strings.Cut(after, ":"); strings.Trim(port, "0123456789") != "" {
		return scheme + "://…"
	}
	return scheme + "://" + strings.TrimSuffix(host+"/"+path, "/")
}
