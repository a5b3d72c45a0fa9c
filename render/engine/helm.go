package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"helm.sh/helm/v4/pkg/strvals"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// renderHelm gives what `helm template` prints. The command's own code for it is not used: it brings along registries,
// databases and a cluster's client. The steps here are the command's, in its order.
func renderHelm(asked request, repository *repository) (done, *failure) {
	if asked.Helm == nil {
		return done{}, &failure{Code: badRequest, Message: "a render of a chart needs the field `helm`"}
	}
	source := &chartSource{repository: repository, folder: asked.Path}
	run := &helmRun{helmRequest: *asked.Helm, source: source, again: asked.Again, frozen: freeze(asked.Helm.Frozen)}
	documents, err := run.template()
	if err != nil {
		return done{}, run.explain(err)
	}
	if asked.Kustomize != nil {
		if asked.KustomizeSource != "" {
			repository.sources = append(repository.sources, asked.KustomizeSource)
		}
		return renderRelease(*asked.Kustomize, documents, run)
	}
	slices.Sort(run.volatile)
	return done{Documents: documents, Volatile: run.volatile}, nil
}

// renderRelease builds a kustomization that has what Helm gave as a resource.
func renderRelease(folder, documents string, run *helmRun) (done, *failure) {
	cleaned, inside := clean(folder)
	if !inside {
		return done{}, &failure{Code: outsideRepository, Message: "`" + folder + "` is outside of the repository"}
	}
	build := &kustomizeBuild{
		repository: run.source.repository,
		folder:     cleaned,
		released:   documents,
		helm:       run.helmRequest,
		volatile:   run.volatile,
		again:      run.again,
	}
	return build.render()
}

type helmRun struct {
	helmRequest
	source *chartSource
	// lastFiles have values that go over all others.
	lastFiles []string
	// skipHooks leaves out all hooks.
	skipHooks bool
	// lookedUp says that a template failed because it called `lookup`.
	lookedUp bool
	// again says that this is rendered a second time, to see whether it stays the same.
	again bool
	// volatile are the functions that were called and may give something else next time.
	volatile []string
	// frozen gives what is volatile, if that is to be the same each time.
	frozen *frozen
}

func (r *helmRun) template() (string, error) {
	given, err := r.mergeValues()
	if err != nil {
		return "", err
	}
	loaded, err := r.loadChart(given)
	if err != nil {
		return "", err
	}
	values, err := r.valuesFor(loaded, given)
	if err != nil {
		return "", err
	}
	rendered, err := r.runTemplates(loaded, values)
	if err != nil {
		return "", err
	}
	return r.print(loaded, rendered)
}

// loadChart gives the chart with those of its dependencies that the values want.
func (r *helmRun) loadChart(given map[string]any) (*chart.Chart, error) {
	loaded, err := r.source.loadChart()
	if err != nil {
		return nil, err
	}
	if err := checkUsable(loaded, r.source.folder); err != nil {
		return nil, err
	}
	if err := chartutil.ValidateReleaseName(r.Release); err != nil {
		return nil, &failure{Code: helmFailed, Message: fmt.Sprintf("the release name `%s`: %s", r.Release, err)}
	}
	if err := chartutil.ProcessDependencies(loaded, given); err != nil {
		return nil, fmt.Errorf("the chart's dependencies: %w", err)
	}
	return loaded, nil
}

// mergeValues has Helm's precedence: files, the later ones over the earlier; then the inline values, as if they were the
// last file; then the settings, and those that are text over the others; then the same of what is set over all.
func (r *helmRun) mergeValues() (map[string]any, error) {
	merged, err := r.mergeFiles(map[string]any{}, r.ValuesFiles)
	if err != nil {
		return nil, err
	}
	merged, err = r.mergeFiles(loader.MergeMaps(merged, r.Values), r.lastFiles)
	if err != nil {
		return nil, err
	}
	for _, layer := range []settings{r.settings, r.Over} {
		if err := setEach(merged, layer.Set, strvals.ParseInto); err != nil {
			return nil, err
		}
		if err := setEach(merged, layer.SetString, strvals.ParseIntoString); err != nil {
			return nil, err
		}
	}
	return merged, nil
}

func setEach(merged map[string]any, settings []string, set func(string, map[string]any) error) error {
	for _, setting := range settings {
		if err := set(setting, merged); err != nil {
			// Without its value, which may be a secret.
			name, _, _ := strings.Cut(setting, "=")
			return &failure{Code: helmFailed, Message: fmt.Sprintf("cannot read the setting `%s`: %s", name, err)}
		}
	}
	return nil
}

func (r *helmRun) mergeFiles(merged map[string]any, names []string) (map[string]any, error) {
	for _, name := range names {
		values, err := r.readValues(name)
		if err != nil {
			return nil, err
		}
		merged = loader.MergeMaps(merged, values)
	}
	return merged, nil
}

func (r *helmRun) readValues(name string) (map[string]any, error) {
	cleaned, inside := clean(name)
	if !inside {
		return nil, &failure{Code: outsideRepository, Message: "the values file `" + name + "` is outside of the repository"}
	}
	content, err := r.source.repository.read(cleaned)
	if errors.Is(err, errAbsent) {
		return nil, &failure{Code: helmFailed, Message: "the values file `" + cleaned + "` does not exist", File: cleaned}
	}
	if err != nil {
		return nil, fmt.Errorf("the values file `%s`: %w", cleaned, err)
	}
	values, err := loader.LoadValues(bytes.NewReader(content))
	if err != nil {
		return nil, &failure{
			Code:    helmFailed,
			Message: fmt.Sprintf("cannot read the values file `%s`: %s", cleaned, err),
			File:    cleaned,
			Line:    lineOf(err.Error()),
		}
	}
	return values, nil
}

