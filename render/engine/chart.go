package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/ignore"
)

// chartSource is a chart's folder in the repository, and what was read of it.
type chartSource struct {
	repository *repository
	folder     string
	rules      *ignore.Rules
	files      []*archive.BufferedFile
	bytes      int64
	// depth says of how many charts it is a dependency.
	depth int
	// elsewhere are its dependencies that are not in charts/.
	elsewhere []dependency
}

// loadChart reads a chart as Helm reads a folder: everything that .helmignore does not name.
func (s *chartSource) loadChart() (*chart.Chart, error) {
	if err := s.readRules(); err != nil {
		return nil, err
	}
	if main := path.Join(s.folder, "Chart.yaml"); s.repository.kindOf(main) == absent {
		return nil, &failure{Code: helmFailed, Message: "there is no Chart.yaml in `" + s.folder + "`", File: main}
	}
	if err := s.readFolder(""); err != nil {
		return nil, err
	}
	loaded, err := loader.LoadFiles(s.files)
	if err != nil {
		return nil, err
	}
	if err := s.addDependencies(loaded); err != nil {
		return nil, err
	}
	sortDependencies(loaded)
	return loaded, nil
}

func (s *chartSource) readRules() error {
	s.rules = ignore.Empty()
	name := path.Join(s.folder, ignore.HelmIgnore)
	content, err := s.repository.read(name)
	if err == nil {
		s.rules, err = ignore.Parse(bytes.NewReader(content))
	}
	if err != nil && !errors.Is(err, errAbsent) {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.rules.AddDefaults()
	return nil
}

// readFolder reads what is under a folder of the chart, in the order of the names.
func (s *chartSource) readFolder(within string) error {
	entries, err := s.repository.list(path.Join(s.folder, within))
	if err != nil {
		return fmt.Errorf("%s: %w", path.Join(s.folder, within), err)
	}
	for _, entry := range entries {
		name := path.Join(within, entry.Name)
		about := fileInfo{name: entry.Name, directory: entry.Kind == "directory"}
		if s.rules.Ignore(name, about) {
			continue
		}
		if about.directory {
			err = s.readFolder(name)
		} else {
			err = s.readFile(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *chartSource) readFile(name string) error {
	content, err := s.repository.read(path.Join(s.folder, name))
	if err != nil {
		return fmt.Errorf("%s: %w", path.Join(s.folder, name), err)
	}
	s.bytes += int64(len(content))
	if s.bytes > archive.MaxDecompressedChartSize {
		return &failure{
			Code:    overLimit,
			Message: fmt.Sprintf("the chart is larger than %d bytes, which Helm does not take", archive.MaxDecompressedChartSize),
			File:    s.folder,
			Hint:    "name what the templates do not need in .helmignore",
		}
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	s.files = append(s.files, &archive.BufferedFile{Name: name, Data: content})
	return nil
}

// fileOf finds the file of the repository that a template came from. Its name begins with the name of the chart, and
// under charts/ it has the names of charts, not those of folders. It is empty where that cannot be told.
func (s *chartSource) fileOf(template string) string {
	_, within, _ := strings.Cut(template, "/")
	if s.has(within) {
		return path.Join(s.folder, within)
	}
	parts := strings.SplitN(within, "/", 3)
	if parts[0] != "charts" || len(parts) < 3 {
		return ""
	}
	for _, of := range s.elsewhere {
		if cmp.Or(of.Alias, of.Name) == parts[1] {
			return of.source.fileOf(parts[1] + "/" + parts[2])
		}
	}
	for _, file := range s.repository.entriesOf(path.Join(s.folder, "charts")) {
		if strings.HasPrefix(file.Name, parts[1]+"-") && strings.HasSuffix(file.Name, ".tgz") {
			return path.Join(s.folder, "charts", file.Name)
		}
	}
	return ""
}

var (
	cannotLoad   = regexp.MustCompile(`cannot load (\S+):`)
	cannotUnpack = regexp.MustCompile(`error unpacking subchart (\S+) in `)
)

// unreadable finds the file that Helm's loader could not read. What is wrong with the chart as a whole is said about
// its Chart.yaml.
func (s *chartSource) unreadable(text string) string {
	folder := s.folder
	for _, chart := range cannotUnpack.FindAllStringSubmatch(text, -1) {
		folder = path.Join(folder, "charts", chart[1])
		if s.repository.kindOf(folder) == file {
			return folder // an archive, or no chart at all
		}
	}
	if named := cannotLoad.FindStringSubmatch(text); named != nil {
		return path.Join(folder, named[1])
	}
	return path.Join(folder, "Chart.yaml")
}

func (s *chartSource) has(name string) bool {
	return s.repository.kindOf(path.Join(s.folder, name)) == file
}

// entriesOf are those of a folder that was listed.
func (r *repository) entriesOf(name string) []entry {
	if found := r.known[name]; found != nil {
		return found.entries
	}
	return nil
}

// sortDependencies gives vendored charts an order: Helm's loader has them in a map, and the order of CRDs follows it.
func sortDependencies(of *chart.Chart) {
	under := of.Dependencies()
	slices.SortFunc(under, func(a, b *chart.Chart) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.Metadata.Version, b.Metadata.Version))
	})
	of.SetDependencies(under...)
	for _, each := range under {
		sortDependencies(each)
	}
}

// fileInfo tells .helmignore's rules what they ask about a file: whether it is a directory.
type fileInfo struct {
	name      string
	directory bool
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) IsDir() bool        { return i.directory }
func (i fileInfo) Size() int64        { return 0 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) Sys() any           { return nil }

func (i fileInfo) Mode() fs.FileMode {
	if i.directory {
		return fs.ModeDir
	}
	return 0
}
