package main

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/kustomize/kyaml/yaml/merge2"
	"sigs.k8s.io/yaml"
)

// Kustomize's own generator of charts starts the command `helm`. Here a kustomization is shown to Kustomize without its
// charts, and with what they give as resources, in files that the repository does not have.

// withCharts gives a kustomization with resources in place of its charts.
func (b *kustomizeBuild) withCharts(
	name string, content []byte, kustomization *types.Kustomization, inherited string,
) ([]byte, *failure) {
	folder, _ := split(name)
	var given []any
	if b.released != "" && folder == b.folder {
		released, err := markForOthers(b.released)
		if err != nil {
			return nil, &failure{Code: kustomizeFailed, Message: name + ": what the chart gives: " + withoutContents(err.Error()), File: name}
		}
		given = append(given, b.serve(folder, "release", released))
	}
	at := namedChart{folder: folder, file: name, content: content}
	charts := chartsOf(kustomization, at, inherited)
	generated, generators := b.splitGenerators(kustomization.Generators, at)
	for index, chart := range append(charts, generated...) {
		documents, why := b.inflate(&chart)
		if why != nil {
			return nil, why
		}
		documents, err := markGenerated(documents)
		if err != nil {
			return nil, &failure{Code: kustomizeFailed, Message: fmt.Sprintf("%s: what the chart `%s` gives: %s", chart.file, chart.Name, withoutContents(err.Error())), File: chart.file}
		}
		given = append(given, b.serve(folder, fmt.Sprintf("chart-%d", index), documents))
	}
	if len(given) == 0 {
		return content, nil
	}
	var fields map[string]any
	err := yaml.Unmarshal(content, &fields)
	if err == nil {
		delete(fields, "helmCharts")
		delete(fields, "helmGlobals")
		delete(fields, "helmChartInflationGenerator")
		if len(generated) > 0 {
			fields["generators"] = generators
		}
		resources, _ := fields["resources"].([]any)
		fields["resources"] = slices.Concat(resources, given)
		content, err = yaml.Marshal(fields)
	}
	if err != nil {
		return nil, &failure{Code: kustomizeFailed, Message: name + ": " + err.Error(), File: name}
	}
	return content, nil
}

// namedChart is a chart that a kustomization names, and where it does.
type namedChart struct {
	types.HelmGlobals
	types.HelmChart
	// folder is the kustomization's: paths begin there.
	folder string
	file   string
	// content is the file's.
	content []byte
}

// chartsOf are those of `helmCharts`, and of the field that this had before.
func chartsOf(kustomization *types.Kustomization, at namedChart, inherited string) (charts []namedChart) {
	earlier, globals := types.SplitHelmParameters(kustomization.HelmChartInflationGenerator)
	if kustomization.HelmGlobals != nil {
		globals = *kustomization.HelmGlobals
	}
	for _, chart := range slices.Concat(kustomization.HelmCharts, earlier) {
		chart.Namespace = cmp.Or(chart.Namespace, kustomization.Namespace, inherited)
		at.HelmGlobals, at.HelmChart = globals, chart
		charts = append(charts, at)
	}
	return charts
}

// splitGenerators gives the charts that a kustomization's generators name, and the generators without them.
func (b *kustomizeBuild) splitGenerators(generators []string, at namedChart) (charts []namedChart, others []string) {
	for index, generator := range generators {
		found, rest := b.chartsIn(generator, at)
		charts = append(charts, found...)
		switch {
		case len(found) == 0:
			others = append(others, generator)
		case rest != "":
			others = append(others, b.serve(at.folder, fmt.Sprintf("generators-%d", index), rest))
		}
	}
	return charts, others
}

// chartsIn gives the charts that a generator's configuration names, and what else it has. One that cannot be read is left to
// Kustomize, which says why.
func (b *kustomizeBuild) chartsIn(generator string, at namedChart) (charts []namedChart, rest string) {
	objects, at := b.configured(generator, at)
	for _, object := range objects {
		text, err := object.RNode.String()
		if err == nil && (object.GetApiVersion() != "builtin" || object.GetKind() != "HelmChartInflationGenerator") {
			rest += "---\n" + text
			continue
		}
		chart := at
		if err == nil {
			err = yaml.Unmarshal([]byte(text), &chart)
		}
		if err != nil {
			return nil, ""
		}
		charts = append(charts, chart)
	}
	return charts, rest
}

// configured are the objects of a generator's configuration, and where that is: written inline, or in a file.
func (b *kustomizeBuild) configured(generator string, at namedChart) ([]*resource.Resource, namedChart) {
	if objects, err := readObjects(generator); err == nil {
		return objects, at
	}
	name, inside := clean(path.Join(at.folder, generator))
	if !inside || b.repository.kindOf(name) != file {
		return nil, at
	}
	at.file = name
	at.content, _ = b.repository.read(name)
	b.variables.note(at.content)
	objects, _ := readObjects(string(at.content))
	return objects, at
}