// checkUsable refuses charts that have nothing to install, and those whose dependencies are not there.
func checkUsable(loaded *chart.Chart, folder string) error {
	if kind := loaded.Metadata.Type; kind != "" && kind != "application" {
		return fmt.Errorf("a %s chart has nothing to install", kind)
	}
	var missing []string
	for _, wanted := range loaded.Metadata.Dependencies {
		there := slices.ContainsFunc(loaded.Dependencies(), func(c *chart.Chart) bool { return c.Name() == wanted.Name })
		if !there {
			missing = append(missing, fmt.Sprintf("`%s` (%s)", wanted.Name, wanted.Version))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &failure{
		Code:    helmDependency,
		File:    path.Join(folder, "Chart.yaml"),
		Message: "Chart.yaml names dependencies that are missing in charts/: " + strings.Join(missing, ", "),
		Hint:    "run `helm dependency build` and commit the folder charts/",
	}
}

func (r *helmRun) capabilities() (*common.Capabilities, error) {
	capabilities := common.DefaultCapabilities.Copy()
	if r.KubeVersion != "" {
		parsed, err := common.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return nil, &failure{Code: helmFailed, Message: fmt.Sprintf("the Kubernetes version `%s`: %s", r.KubeVersion, err)}
		}
		capabilities.KubeVersion = *parsed
	}
	if len(r.ClusterAPIVersions) > 0 {
		capabilities.APIVersions = r.ClusterAPIVersions
	}
	capabilities.APIVersions = slices.Concat(capabilities.APIVersions, common.VersionSet(r.APIVersions))
	return capabilities, nil
}

// valuesFor gives what templates see: the values, the release and the cluster.
func (r *helmRun) valuesFor(loaded *chart.Chart, given map[string]any) (common.Values, error) {
	capabilities, err := r.capabilities()
	if err != nil {
		return nil, err
	}
	options := common.ReleaseOptions{Name: r.Release, Namespace: r.Namespace, Revision: 1, IsInstall: true}
	const withoutSchemas = true // they are checked below
	all, err := util.ToRenderValuesWithSchemaValidation(loaded, given, options, capabilities, withoutSchemas)
	if err != nil {
		return nil, err
	}
	values, err := all.Table("Values")
	if err != nil {
		return nil, err
	}
	wrong, schema, err := checkSchemas(loaded, values)
	if err == nil && wrong != "" {
		err = errors.New("the values do not fit the chart's schema\n" + strings.TrimSpace(wrong))
	}
	if err != nil {
		file := cmp.Or(r.source.fileOf(schema), path.Join(r.source.folder, "Chart.yaml"))
		return nil, &failure{Code: helmSchema, Message: err.Error(), File: file}
	}
	all["Capabilities"] = viewOf(capabilities, loaded, values)
	cluster := capabilities.KubeVersion
	if loaded.Metadata.KubeVersion != "" {
		look(lookedAtVersion)
	}
	if wanted := loaded.Metadata.KubeVersion; wanted != "" && !chartutil.IsCompatibleRange(wanted, cluster.String()) {
		return nil, fmt.Errorf("the chart needs Kubernetes %s, and the cluster has %s", wanted, cluster.Version)
	}
	return all, nil
}

func (r *helmRun) runTemplates(loaded *chart.Chart, values common.Values) (map[string]string, error) {
	functions := r.sameFunctions()
	if r.frozen != nil {
		r.frozen.mark(loaded)
	}
	if r.Lookup != "empty" {
		functions["lookup"] = r.refuseLookup
	}
	templates := engine.Engine{CustomTemplateFuncs: functions}
	rendered, err := templates.RenderWithContext(context.Background(), loaded, values)
	if err != nil {
		return nil, err
	}
	for name := range rendered {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(rendered, name)
		}
	}
	return rendered, nil
}

func (r *helmRun) refuseLookup(_, _, _, _ string) (map[string]any, error) {
	r.lookedUp = true
	return nil, errors.New("`lookup` asks a cluster, and there is none while a chart is rendered")
}

// print puts the documents together as the command does: CRDs, objects by kind, hooks.
func (r *helmRun) print(loaded *chart.Chart, rendered map[string]string) (string, error) {
	hooks, manifests, err := releaseutil.SortManifests(rendered, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", err
	}
	var documents strings.Builder
	if r.IncludeCRDs {
		for _, crd := range loaded.CRDObjects() {
			if !utf8.Valid(crd.File.Data) { // nothing has parsed it
				return "", fmt.Errorf("cannot load %s: it is not UTF-8", crd.Name)
			}
			content, err := r.MarkCRDs.on(string(crd.File.Data))
			if err != nil {
				return "", fmt.Errorf("cannot load %s: %s", crd.Name, withoutContents(err.Error()))
			}
			printDocument(&documents, crd.Filename, content)
		}
	}
	for _, manifest := range manifests {
		printDocument(&documents, manifest.Name, manifest.Content)
	}
	trimmed := strings.TrimSpace(documents.String())
	documents.Reset()
	documents.WriteString(trimmed + "\n")
	for _, hook := range hooks {
		if r.skipHooks || r.SkipTests && slices.Contains(hook.Events, release.HookTest) {
			continue
		}
		printDocument(&documents, hook.Path, hook.Manifest)
	}
	return documents.String(), nil
}

// on gives the objects of a file of `crds/`, each marked; without a mark, the file.
func (m *crdMark) on(content string) (string, error) {
	if m == nil {
		return content, nil
	}
	return eachObject(content, func(object *kyaml.RNode) error {
		return object.PipeE(kyaml.SetAnnotation(m.Annotation, m.Value))
	})
}

func printDocument(to *strings.Builder, source, document string) {
	fmt.Fprintf(to, "---\n# Source: %s\n%s\n", source, document)
}
