package main

import (
	"fmt"
	"path"
	"slices"

	"sigs.k8s.io/kustomize/api/types"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/kustomize/kyaml/yaml/merge2"
	"sigs.k8s.io/yaml"
)

// Kustomize's own generator of charts starts the command `helm`. Here a kustomization is shown to Kustomize without its
// charts, and with what they give as resources, in files that the repository does not have.

// withCharts gives a kustomization with resources in place of its charts.
func (b *kustomizeBuild) withCharts(name string, content []byte, kustomization *types.Kustomization) ([]byte, *failure) {
	folder, _ := split(name)
	var given []any
	if b.released != "" && folder == b.folder {
		given = append(given, b.serve(folder, "release", b.released))
	}
	for index := range kustomization.HelmCharts {
		documents, why := b.inflate(name, content, kustomization, &kustomization.HelmCharts[index])
		if why != nil {
			return nil, why
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
		resources, _ := fields["resources"].([]any)
		fields["resources"] = slices.Concat(resources, given)
		content, err = yaml.Marshal(fields)
	}
	if err != nil {
		return nil, &failure{Code: kustomizeFailed, Message: name + ": " + err.Error(), File: name}
	}
	return content, nil
}

// serve keeps a text as a file that is only there for this render, and gives its name, which no file of Git has.
func (b *kustomizeBuild) serve(folder, name, documents string) string {
	name = ".git/" + name + ".yaml"
	b.repository.known[path.Join(folder, name)] = &node{kind: file, isRead: true, content: []byte(documents)}
	return name
}

// inflate gives what Kustomize's generator gets from the command.
func (b *kustomizeBuild) inflate(
	name string, content []byte, kustomization *types.Kustomization, chart *types.HelmChart,
) (string, *failure) {
	folder, _ := split(name)
	home := path.Join(folder, types.HelmDefaultHome)
	if globals := kustomization.HelmGlobals; globals != nil && globals.ChartHome != "" {
		home = path.Join(folder, globals.ChartHome)
	}
	if chart.Version != "" && chart.Repo != "" {
		home = path.Join(home, chart.Name+"-"+chart.Version)
	}
	at, inside := clean(path.Join(home, chart.Name))
	if chart.Name == "" || !inside || b.repository.kindOf(at) != directory {
		return "", &failure{
			Code:    kustomizeUnsupported,
			Message: fmt.Sprintf("%s: the chart `%s` is not in the repository, and nothing is fetched", name, chart.Name),
			File:    name,
			Line:    lineWith(content, chart.Name),
			Hint:    "run `helm pull --untar` and commit it as `" + at + "`",
		}
	}
	values, why := b.chartValues(folder, at, chart)
	if why != nil {
		return "", why
	}
	run := &helmRun{source: &chartSource{repository: b.repository, folder: at}, helmRequest: helmRequest{
		Release:     chart.ReleaseName,
		Namespace:   chart.Namespace,
		Values:      values,
		KubeVersion: chart.KubeVersion,
		APIVersions: slices.Concat(b.helm.APIVersions, chart.ApiVersions),
		IncludeCRDs: chart.IncludeCRDs,
		SkipTests:   chart.SkipTests,
		Lookup:      b.helm.Lookup,
	}, skipHooks: chart.SkipHooks}
	if run.Release == "" {
		run.Release = "release-name" // what the command prints where nobody names one
	}
	if run.Namespace == "" {
		run.Namespace = "default"
	}
	if run.KubeVersion == "" {
		run.KubeVersion = b.helm.KubeVersion
	}
	for _, file := range chart.AdditionalValuesFiles {
		run.lastFiles = append(run.lastFiles, path.Join(folder, file))
	}
	documents, err := run.template()
	b.volatile = append(b.volatile, run.volatile...)
	if err != nil {
		return "", run.explain(err)
	}
	return documents, nil
}

// chartValues are those of a file, which are the chart's own where none is named, and those that are written inline.
func (b *kustomizeBuild) chartValues(folder, chart string, of *types.HelmChart) (map[string]any, *failure) {
	name := path.Join(chart, "values.yaml")
	if of.ValuesFile != "" {
		name = path.Join(folder, of.ValuesFile)
	}
	cleaned, inside := clean(name)
	if !inside {
		return nil, &failure{Code: outsideRepository, Message: "the values file `" + name + "` is outside of the repository"}
	}
	content, err := b.repository.read(cleaned)
	var values map[string]any
	if err == nil {
		values, err = mergeChartValues(content, of)
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