// othersMark stands in `${…}` that a chart has written for whoever runs what it deploys, until the parent has filled in those of
// the kustomization over it. The parent takes it out.
const othersMark = "\uf0a7"

func markForOthers(documents string) (string, error) {
	if !strings.Contains(documents, "{") || !strings.Contains(documents, "$") {
		return documents, nil
	}
	return eachObject(documents, func(object *kyaml.RNode) error {
		markScalars(object.YNode())
		return nil
	})
}

func markScalars(node *kyaml.Node) {
	if node.Kind == kyaml.ScalarNode {
		node.Value = strings.ReplaceAll(node.Value, "${", "$"+othersMark+"{")
	}
	for _, each := range node.Content {
		markScalars(each)
	}
}

// markGenerated marks objects as Kustomize's generator of charts does: they keep the namespaces that the chart gave them.
func markGenerated(documents string) (string, error) {
	return eachObject(documents, func(object *kyaml.RNode) error {
		return object.PipeE(kyaml.SetAnnotation(konfig.HelmGeneratedAnnotation, "true"))
	})
}

// eachObject gives the objects as Kustomize reads them, each changed.
func eachObject(documents string, change func(*kyaml.RNode) error) (string, error) {
	objects, err := readObjects(documents)
	if err != nil {
		return "", err
	}
	var changed strings.Builder
	for _, object := range objects {
		if err := change(&object.RNode); err != nil {
			return "", err
		}
		text, err := object.RNode.String()
		if err != nil {
			return "", err
		}
		changed.WriteString("---\n" + text)
	}
	return changed.String(), nil
}

func readObjects(documents string) ([]*resource.Resource, error) {
	objects, err := resmap.NewFactory(provider.NewDefaultDepProvider().GetResourceFactory()).NewResMapFromBytes([]byte(documents))
	if err != nil {
		return nil, err
	}
	return objects.Resources(), nil
}

// beingBuilt is a kustomization that is being built.
type beingBuilt struct {
	// namespace is the one that charts get that name none.
	namespace string
	// awaited are the folders of others that it is built of, and that were not read yet.
	awaited []string
}

// enter notes that a kustomization is read, and gives the namespace that its charts inherit: that of the nearest one above.
// Kustomize tells a file system nothing of who asks, but builds depth first, and reads each as often as it is named.
func (b *kustomizeBuild) enter(name string, kustomization *types.Kustomization) (inherited string) {
	folder, _ := split(name)
	for len(b.open) > 0 {
		above := b.open[len(b.open)-1]
		if at := slices.Index(above.awaited, folder); at >= 0 {
			above.awaited = slices.Delete(above.awaited, at, at+1)
			inherited = above.namespace
			break
		}
		b.open = b.open[:len(b.open)-1]
	}
	here := &beingBuilt{namespace: cmp.Or(kustomization.Namespace, inherited)}
	for _, list := range [][]string{
		kustomization.Resources, kustomization.Bases, kustomization.Components,
		kustomization.Generators, kustomization.Transformers, kustomization.Validators,
	} {
		for _, reference := range list {
			if below, inside := clean(path.Join(folder, reference)); inside {
				here.awaited = append(here.awaited, below)
			}
		}
	}
	b.open = append(b.open, here)
	return inherited
}

// serve keeps a text as a file that is only there for this render, and gives its name, which no file of Git has.
func (b *kustomizeBuild) serve(folder, name, documents string) string {
	name = ".git/" + name + ".yaml"
	b.repository.known[path.Join(folder, name)] = &node{kind: file, isRead: true, content: []byte(documents)}
	return name
}

