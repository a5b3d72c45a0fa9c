//! What is known of every field of Flux's objects.

use crate::audit::{Rule, differs, none, note, taken, todo};

pub(crate) const KUSTOMIZATION: &[Rule] = &[
    taken("spec.path"),
    taken("spec.sourceRef.kind"),
    taken("spec.sourceRef.name"),
    taken("spec.sourceRef.namespace"),
    note("spec.sourceRef.apiVersion", "nothing to do: it is found by its kind and name"),
    taken("spec.prune"),
    taken("spec.suspend"),
    taken("spec.targetNamespace"),
    taken("spec.namePrefix"),
    taken("spec.nameSuffix"),
    taken("spec.patches"),
    taken("spec.patchesStrategicMerge"),
    taken("spec.patchesJson6902"),
    taken("spec.images"),
    taken("spec.components"),
    taken("spec.commonMetadata.labels"),
    taken("spec.commonMetadata.annotations"),
    taken("spec.postBuild.substitute"),
    taken("spec.postBuild.substituteFrom[].kind"),
    taken("spec.postBuild.substituteFrom[].name"),
    note(
        "spec.postBuild.substituteFrom[].optional",
        "what is not among the files is told, whether it may be missing or not",
    ),
    note(
        "spec.postBuild.substituteStrategy",
        "nothing to do: variables are filled in where the target has parameters, as `WithVariables` has it",
    ),
    note(
        "spec.interval",
        "nothing to do: commits are seen by webhook or poll of the Repo, and drift is watched for all the time",
    ),
    note("spec.retryInterval", "nothing to do: what fails is tried again with growing pauses"),
    differs(
        "spec.timeout",
        "a cluster that is not healthy in time counts as failed: set `rollout.deadline` of the target to this",
    ),
    differs(
        "spec.wait",
        "the health of all objects is always waited for before the next wave; `rollout` of the target says how long",
    ),
    differs(
        "spec.healthChecks",
        "the health of all objects is always looked at: drop it; what lies outside the target is not waited for",
    ),
    none(
        "spec.healthCheckExprs",
        "health is judged by Kubernetes' own rules (kstatus): let the object have a `Ready` condition",
    ),
    none(
        "spec.dependsOn",
        "no target waits for another: put what must come first into one target, in an earlier phase (`bellwether.dev/phase`), or rely on the retries until it is there",
    ),
    differs("spec.force", "what cannot be changed is deleted and made anew with `sync.replace: immutable`"),
    none(
        "spec.serviceAccountName",
        "say `sync.serviceAccount: NAME` in the target, which has to have a `namespace:`; an agent otherwise applies with its own rights",
    ),
    none(
        "spec.kubeConfig",
        "no cluster is reached from another: register that cluster with an agent of its own, and select it by labels",
    ),
    none(
        "spec.decryption",
        "agents open Secrets that SOPS sealed for age: put what `secretRef` holds into the Secret `bellwether-sops-keys` beside each agent, as an entry `NAMESPACE_NAME.agekey` for each namespace that this Kustomization applies Secrets into (`NAME.agekey` opens in every namespace); what is sealed for PGP or a cloud alone, and what is no Secret, is refused: see docs/secrets.md",
    ),
    differs(
        "spec.deletionPolicy",
        "`bellwether target delete` prunes, and with `--orphan` leaves objects where they are",
    ),
    none(
        "spec.ignore",
        "drift is looked at as a whole: `sync.drift: warn` of the target takes nothing back, `ignore` does not look",
    ),
    note("spec.buildMetadata", "nothing to do: objects have an annotation with their target and revision anyway"),
    note("spec.ignoreMissingComponents", "components that are missing are an error here: take them out of the list"),
];

