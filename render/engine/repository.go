package main

import (
	"path"
	"slices"
	"strings"
	"syscall"
)

// The errors are those of a disk, because users know their text.
const (
	errAbsent       = syscall.ENOENT
	errIsDirectory  = syscall.EISDIR
	errNotDirectory = syscall.ENOTDIR
)

// repository is the tree that a request renders from. It holds no files of its own: it asks the parent about each path
// at most once, and remembers the answers until the request is done. What it asked is what the render depends on, so it
// asks for no more than it needs.
type repository struct {
	ask   func(question) answer
	known map[string]*node
	// refusal is the first thing that was not allowed. The libraries turn errors into text on their way up; this one
	// is kept, to be told instead of what became of it.
	refusal *failure
	// sources are the folders of what is not in the repository itself.
	sources []string
}

// node is what is known about a path.
type node struct {
	kind    kind
	content []byte // of a file that was read
	isRead  bool
	entries []entry // of a directory that was listed
	listed  bool
	refusal *failure // of a path that the parent does not give
}

type kind int

const (
	unknown kind = iota
	absent
	file
	directory
	refused
)

func newRepository(ask func(question) answer) *repository {
	return &repository{ask: ask, known: map[string]*node{}}
}

// read gives a file's content. The path is clean and relative to the root, which is the empty path.
func (r *repository) read(name string) ([]byte, error) {
	node := r.look(name)
	switch node.kind {
	case absent:
		return nil, errAbsent
	case directory:
		return nil, errIsDirectory
	case refused:
		return nil, node.refusal
	}
	if !node.isRead {
		r.askToRead(name, node)
		return r.read(name)
	}
	return node.content, nil
}

// list gives a directory's entries, sorted by name.
func (r *repository) list(name string) ([]entry, error) {
	node := r.node(name)
	if (node.kind == unknown || node.kind == directory) && !node.listed {
		r.askToList(name, node)
	}
	switch node.kind {
	case absent:
		return nil, errAbsent
	case refused:
		return nil, node.refusal
	case file:
		return nil, errNotDirectory
	}
	return node.entries, nil
}

// kindOf reads what it does not know. A listing would make the render depend on every name in a directory.
func (r *repository) kindOf(name string) kind { return r.look(name).kind }

func (r *repository) look(name string) *node {
	node := r.node(name)
	if node.kind == unknown {
		r.askToRead(name, node)
	}
	return node
}

// node finds or makes the entry of a path. A path whose parent was listed is known by that.
func (r *repository) node(name string) *node {
	if found := r.known[name]; found != nil {
		return found
	}
	made := &node{}
	if name != "" {
		parent, base := split(name)
		if above := r.known[parent]; above != nil && above.listed {
			made.kind = kindIn(above.entries, base)
		}
	}
	r.known[name] = made
	return made
}

func (r *repository) askToRead(name string, node *node) {
	got := r.ask(question{Read: &name})
	node.isRead = true
	switch {
	case got.Refused != nil:
		r.refuse(node, name, *got.Refused)
	case got.Directory:
		node.kind = directory
	case got.File != nil:
		node.kind, node.content = file, got.File
	default:
		node.kind = absent
	}
}

func (r *repository) askToList(name string, node *node) {
	got := r.ask(question{List: &name})
	node.listed = true
	switch {
	case got.Refused != nil:
		r.refuse(node, name, *got.Refused)
	case got.NotDirectory:
		node.kind = file
	case got.Entries != nil:
		node.kind, node.entries = directory, got.Entries
		slices.SortFunc(node.entries, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	default:
		node.kind = absent
	}
}

// find gives the folder of something that is not in the repository itself.
func (r *repository) find(asked sourceAsked) (string, error) {
	got := r.ask(question{Source: &asked})
	if got.Source != nil {
		if !slices.Contains(r.sources, *got.Source) {
			r.sources = append(r.sources, *got.Source)
		}
		return *got.Source, nil
	}
	text := "it is not known"
	if got.Refused != nil {
		text = *got.Refused
	}
	why := &failure{Code: fileRefused, Message: text, File: asked.File, Line: asked.Line}
	r.keep(why)
	return "", why
}

// within joins a path to a folder, and says whether it stays in the same repository.
func (r *repository) within(folder, name string) (string, bool) {
	joined, inside := clean(path.Join(folder, name))
	return joined, inside && r.sourceOf(joined) == r.sourceOf(folder)
}

// sourceOf is the folder of the source that a path is in, or empty.
func (r *repository) sourceOf(name string) string {
	for _, source := range r.sources {
		if name == source || strings.HasPrefix(name, source+"/") {
			return source
		}
	}
	return ""
}

func (r *repository) refuse(node *node, name, why string) {
	node.kind = refused
	node.refusal = &failure{Code: fileRefused, Message: name + ": " + why, File: name}
	r.keep(node.refusal)
}

// keep remembers the first refusal of a request.
func (r *repository) keep(why *failure) {
	if r.refusal == nil {
		r.refusal = why
	}
}

func kindIn(entries []entry, name string) kind {
	for _, entry := range entries {
		if entry.Name == name {
			if entry.Kind == "directory" {
				return directory
			}
			return file
		}
	}
	return absent
}

// split gives the parent, which is empty for a name in the root, and the last part.
func split(name string) (parent, base string) {
	parent, base = path.Split(name)
	return strings.TrimSuffix(parent, "/"), base
}

// clean turns a path of a request into the form that a repository takes, or says that it leads out of it.
func clean(name string) (string, bool) {
	cleaned := path.Clean(name)
	if path.IsAbs(cleaned) || cleaned == ".." || strings.HasPrefix(cleaned, "../") {
		return "", false
	}
	if cleaned == "." {
		return "", true
	}
	return cleaned, true
}