// inflate gives what Kustomize's generator gets from the command.
func (b *kustomizeBuild) inflate(chart *namedChart) (string, *failure) {
	home := path.Join(chart.folder, cmp.Or(chart.ChartHome, types.HelmDefaultHome))
	if chart.Version != "" && chart.Repo != "" {
		home = path.Join(home, chart.Name+"-"+chart.Version)
	}
	at, inside := clean(path.Join(home, chart.Name))
	if chart.Name != "" && chart.Repo != "" && inside && b.repository.kindOf(at) != directory {
		found, err := b.repository.find(sourceAsked{
			File:  chart.file,
			Line:  lineWith(chart.content, chart.Name),
			Chart: &remoteChart{Repository: chart.Repo, Name: chart.Name, Versions: chart.Version},
		})
		if err != nil {
			return "", b.repository.refusal
		}
		at = found
	}
	if chart.Name == "" || !inside || b.repository.kindOf(at) != directory {
		return "", &failure{
			Code:    kustomizeUnsupported,
			Message: fmt.Sprintf("%s: the chart `%s` is not in the repository, and nothing is fetched", chart.file, chart.Name),
			File:    chart.file,
			Line:    lineWith(chart.content, chart.Name),
			Hint:    "name its `repo`, or run `helm pull --untar` and commit it as `" + at + "`",
		}
	}
	values, why := b.chartValues(at, chart)
	if why != nil {
		return "", why
	}
	release, why := b.nameRelease(chart)
	if why != nil {
		return "", why
	}
	run := &helmRun{source: &chartSource{repository: b.repository, folder: at}, again: b.again, helmRequest: helmRequest{
		Release:     release,
		Namespace:   chart.Namespace,
		Values:      values,
		KubeVersion: chart.KubeVersion,
		APIVersions: slices.Concat(b.helm.APIVersions, chart.ApiVersions),
		IncludeCRDs: chart.IncludeCRDs,
		SkipTests:   chart.SkipTests,
		Lookup:      b.helm.Lookup,
		Frozen:      b.helm.Frozen,
	}, skipHooks: chart.SkipHooks, frozen: b.freeze(chart)}
	if run.Namespace == "" {
		run.Namespace = "default"
	}
	if run.KubeVersion == "" {
		run.KubeVersion = b.helm.KubeVersion
	}
	if len(chart.ApiVersions) == 0 {
		run.ClusterAPIVersions = b.helm.ClusterAPIVersions
	}
	for _, file := range chart.AdditionalValuesFiles {
		run.lastFiles = append(run.lastFiles, path.Join(chart.folder, file))
	}
	defer forgetLooks(slices.Clone(looks), func(at string) bool {
		if at == lookedAtVersion {
			return chart.KubeVersion != ""
		}
		return len(chart.ApiVersions) > 0
	})
	documents, err := run.template()
	b.volatile = append(b.volatile, run.volatile...)
	if err != nil {
		return "", run.explain(err)
	}
	return documents, nil
}

// freeze tells charts apart as their releases are told apart.
func (b *kustomizeBuild) freeze(chart *namedChart) *frozen {
	return freeze(b.helm.Frozen, chart.Name, cmp.Or(chart.NameTemplate, chart.ReleaseName), chart.Namespace)
}

// nameRelease gives the name that the command takes.
func (b *kustomizeBuild) nameRelease(chart *namedChart) (string, *failure) {
	if chart.NameTemplate == "" {
		// The last is what the command prints where nobody names one.
		return cmp.Or(chart.ReleaseName, "release-name"), nil
	}
	wrong := func(why string) *failure {
		return &failure{Code: kustomizeFailed, Message: chart.file + ": " + why, File: chart.file, Line: lineWith(chart.content, chart.NameTemplate)}
	}
	if chart.ReleaseName != "" {
		return "", wrong("a chart has both nameTemplate and releaseName")
	}
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	run := &helmRun{again: b.again, frozen: b.freeze(chart)}
	maps.Copy(functions, run.sameFunctions())
	parsed, err := template.New("nameTemplate").Funcs(functions).Parse(chart.NameTemplate)
	var printed strings.Builder
	if err == nil {
		err = parsed.Execute(&printed, nil)
	}
	if err != nil {
		return "", wrong(err.Error())
	}
	b.volatile = append(b.volatile, run.volatile...)
	return printed.String(), nil
}

// chartValues are those of a file, which are the chart's own where none is named, and those that are written inline.
func (b *kustomizeBuild) chartValues(chart string, of *namedChart) (map[string]any, *failure) {
	name := path.Join(chart, "values.yaml")
	if of.ValuesFile != "" {
		name = path.Join(of.folder, of.ValuesFile)
	}
	cleaned, inside := clean(name)
	if !inside {
		return nil, &failure{Code: outsideRepository, Message: "the values file `" + name + "` is outside of the repository"}
	}
	content, err := b.repository.read(cleaned)
	var values map[string]any
	if err == nil {
		values, err = mergeChartValues(content, &of.HelmChart)
	}
	if err != nil {
		return nil, &failure{Code: kustomizeFailed, Message: fmt.Sprintf("the values file `%s`: %s", cleaned, err), File: cleaned}
	}
	return values, nil
}

func mergeChartValues(content []byte, of *types.HelmChart) (values map[string]any, err error) {
	if of.ValuesMerge == "replace" && len(of.ValuesInline) > 0 {
		return of.ValuesInline, nil
	}
	if len(of.ValuesInline) == 0 {
		err = yaml.Unmarshal(content, &values)
		return values, err
	}
	file, err := kyaml.Parse(string(content))
	if err != nil {
		return nil, err
	}
	inline, err := kyaml.FromMap(of.ValuesInline)
	if err != nil {
		return nil, err
	}
	from, into := inline, file
	switch of.ValuesMerge {
	case "", "override":
	case "merge":
		from, into = file, inline
	default:
		return nil, fmt.Errorf("valuesMerge must be one of merge, override and replace")
	}
	merged, err := merge2.Merge(from, into, kyaml.MergeOptions{})
	if err != nil {
		return nil, err
	}
	return merged.Map()
}
