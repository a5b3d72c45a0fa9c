package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// frameBytesMax is far above what a render reads or gives in one piece, and small enough to be held in memory.
const frameBytesMax = 64 << 20

// hello is the first frame: who this is, and what holds it.
type hello struct {
	Engine    string   `json:"engine"`
	Helm      string   `json:"helm"`
	Kustomize string   `json:"kustomize"`
	Layers    []string `json:"layers"`
	Missing   []string `json:"missing"`
}

// request asks for one render. Path is a folder of the repository, relative to its root.
type request struct {
	Kind string `json:"kind"`
	Path string `json:"path"`
	// Helm is needed for a chart. For a kustomization it says what the charts in it see of the cluster.
	Helm *helmRequest `json:"helm"`
	// Kustomize is the folder of a kustomization that gets what Helm gave as a resource, if there is one.
	Kustomize *string `json:"kustomize"`
	// KustomizeSource is the folder of the repository that this one is in, if that is not the chart's: it leads to nothing
	// outside of it.
	KustomizeSource string `json:"kustomizeSource"`
	// Again is for a second render of the same: the clock and what is random differ from the first one's in all that they
	// may give, so that what depends on them is another.
	Again bool `json:"again"`
}

// helmRequest is what `helm template` takes from its command line.
type helmRequest struct {
	Release     string         `json:"release"`
	Namespace   string         `json:"namespace"`
	Values      map[string]any `json:"values"`
	ValuesFiles []string       `json:"valuesFiles"`
	settings
	// Over is what somebody sets over all that is asked for.
	Over        settings `json:"over"`
	KubeVersion string   `json:"kubeVersion"`
	APIVersions []string `json:"apiVersions"`
	// ClusterAPIVersions is all that the cluster serves, if that is known: it takes the place of what Helm has built in.
	ClusterAPIVersions []string `json:"clusterApiVersions"`
	IncludeCRDs        bool     `json:"includeCrds"`
	// MarkCRDs is an annotation for each object of `crds/`, if there is one.
	MarkCRDs  *crdMark `json:"markCrds"`
	SkipTests bool     `json:"skipTests"`
	// Frozen is what all follows from that is volatile, if it is to be the same each time.
	Frozen *frozenRequest `json:"frozen"`
	// Lookup is empty, for templates that call `lookup` to fail, or "empty", for them to find nothing.
	Lookup string `json:"lookup"`
}

type crdMark struct {
	Annotation string `json:"annotation"`
	Value      string `json:"value"`
}

// settings are over values, as `--set` and `--set-string` are.
type settings struct {
	Set []string `json:"set"`
	// SetString goes over Set, and all that it gives is text.
	SetString []string `json:"setString"`
}

// question is what the engine asks while it renders: one of these.
type question struct {
	Read   *string      `json:"read,omitempty"`
	List   *string      `json:"list,omitempty"`
	Source *sourceAsked `json:"source,omitempty"`
}

// sourceAsked is something that is not in the repository, and where it is named. The parent answers with the folder that its
// files can be read in.
type sourceAsked struct {
	File   string        `json:"file"`
	Line   int           `json:"line"`
	Chart  *remoteChart  `json:"chart,omitempty"`
	Git    *remoteFolder `json:"git,omitempty"`
	Remote *remoteFile   `json:"remote,omitempty"`
}

// remoteChart is a chart in a Helm repository or in a registry, at the newest version of a range.
type remoteChart struct {
	Repository string `json:"repository"`
	Name       string `json:"name"`
	Versions   string `json:"versions"`
}

// answer is what the parent knows about a path: one of these.
type answer struct {
	File         []byte  `json:"file"`
	Directory    bool    `json:"directory"`
	Entries      []entry `json:"entries"`
	NotDirectory bool    `json:"notDirectory"`
	Absent       bool    `json:"absent"`
	Refused      *string `json:"refused"`
	Source       *string `json:"source"`
}

// entry is a line of a listing.
type entry struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// done is a render that worked: the objects as the command would print them.
type done struct {
	Documents string `json:"documents"`
	// Volatile are the functions of a chart that may give something else next time.
	Volatile []string `json:"volatile,omitempty"`
	// LookedAt is what of its cluster the chart has looked at: see helm_capabilities.go.
	LookedAt []string `json:"lookedAt,omitempty"`
}

// message is a frame to the parent: one of these.
type message struct {
	Hello  *hello   `json:"hello,omitempty"`
	Done   *done    `json:"done,omitempty"`
	Failed *failure `json:"failed,omitempty"`
	question
}

// readFrame gives io.EOF only between two frames.
func readFrame(from *bufio.Reader, into any) error {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > frameBytesMax {
		return fmt.Errorf("a frame of %d bytes is over the bound of %d", size, frameBytesMax)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(from, frame); err != nil {
		return fmt.Errorf("a frame ended early: %w", err)
	}
	if err := json.Unmarshal(frame, into); err != nil {
		return fmt.Errorf("cannot read a frame: %w", err)
	}
	return nil
}

func writeFrame(to io.Writer, content any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // six bytes for each of `<`, `>` and `&`
	if err := encoder.Encode(content); err != nil {
		return err
	}
	encoded := text.Bytes()
	if len(encoded) > frameBytesMax {
		return fmt.Errorf("a frame of %d bytes is over the bound of %d", len(encoded), frameBytesMax)
	}
	// In one piece, so that a reader never waits for the rest of a frame that is never written.
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, len(encoded)+4), uint32(len(encoded)))
	_, err := to.Write(append(frame, encoded...))
	return err
}
