//! What is known of every field of Argo CD's objects.

use crate::audit::{Rule, differs, none, note, taken, todo};
use crate::report::Effect;

pub(crate) const APPLICATION: &[Rule] = &[
    taken("spec.source"),
    taken("spec.sources"),
    taken("spec.destination.name"),
    taken("spec.destination.server"),
    taken("spec.destination.namespace"),
    note("spec.project", "nothing to do: see what is said of the AppProject, if it is among the files"),
    taken("spec.syncPolicy.automated.prune"),
    taken("spec.syncPolicy.automated.selfHeal"),
    taken("spec.syncPolicy.automated.allowEmpty"),
    taken("spec.syncPolicy.automated.enabled"),
    taken("spec.syncPolicy.syncOptions"),
    note("spec.syncPolicy.retry", "nothing to do: what fails is tried again with growing pauses"),
    none(
        "spec.syncPolicy.managedNamespaceMetadata",
        "no namespace is made by itself: write the Namespace with its labels and annotations into the repo",
    ),
    none(
        "spec.ignoreDifferences",
        "single fields are not left out: what another controller owns, such as `spec.replicas` of an autoscaler, leave out of the manifests; `sync.drift: warn` or `ignore` is for the whole target",
    ),
    note("spec.revisionHistoryLimit", "nothing to do: the hub keeps revisions and rollouts"),
    none("spec.info", "a target has no texts for people: keep them in the repo"),
    differs(
        "spec.sourceHydrator",
        "nothing to do for what is rendered: the hub stores what it rendered; a target reads the dry source",
    ),
];

pub(crate) const SOURCE: &[Rule] = &[
    taken("spec.repoURL"),
    taken("spec.path"),
    taken("spec.targetRevision"),
    taken("spec.chart"),
    note("spec.ref", "it is a name for files of values that other sources have: see what is said of these"),
    note("spec.name", "a name of a source is not needed"),
    none("spec.plugin", "no plugins are run: commit what it makes, or render it in CI and push it as an artifact"),
    taken("spec.helm.releaseName"),
    taken("spec.helm.valueFiles"),
    taken("spec.helm.values"),
    taken("spec.helm.valuesObject"),
    taken("spec.helm.parameters"),
    taken("spec.helm.fileParameters"),
    taken("spec.helm.skipCrds"),
    taken("spec.helm.ignoreMissingValueFiles"),
    taken("spec.helm.namespace"),
    note("spec.helm.skipTests", "nothing to do: tests of a chart are always left out"),
    none(
        "spec.helm.skipSchemaValidation",
        "values are always held against `values.schema.json`: correct what it refuses",
    ),
    none("spec.helm.passCredentials", "a credential never goes to another host than the repo's own"),
    note("spec.helm.version", "nothing to do: it is Helm's own library, of version 4"),
    taken("spec.helm.kubeVersion"),
    taken("spec.helm.apiVersions"),
    taken("spec.kustomize.namePrefix"),
    taken("spec.kustomize.nameSuffix"),
    taken("spec.kustomize.namespace"),
    taken("spec.kustomize.images"),
    taken("spec.kustomize.replicas"),
    taken("spec.kustomize.commonLabels"),
    taken("spec.kustomize.commonAnnotations"),
    taken("spec.kustomize.patches"),
    taken("spec.kustomize.components"),
    taken("spec.kustomize.labelWithoutSelector"),
    taken("spec.kustomize.labelIncludeTemplates"),
    note("spec.kustomize.forceCommonLabels", "nothing to do: the overlay is over what is there"),
    note("spec.kustomize.forceCommonAnnotations", "nothing to do: the overlay is over what is there"),
    none("spec.kustomize.commonAnnotationsEnvsubst", "there are no variables of a build: write the values"),
    note("spec.kustomize.version", "nothing to do: it is Kustomize 5"),
    differs(
        "spec.kustomize.kubeVersion",
        "charts in `helmCharts` see the version of each cluster: write `kubeVersion` there if they are to see another",
    ),
    differs(
        "spec.kustomize.apiVersions",
        "charts in `helmCharts` see what each cluster serves: write `apiVersions` there if they are to see something else",
    ),
    none(
        "spec.kustomize.ignoreMissingComponents",
        "components that are missing are an error: take them out of the list",
    ),
    none("spec.tagPrefix", "a range of versions is held against whole tags: name a tag, or a branch"),
    none("spec.directory.disableExtensionFilter", "only `.yaml`, `.yml` and `.json` are read: rename the others"),
    taken("spec.directory.recurse"),
    taken("spec.directory.include"),
    taken("spec.directory.exclude"),
    none(
        "spec.directory.jsonnet",
        "Jsonnet is not rendered: commit what it makes, or render it in CI and push it as an artifact",
    ),
];

