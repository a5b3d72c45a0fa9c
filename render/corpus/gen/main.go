// Command gen writes what kubectl reads in every case of the corpus: the golden file that bellwether-render is held to.
//
//	cd render/corpus/gen && go run . ../cases > ../golden.json
//
// Each case goes the way that `kubectl apply -f` takes: the stream is decoded by apimachinery's YAMLOrJSONDecoder (which
// hands each document to sigs.k8s.io/yaml), empty and null documents are skipped, and numbers become int64 or float64
// as in an unstructured object. A case gives either its documents or the first error.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// kubectl's own look-ahead for telling JSON from YAML.
const bufferSize = 4096

type raw []byte

func (r *raw) UnmarshalJSON(data []byte) error {
	*r = append((*r)[:0], data...)
	return nil
}

type outcome struct {
	Documents []any  `json:"documents,omitempty"`
	Error     string `json:"error,omitempty"`
}

func read(stream []byte) (documents []any, err error) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), bufferSize)
	documents = []any{}
	for {
		var extension raw
		if err := decoder.Decode(&extension); err == io.EOF {
			return documents, nil
		} else if err != nil {
			return nil, err
		}
		document := bytes.TrimSpace(extension)
		if len(document) == 0 || bytes.Equal(document, []byte("null")) {
			continue
		}
		var value any
		if err := utiljson.Unmarshal(document, &value); err != nil {
			return nil, err
		}
		documents = append(documents, value)
	}
}

func run(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	golden := map[string]outcome{}
	for _, file := range files {
		stream, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		documents, err := read(stream)
		if err != nil {
			golden[filepath.Base(file)] = outcome{Error: err.Error()}
			continue
		}
		golden[filepath.Base(file)] = outcome{Documents: documents}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	return encoder.Encode(golden)
}

func main() {
	// Held here so that the version of the library under test stands in go.mod and not only behind apimachinery.
	_ = yaml.Unmarshal
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
