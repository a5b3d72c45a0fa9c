package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"
)

// renderKustomize gives what `kustomize build` prints, with two differences: files may be read from the whole repository,
// and nothing is fetched or run here.
func renderKustomize(asked request, repository *repository) (done, *failure) {
	build := &kustomizeBuild{repository: repository, folder: asked.Path, again: asked.Again}
	if asked.Helm != nil {
		build.helm = *asked.Helm
	}
	return build.render()
}

func (b *kustomizeBuild) render() (done, *failure) {
	defer b.forgetSchema()
	objects, err := b.run()
	if err != nil {
		return done{}, b.explain(err.Error())
	}
	documents, err := printObjects(objects, &b.variables)
	if err != nil {
		return done{}, b.explain(err.Error())
	}
	slices.Sort(b.volatile)
	return done{Documents: documents, Volatile: slices.Compact(b.volatile)}, nil
}

type kustomizeBuild struct {
	repository *repository
	folder     string
	// ownSchema says that a kustomization names a schema of its own.
	ownSchema bool
	// released is what Helm gave that the outermost kustomization is to have as a resource, if anything.
	released string
	// helm is what charts are told of the release and of the cluster.
	helm      helmRequest
	variables written
	// volatile are the functions of its charts that may give something else next time.
	volatile []string
	// open are the kustomizations that are being built, the outermost first.
	open []*beingBuilt
	// again says that this is built a second time, to see whether it stays the same.
	again bool
}