pub(crate) const RELEASE: &[Rule] = &[
    taken("spec.chart.spec.chart"),
    taken("spec.chart.spec.version"),
    taken("spec.chart.spec.sourceRef.kind"),
    taken("spec.chart.spec.sourceRef.name"),
    taken("spec.chart.spec.sourceRef.namespace"),
    note("spec.chart.spec.sourceRef.apiVersion", "nothing to do: it is found by its kind and name"),
    taken("spec.chart.spec.valuesFiles"),
    taken("spec.chart.spec.valuesFile"),
    note("spec.chart.spec.interval", "nothing to do: the Repo is polled, or tells by webhook"),
    note(
        "spec.chart.spec.reconcileStrategy",
        "nothing to do: every commit that changes the chart is a new revision, as `Revision` has it",
    ),
    none(
        "spec.chart.spec.ignoreMissingValuesFiles",
        "a values file that is missing is an error: take it out of `valuesFiles`",
    ),
    todo(
        "spec.chart.spec.verify",
        "give the Repo of a chart of a registry (`oci://`) the public keys of cosign as `cosignKeys`; those of a Helm \
         repository are not signed so",
    ),
    none("spec.chart.metadata", "there is no such object as a HelmChart here"),
    taken("spec.chartRef.kind"),
    taken("spec.chartRef.name"),
    taken("spec.chartRef.namespace"),
    note("spec.chartRef.apiVersion", "nothing to do: it is found by its kind and name"),
    taken("spec.values"),
    taken("spec.valuesFrom[].kind"),
    taken("spec.valuesFrom[].name"),
    taken("spec.valuesFrom[].valuesKey"),
    taken("spec.valuesFrom[].targetPath"),
    taken("spec.valuesFrom[].literal"),
    note("spec.valuesFrom[].optional", "what is not among the files is told, whether it may be missing or not"),
    taken("spec.releaseName"),
    taken("spec.targetNamespace"),
    taken("spec.suspend"),
    taken("spec.commonMetadata.labels"),
    taken("spec.commonMetadata.annotations"),
    taken("spec.postRenderers[].kustomize.patches"),
    taken("spec.postRenderers[].kustomize.patchesStrategicMerge"),
    taken("spec.postRenderers[].kustomize.patchesJson6902"),
    taken("spec.postRenderers[].kustomize.images"),
    differs(
        "spec.postRenderStrategy",
        "hooks are objects like the others, and what is laid over a chart is over them, too",
    ),
    taken("spec.install.crds"),
    taken("spec.install.skipCRDs"),
    taken("spec.upgrade.crds"),
    taken("spec.driftDetection.mode"),
    none(
        "spec.driftDetection.ignore",
        "single fields are not left out: what another controller owns, leave out of the chart's objects by its values",
    ),
    differs(
        "spec.install.createNamespace",
        "the target makes its `namespace:` where that is absent when it says `sync.createNamespace: true`; or write the Namespace into the repo",
    ),
    note("spec.install.strategy", "nothing to do: what fails is tried again with growing pauses"),
    differs(
        "spec.install.remediation",
        "nothing is uninstalled: `rollout.onFailure` of the target says what becomes of a failed rollout",
    ),
    differs("spec.install.timeout", "`rollout.deadline` of the target is the time that a cluster has"),
    note("spec.install.replace", "nothing to do: there is no record of releases in a cluster"),
    none(
        "spec.install.disableHooks",
        "hooks of an installation are applied, each at its time: disable them by the chart's values",
    ),
    note(
        "spec.install.disableOpenAPIValidation",
        "nothing to do: objects are applied server-side, and the API server judges them",
    ),
    none(
        "spec.install.disableSchemaValidation",
        "values are always held against `values.schema.json`: correct what it refuses",
    ),
    differs("spec.install.disableWait", "health is always waited for"),
    differs("spec.install.disableWaitForJobs", "a Job is waited for until it is complete"),
    note(
        "spec.install.disableTakeOwnership",
        "nothing to do: objects of others are refused and told, unless `sync.adopt` says otherwise",
    ),
    note("spec.install.serverSideApply", "nothing to do: objects are always applied server-side"),
    note("spec.upgrade.strategy", "nothing to do: what fails is tried again with growing pauses"),
    differs(
        "spec.upgrade.remediation",
        "a failed rollout stops, or goes back, for all its clusters: `rollout.onFailure: rollback` of the target",
    ),
    differs("spec.upgrade.timeout", "`rollout.deadline` of the target is the time that a cluster has"),
    note(
        "spec.upgrade.cleanupOnFail",
        "nothing to do: what the target no longer has is pruned when the rest is healthy",
    ),
    differs(
        "spec.upgrade.force",
        "what cannot be changed is deleted and made anew with `sync.replace: immutable`; nothing else is",
    ),
    none("spec.upgrade.preserveValues", "only what the target says is used: write the values down"),
    note(
        "spec.upgrade.chartNameChangeStrategy",
        "nothing to do: objects are known by their own names, not by the chart's",
    ),
    none(
        "spec.upgrade.disableHooks",
        "hooks of an upgrade are applied, each at its time: disable them by the chart's values",
    ),
    note(
        "spec.upgrade.disableOpenAPIValidation",
        "nothing to do: objects are applied server-side, and the API server judges them",
    ),
    none(
        "spec.upgrade.disableSchemaValidation",
        "values are always held against `values.schema.json`: correct what it refuses",
    ),
    differs("spec.upgrade.disableWait", "health is always waited for"),
    differs("spec.upgrade.disableWaitForJobs", "a Job is waited for until it is complete"),
    note(
        "spec.upgrade.disableTakeOwnership",
        "nothing to do: objects of others are refused and told, unless `sync.adopt` says otherwise",
    ),
    note("spec.upgrade.serverSideApply", "nothing to do: objects are always applied server-side"),
    differs(
        "spec.rollback",
        "`bellwether rollout rollback` goes back for all clusters; there is nothing to set for it",
    ),
    differs("spec.uninstall", "`bellwether target delete` prunes, and with `--orphan` leaves objects where they are"),
    taken("spec.test"),
    note(
        "spec.interval",
        "nothing to do: the Repo is polled, or tells by webhook, and drift is watched for all the time",
    ),
    differs(
        "spec.timeout",
        "a cluster that is not healthy in time counts as failed: set `rollout.deadline` of the target to this",
    ),
    note("spec.maxHistory", "nothing to do: the hub keeps revisions and rollouts; no release is stored in a cluster"),
    note("spec.persistentClient", "nothing to do: there is no client of Helm"),
    note("spec.waitStrategy", "nothing to do: health is judged by kstatus"),
    none(
        "spec.healthCheckExprs",
        "health is judged by Kubernetes' own rules (kstatus): let the object have a `Ready` condition",
    ),
    none(
        "spec.dependsOn",
        "no target waits for another: put what must come first into one target, in an earlier phase (`bellwether.dev/phase`), or rely on the retries until it is there",
    ),
    none(
        "spec.serviceAccountName",
        "say `sync.serviceAccount: NAME` in the target, which has to have a `namespace:`; an agent otherwise applies with its own rights",
    ),
    none(
        "spec.kubeConfig",
        "no cluster is reached from another: register that cluster with an agent of its own, and select it by labels",
    ),
    note("spec.storageNamespace", "nothing to do: no release is stored in a cluster"),
];