pub(crate) const SET: &[Rule] = &[
    taken("spec.generators"),
    taken("spec.template"),
    taken("spec.goTemplate"),
    note("spec.goTemplateOptions", "nothing to do: `missingkey=error` is heeded, and nobody fills in a template again"),
    none("spec.templatePatch", "it was not applied: work its changes into the targets"),
    differs("spec.preservedFields", "nothing to do: nobody writes a target over but who applies its file"),
    differs(
        "spec.strategy",
        "waves are `rollout` of each target: one target goes through its clusters by labels, `maxConcurrent` at a time, with a soak and a budget of failures",
    ),
    differs(
        "spec.syncPolicy.preserveResourcesOnDeletion",
        "`bellwether target delete` prunes, and with `--orphan` leaves objects where they are",
    ),
    differs(
        "spec.syncPolicy.applicationsSync",
        "targets are written once, here: nobody creates, updates or deletes them by a generator",
    ),
    none("spec.ignoreApplicationDifferences", "a target is as its file says: change the file"),
    note("spec.applyNestedSelectors", "nothing to do: selectors of nested generators are always looked at"),
];

/// Who may deploy what where is not a target's matter.
pub(crate) const PROJECT: &[Rule] = &[
    none("spec.description", "there are no projects in a file: keep it in the repo"),
    none("spec.sourceRepos", "every target of a project may use every Repo of it"),
    none("spec.sourceNamespaces", "targets are not objects of a cluster: who has a token of the project writes them"),
    none("spec.destinations", "an agent's own rights say what it may apply: restrict them where it is installed"),
    none(
        "spec.destinationServiceAccounts",
        "an agent applies with its own rights: restrict them where it is installed",
    ),
    none("spec.permitOnlyProjectScopedClusters", "a project has its own clusters anyway, registered with its tokens"),
    none("spec.roles", "tokens are of a role: `bellwether token create`"),
    none("spec.clusterResourceWhitelist", "restrict the agent's rights where it is installed"),
    none("spec.clusterResourceBlacklist", "restrict the agent's rights where it is installed"),
    none("spec.namespaceResourceWhitelist", "restrict the agent's rights where it is installed"),
    none("spec.namespaceResourceBlacklist", "restrict the agent's rights where it is installed"),
    none("spec.orphanedResources", "objects that no target has are not listed"),
    todo(
        "spec.signatureKeys",
        "give each Repo the public keys as `verify`: what none of them signed is not rolled out",
    ),
    todo(
        "spec.sourceIntegrity",
        "give each Repo the public keys as `verify`: what none of them signed is not rolled out",
    ),
    none("spec.syncWindows", "there are no windows: pause with `bellwether rollout pause`, or let who merges wait"),
];

/// Of the generators that are worked out.
pub(crate) const GENERATORS: &[(&str, &[&str])] = &[
    ("list", &["elements", "elementsYaml", "template"]),
    ("clusters", &["selector", "values", "template"]),
    (
        "git",
        &[
            "repoURL",
            "revision",
            "directories",
            "files",
            "pathParamPrefix",
            "values",
            "requeueAfterSeconds",
            "template",
        ],
    ),
    ("matrix", &["generators", "template"]),
    ("merge", &["generators", "mergeKeys", "template"]),
];

/// What is said of `syncOptions`, by their names without a value.
pub(crate) const SYNC_OPTIONS: &[(&str, Effect, &str)] = &[
    (
        "CreateNamespace",
        Effect::Differs,
        "the target makes its `namespace:` where that is absent when it says `sync.createNamespace: true`; or write the Namespace into the repo",
    ),
    ("ServerSideApply", Effect::Note, "nothing to do: objects are always applied server-side"),
    ("ApplyOutOfSyncOnly", Effect::Note, "nothing to do: only what differs is written"),
    ("PruneLast", Effect::Note, "nothing to do: pruning comes last, when the rest is healthy"),
    ("FailOnSharedResource", Effect::Note, "nothing to do: an object of another target is refused and told"),
    (
        "RespectIgnoreDifferences",
        Effect::None,
        "single fields are not left out: leave what another controller owns out of the manifests",
    ),
    ("Validate", Effect::Differs, "the API server validates what is applied, always"),
    (
        "SkipDryRunOnMissingResource",
        Effect::Note,
        "nothing to do: an object whose kind is not there yet is tried again until it is",
    ),
    ("PrunePropagationPolicy", Effect::Differs, "objects are deleted in the background"),
    (
        "Replace",
        Effect::None,
        "objects are applied, always; what cannot be changed is deleted and made anew with `sync.replace: immutable`",
    ),
    (
        "Force",
        Effect::Differs,
        "what cannot be changed is deleted and made anew with `sync.replace: immutable`; on an object the option is understood",
    ),
    ("Delete", Effect::None, "write `sync.prune: never`, or delete the target with `--orphan`"),
    ("Prune", Effect::Differs, "`sync.prune` of the target says whether anything is pruned"),
    (
        "ClientSideApplyMigration",
        Effect::Differs,
        "what `kubectl` holds of an object that the target has applied becomes the target's, always; objects that are there \
         already are taken over with `sync.adopt`",
    ),
];