func (b *kustomizeBuild) run() (objects resmap.ResMap, err error) {
	defer func() {
		switch panicked := recover(); {
		case panicked == nil:
		case strings.Contains(fmt.Sprint(panicked), "invalid schema file"):
			err = fmt.Errorf("%v", panicked) // an error of the overlay
		default:
			panic(panicked)
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // what the command has without flags
	options.LoadRestrictions = types.LoadRestrictionsNone
	files := newAskedFiles(b.repository, b.prepare)
	return krusty.MakeKustomizer(options).Run(files, path.Join(root, b.folder))
}

// forgetSchema takes back a schema of a kustomization's own. Kustomize keeps it in a global variable, where the next
// build would find it.
func (b *kustomizeBuild) forgetSchema() {
	if b.ownSchema {
		openapi.ResetOpenAPI()
	}
}

// prepare looks into each kustomization for what the engine does not do, and puts what charts give in their place. One
// that cannot be read is left to Kustomize, which says why.
func (b *kustomizeBuild) prepare(name string, content []byte) ([]byte, error) {
	b.variables.note(content)
	var kustomization types.Kustomization
	if !isKustomization(name) || yaml.Unmarshal(content, &kustomization) != nil {
		return content, nil
	}
	b.ownSchema = b.ownSchema || len(kustomization.OpenAPI) > 0
	b.variables.noteSecrets(&kustomization)
	prepared, why := b.withOthers(name, content, &kustomization)
	if why != nil {
		b.repository.keep(why)
		return nil, why
	}
	return prepared, nil
}

// withOthers puts what Kustomize would fetch or run into the places where a kustomization names it.
func (b *kustomizeBuild) withOthers(name string, content []byte, kustomization *types.Kustomization) ([]byte, *failure) {
	if why := b.stays(name, content, kustomization); why != nil {
		return nil, why
	}
	found, why := b.findRemotes(name, content, kustomization)
	if why != nil {
		return nil, why
	}
	if why := findUnsupported(name, content, kustomization, b.repository, found); why != nil {
		return nil, why
	}
	found.take(kustomization)
	inherited := b.enter(name, kustomization)
	content, why = b.withCharts(name, content, kustomization, inherited)
	if why != nil {
		return nil, why
	}
	return found.in(name, content)
}

func findUnsupported(
	name string, content []byte, kustomization *types.Kustomization, repository *repository, found places,
) *failure {
	folder, _ := split(name)
	for _, reference := range references(kustomization) {
		if found[reference] == "" && isRemote(reference, folder, repository) {
			return unsupported(name, content, reference, "the remote source `"+withoutSecrets(reference)+"`", remoteHint)
		}
	}
	return nil
}

const (
	helmChartsHint = "name its file in `generators`, or write it as `helmCharts`"
	remoteHint     = "copy it into the repository, and refer to it by its path; of what is remote only folders of Git repositories are taken, and YAML and JSON files at https URLs without a query"
)

func unsupported(name string, content []byte, mark, what, hint string) *failure {
	return &failure{
		Code:    kustomizeUnsupported,
		Message: name + ": " + what + " is not supported yet",
		File:    name,
		Line:    lineWith(content, mark),
		Hint:    hint,
	}
}

func isKustomization(name string) bool {
	_, base := split(name)
	for _, recognized := range konfig.RecognizedKustomizationFileNames() {
		if base == recognized {
			return true
		}
	}
	return false
}

// references are all the places of a kustomization that may name a file or a folder elsewhere.
func references(k *types.Kustomization) []string {
	var all []string
	for _, list := range [][]string{
		k.Resources, k.Components, k.Bases, k.Crds, k.Configurations, k.Generators, k.Transformers, k.Validators,
	} {
		all = append(all, list...)
	}
	for _, patch := range k.PatchesStrategicMerge {
		all = append(all, string(patch))
	}
	for _, patch := range append(k.Patches, k.PatchesJson6902...) {
		all = append(all, patch.Path)
	}
	for _, replacement := range k.Replacements {
		all = append(all, replacement.Path)
	}
	for _, generator := range k.ConfigMapGenerator {
		all = append(all, sources(generator.KvPairSources)...)
	}
	for _, generator := range k.SecretGenerator {
		all = append(all, sources(generator.KvPairSources)...)
	}
	return append(all, k.OpenAPI["path"])
}

func sources(from types.KvPairSources) []string {
	all := append([]string{from.EnvSource}, from.EnvSources...)
	for _, source := range from.FileSources {
		// `key=path`
		_, file, named := strings.Cut(source, "=")
		if !named {
			file = source
		}
		all = append(all, file)
	}
	return all
}

var (
	withScheme    = regexp.MustCompile(`(?i)^(git::)?(https?|ssh|file)://`)
	withoutScheme = regexp.MustCompile(`(?i)^(git::)?([a-z][a-z0-9-]*@|github\.com[/:])`)
)

// isRemote says what Kustomize would fetch. It takes `user@host:path` for a file first, if there is one.
func isRemote(reference, folder string, repository *repository) bool {
	if strings.Contains(reference, "\n") {
		return false // stands in place of a file
	}
	if withScheme.MatchString(reference) {
		return true
	}
	if !withoutScheme.MatchString(reference) {
		return false
	}
	local, inside := clean(path.Join(folder, reference))
	return !inside || repository.kindOf(local) != file
}

var (
	kustomizationFolder = regexp.MustCompile(`(?:recursed accumulation of path|couldn't make target for path) '` + root + `/?([^']*)'`)
	namedResource       = regexp.MustCompile(`(?:accumulating|merging) resources from '([^']*)'`)
	missingFile         = regexp.MustCompile(`(?:open|lstat) ` + root + `/([^:]+): no such file or directory`)
	malformedFile       = regexp.MustCompile(`(?:in File: |YAML file \[)([^\s\]]+)`)
	yamlLine            = regexp.MustCompile(`yaml: line (\d+)`)
	externalPlugin      = regexp.MustCompile(`unable to load external plugin '([^']*)'`)
)

// explain finds in Kustomize's one long sentence which file is meant, and says first what is wrong with it.
func (b *kustomizeBuild) explain(text string) *failure {
	if b.repository.refusal != nil {
		return b.repository.refusal
	}
	why := &failure{Code: kustomizeFailed, Message: withoutContents(withoutRoot(text))}
	folder, kustomization, content := b.blame(text)
	why.File = kustomization
	why.Line = lineWith(content, lastMatch(namedResource, text))
	if plugin := lastMatch(externalPlugin, text); plugin != "" {
		return unsupported(kustomization, content, "", "the plugin `"+plugin+"`", "only the generators and transformers that are built into Kustomize are run")
	}
	if strings.Contains(text, "must specify --enable-helm") {
		return unsupported(kustomization, content, "", "`HelmChartInflationGenerator`", helmChartsHint)
	}
	if malformed := lastMatch(malformedFile, text); malformed != "" {
		why.File, _ = clean(path.Join(folder, malformed))
		why.Line = 0
	}
	if line := yamlLine.FindStringSubmatch(text); line != nil {
		fmt.Sscan(line[1], &why.Line)
	}
	if missing := missingFile.FindStringSubmatch(text); missing != nil {
		why.Message = "`" + missing[1] + "` does not exist\n" + why.Message
	}
	return why
}

// blame finds the innermost kustomization that was being built. A folder that has none is the fault of the one above.
func (b *kustomizeBuild) blame(text string) (folder, kustomization string, content []byte) {
	folder = b.folder
	kustomization, content = b.repository.findKustomization(folder)
	for _, found := range kustomizationFolder.FindAllStringSubmatch(text, -1) {
		if name, inner := b.repository.findKustomization(found[1]); name != "" {
			folder, kustomization, content = found[1], name, inner
		}
	}
	return folder, kustomization, content
}

// findKustomization finds the one that was read in a folder.
func (r *repository) findKustomization(folder string) (string, []byte) {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		name = path.Join(folder, name)
		if found := r.known[name]; found != nil && found.kind == file {
			return name, found.content
		}
	}
	return "", nil
}

// withoutRoot speaks of paths as the repository has them.
func withoutRoot(text string) string {
	text = strings.ReplaceAll(text, root+"/", "")
	return strings.ReplaceAll(text, root, ".")
}

func lastMatch(of *regexp.Regexp, text string) string {
	all := of.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// lineWith is the number of the first line that has the mark as a whole word outside of a comment, else of the first that
// has it at all, or 0.
func lineWith(content []byte, mark string) int {
	if mark == "" {
		return 0
	}
	word := regexp.MustCompile(`(^|[\s,'"\[{=])` + regexp.QuoteMeta(mark) + `($|[\s,'"\]}:])`)
	first := 0
	for number, line := range strings.Split(string(content), "\n") {
		written, _, _ := strings.Cut(line, " #")
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			written = ""
		}
		if word.MatchString(written) {
			return number + 1
		}
		if first == 0 && strings.Contains(line, mark) {
			first = number + 1
		}
	}
	return first
}