/// Of every source.
const INTERVAL: Rule = note(
    "spec.interval",
    "`pollSeconds` of the Repo, where it is less than the minute that is usual; a webhook tells of a commit at once",
);

pub(crate) const GIT: &[Rule] = &[
    taken("spec.url"),
    taken("spec.ref.branch"),
    taken("spec.ref.tag"),
    taken("spec.ref.semver"),
    taken("spec.ref.name"),
    taken("spec.ref.commit"),
    INTERVAL,
    taken("spec.suspend"),
    todo(
        "spec.secretRef",
        "the Secret stays in its cluster: give the hub the credential with `bellwether repo add` or a `tokenFile` in the Repo",
    ),
    todo("spec.certSecretRef", "give the certificates of the authority as `ca` (or `caFile`) of the Repo"),
    note("spec.timeout", "nothing to do: fetches end after a time of the hub's own"),
    todo("spec.provider", "workload identity is not used: give the hub a token of its own for the repo"),
    todo(
        "spec.verify",
        "give the Repo the public keys as `verify`, with the same `mode`: what none of them signed is not rolled out",
    ),
    differs(
        "spec.ignore",
        "the whole repo is fetched: write these lines into a `.bellwetherignore` at its root, which has the same rules",
    ),
    none(
        "spec.recurseSubmodules",
        "submodules are not fetched: commit what is deployed, or make a Repo of the submodule",
    ),
    none("spec.include", "no repo is copied into another: make a target for each"),
    note("spec.sparseCheckout", "nothing to do: only what a target reads is read"),
    none("spec.proxySecretRef", "the hub's own proxy is used for all repos: see docs/operations.md"),
    note("spec.gitImplementation", "nothing to do"),
    none("spec.accessFrom", "every target of the project may use every Repo of it"),
    none("spec.serviceAccountName", "workload identity is not used: give the hub a token of its own for the repo"),
];

