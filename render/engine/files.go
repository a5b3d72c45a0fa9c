package main

import (
	"io/fs"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// root is where Kustomize sees the repository's root. It is not `/`, so that a path that leads out of the repository
// can be told from one inside.
const root = "/repository"

// askedFiles is the file system that Kustomize works on. A build reads files and asks what is a directory; whatever else
// the interface offers goes to a file system in memory that is empty.
type askedFiles struct {
	filesys.FileSystem
	repository *repository
	// prepare gives what Kustomize is to see of a file, or refuses it.
	prepare func(name string, content []byte) ([]byte, error)
}

func newAskedFiles(repository *repository, prepare func(string, []byte) ([]byte, error)) *askedFiles {
	return &askedFiles{FileSystem: filesys.MakeFsInMemory(), repository: repository, prepare: prepare}
}

// inside turns a path of Kustomize's into one of the repository.
func (f *askedFiles) inside(name string) (string, error) {
	cleaned := path.Clean(name)
	if cleaned == root {
		return "", nil
	}
	within, found := strings.CutPrefix(cleaned, root+"/")
	if !found {
		why := &failure{
			Code:    outsideRepository,
			Message: "`" + cleaned + "` is outside of the repository",
			Hint:    "a path may lead above its kustomization, and not above the root of the repository",
		}
		f.repository.keep(why)
		return "", why
	}
	return within, nil
}

func (f *askedFiles) ReadFile(name string) ([]byte, error) {
	within, err := f.inside(name)
	if err != nil {
		return nil, err
	}
	content, err := f.repository.read(within)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.prepare(within, content)
}

// CleanedAbs gives a directory as itself, and a file as its directory and its name.
func (f *askedFiles) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	within, err := f.inside(name)
	if err != nil {
		return "", "", err
	}
	switch f.repository.kindOf(within) {
	case directory:
		return filesys.ConfirmedDir(path.Join(root, within)), "", nil
	case file:
		parent, base := split(within)
		return filesys.ConfirmedDir(path.Join(root, parent)), base, nil
	default:
		return "", "", &fs.PathError{Op: "lstat", Path: name, Err: errAbsent}
	}
}

func (f *askedFiles) kindOf(name string) kind {
	within, err := f.inside(name)
	if err != nil {
		return absent
	}
	return f.repository.kindOf(within)
}

func (f *askedFiles) IsDir(name string) bool { return f.kindOf(name) == directory }

func (f *askedFiles) Exists(name string) bool {
	kind := f.kindOf(name)
	return kind == file || kind == directory
}
