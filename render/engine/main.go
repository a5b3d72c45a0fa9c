// The render engine: Kustomize and Helm in one process that lives long and works wholly in memory.
//
// It reads requests from its standard input and writes objects to its standard output. It has no files of its own: what
// a render reads, it asks its parent for, over the same pipes. Charts are hostile input, so before it reads anything it
// gives up what it does not need (limits_linux.go); it must never open a file, a socket or a program. The protocol is in
// frames.go.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"time"
	_ "time/tzdata" // templates may name a time zone, and its file cannot be opened
)

// version is told to the parent, and is a part of what a cached render depends on.
const version = "0.8.0"

func main() {
	var bounds limits
	flag.DurationVar(&bounds.deadline, "deadline", time.Minute, "how long one render may take")
	flag.Uint64Var(&bounds.memoryBytes, "memory", 512<<20, "how many bytes of memory a render may use")
	flag.IntVar(&bounds.outputBytes, "output", 32<<20, "how many bytes of documents a render may give")
	flag.Parse()

	silence()
	layers, missing := lockDown(bounds)
	parent := &parent{in: bufio.NewReader(os.Stdin), out: os.Stdout}
	parent.send(message{Hello: &hello{
		Engine:    version,
		Helm:      moduleVersion("helm.sh/helm/v4"),
		Kustomize: moduleVersion("sigs.k8s.io/kustomize/api"),
		Layers:    layers,
		Missing:   missing,
	}})
	for {
		asked := parent.nextRequest()
		parent.send(serve(asked, parent, bounds))
	}
}

// silence drops what the libraries would print: they warn on standard error, which is for crashes. The runtime does not
// use these, so a crash is still told.
func silence() {
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Stderr = nil
}

// serve carries out one request.
func serve(asked request, parent *parent, bounds limits) message {
	stop := bounds.watch(parent.giveUp)
	defer stop()
	looks, given = nil, nil
	rendered, failed := render(asked, newRepository(parent.ask))
	if failed == nil {
		failed = bounds.check(rendered.Documents)
	}
	if failed != nil {
		// For another cluster it may not fail.
		failed.LookedAt, failed.Secrets = looks, given
		return message{Failed: failed}
	}
	slices.Sort(looks)
	rendered.LookedAt = looks
	return message{Done: &rendered}
}

// render is the same for the same request and the same answers.
func render(asked request, repository *repository) (rendered done, failed *failure) {
	defer func() {
		if panicked := recover(); panicked != nil {
			failed = panicFailure(panicked, debug.Stack())
		}
	}()
	folder, inside := clean(asked.Path)
	if !inside {
		return done{}, &failure{Code: outsideRepository, Message: "`" + asked.Path + "` is outside of the repository"}
	}
	asked.Path = folder
	if asked.Helm != nil && asked.Helm.Frozen != nil && len(asked.Helm.Frozen.Seed) != seedBytes {
		return done{}, &failure{Code: badRequest, Message: "a seed has other than 32 bytes"}
	}
	renderKind := kinds[asked.Kind]
	if renderKind == nil {
		return done{}, &failure{Code: badRequest, Message: "there is no kind of render `" + asked.Kind + "`"}
	}
	return renderKind(asked, repository)
}

var kinds = map[string]func(request, *repository) (done, *failure){
	"kustomize": renderKustomize,
	"helm":      renderHelm,
}

func panicFailure(panicked any, stack []byte) *failure {
	return &failure{
		Code:    enginePanicked,
		Message: fmt.Sprintf("the render engine panicked: %v\n%s", panicked, stack[:min(len(stack), stackBytesMax)]),
		Hint:    "this is a fault of Bellwether, or of Kustomize or Helm: please report it with the files that show it",
	}
}

// stackBytesMax keeps the part of a stack that says where it went wrong.
const stackBytesMax = 2000

// moduleVersion is the version of a library that was built in.
func moduleVersion(path string) string {
	if info, found := debug.ReadBuildInfo(); found {
		for _, module := range info.Deps {
			if module.Path == path {
				return module.Version
			}
		}
	}
	return "unknown"
}