pub(crate) const OCI: &[Rule] = &[
    taken("spec.url"),
    taken("spec.ref.tag"),
    taken("spec.ref.semver"),
    taken("spec.ref.digest"),
    taken("spec.ref.semverFilter"),
    INTERVAL,
    taken("spec.suspend"),
    note("spec.layerSelector", "nothing to do: artifacts of manifests and of charts are known by their media types"),
    todo("spec.secretRef", "the Secret stays in its cluster: give the hub the registry's credential for the Repo"),
    todo("spec.certSecretRef", "give the certificates of the authority as `ca` (or `caFile`) of the Repo"),
    note("spec.timeout", "nothing to do: pulls end after a time of the hub's own"),
    todo("spec.provider", "workload identity is not used: give the hub a credential of its own for the registry"),
    none(
        "spec.verify.matchOIDCIdentity",
        "keyless signatures are not looked at: sign with a key, and name it in `cosignKeys` of the Repo",
    ),
    none(
        "spec.verify.trustedRootSecretRef",
        "keyless signatures are not looked at: sign with a key, and name it in `cosignKeys` of the Repo",
    ),
    todo("spec.verify.provider", "give the Repo the public keys of cosign as `cosignKeys`; notation is not understood"),
    todo("spec.verify.secretRef", "give the Repo the public keys of cosign as `cosignKeys`"),
    differs(
        "spec.ignore",
        "the whole artifact is taken: put a `.bellwetherignore` with these lines into it, which has the same rules",
    ),
    todo("spec.insecure", "a registry without TLS is only reached where the hub was started with `--insecure-git`"),
    none("spec.proxySecretRef", "the hub's own proxy is used for all repos: see docs/operations.md"),
    none(
        "spec.serviceAccountName",
        "workload identity is not used: give the hub a credential of its own for the registry",
    ),
];

pub(crate) const HELM_REPOSITORY: &[Rule] = &[
    taken("spec.url"),
    note("spec.type", "nothing to do: `oci://` in the URL says so"),
    INTERVAL,
    taken("spec.suspend"),
    todo("spec.secretRef", "the Secret stays in its cluster: give the hub the credential for the Repo"),
    todo("spec.certSecretRef", "give the certificates of the authority as `ca` (or `caFile`) of the Repo"),
    note("spec.timeout", "nothing to do: pulls end after a time of the hub's own"),
    todo("spec.provider", "workload identity is not used: give the hub a credential of its own"),
    todo("spec.insecure", "a registry without TLS is only reached where the hub was started with `--insecure-git`"),
    none("spec.passCredentials", "a credential never goes to another host than the repo's own"),
    none("spec.accessFrom", "every target of the project may use every Repo of it"),
];
