package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// What a chart looks at of its cluster is told, so that clusters which differ in something else share what it makes.

const (
	// lookedAtVersion says that the version of Kubernetes was looked at.
	lookedAtVersion = "version"
	// lookedAtAPIs says that all APIs were looked at.
	lookedAtAPIs = "apis"
	// lookedAtAPI stands before the name of one.
	lookedAtAPI = "api:"
	// looksMax is how many are told one by one; who looks at more has looked at all.
	looksMax = 500
)

// looks are what was looked at by the render that goes on: there is one at a time. Templates copy what they are given, so
// what they are given cannot point to it.
var looks []string

func look(at string) {
	if slices.Contains(looks, at) || slices.Contains(looks, lookedAtAPIs) && strings.HasPrefix(at, lookedAtAPI) {
		return
	}
	if len(looks) >= looksMax {
		at = lookedAtAPIs
		looks = slices.DeleteFunc(looks, func(one string) bool { return strings.HasPrefix(one, lookedAtAPI) })
	}
	looks = append(looks, at)
}

// forgetLooks leaves those looks as they were before that show something else than the cluster.
func forgetLooks(before []string, showsOther func(at string) bool) {
	looks = slices.DeleteFunc(looks, showsOther)
	for _, at := range before {
		if showsOther(at) {
			looks = append(looks, at)
		}
	}
}

// clusterView is what templates have as `.Capabilities`: it reads as Helm's own does.
type clusterView struct {
	// BehindTheView is exported so that a copy of it, which templates may make, has it too; viewOf gives no view to a chart that
	// names it.
	BehindTheView *common.Capabilities
	// IsAskedOnly says that nothing is ever done with the set of APIs but to ask whether it has one.
	IsAskedOnly bool
}

// viewOf is Helm's own where a template may do something with the version as a whole: it is a text when it is printed, and not
// when it is given to a function, which only a field of Helm's can be.
func viewOf(real *common.Capabilities, loaded *chart.Chart, values map[string]any) any {
	if !everyText(loaded, values, takesVersionApart) {
		look(lookedAtVersion)
		look(lookedAtAPIs)
		return real
	}
	return &clusterView{BehindTheView: real, IsAskedOnly: everyText(loaded, values, asksOnly)}
}

func (v *clusterView) KubeVersion() *common.KubeVersion {
	look(lookedAtVersion)
	return &v.BehindTheView.KubeVersion
}

func (v *clusterView) APIVersions() any {
	if v.IsAskedOnly {
		return &askedVersions{Set: v.BehindTheView.APIVersions}
	}
	look(lookedAtAPIs)
	return v.BehindTheView.APIVersions
}

func (v *clusterView) HelmVersion() any { return v.BehindTheView.HelmVersion }

func (v *clusterView) MarshalJSON() ([]byte, error) {
	look(lookedAtVersion)
	look(lookedAtAPIs)
	return json.Marshal(v.BehindTheView)
}

func (v *clusterView) String() string {
	look(lookedAtVersion)
	look(lookedAtAPIs)
	return fmt.Sprint(v.BehindTheView)
}

type askedVersions struct{ Set common.VersionSet }

func (v *askedVersions) Has(apiVersion string) bool {
	look(lookedAtAPI + apiVersion)
	return v.Set.Has(apiVersion)
}

// everyText says that something is so of every text of a chart, of those it depends on, and of its values.
func everyText(loaded *chart.Chart, values map[string]any, is func(text string) bool) bool {
	if given, err := json.Marshal(values); err != nil || !is(string(given)) {
		return false
	}
	for _, file := range slices.Concat(loaded.Templates, loaded.Files) {
		if !is(string(file.Data)) {
			return false
		}
	}
	for _, dependency := range loaded.Dependencies() {
		if !everyText(dependency, nil, is) {
			return false
		}
	}
	return true
}

// asksOnly says that nothing is done with the set of APIs but to ask it.
func asksOnly(text string) bool { return isFollowed(text, "APIVersions", ".Has") }

// takesVersionApart says that nothing is done with the version but to look at its parts, and that nothing gets past the view.
func takesVersionApart(text string) bool {
	return isFollowed(text, "KubeVersion", ".") && !strings.Contains(text, "BehindTheView")
}

// isFollowed says that after a word always comes another text.
func isFollowed(text, word, by string) bool {
	for {
		_, after, found := strings.Cut(text, word)
		if !found {
			return true
		}
		if !strings.HasPrefix(after, by) {
			return false
		}
		text = after
	}
}
