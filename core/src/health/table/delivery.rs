//! What delivers: Argo, Flux, Flagger, Tekton, and what runs in them.

use super::super::rule::Ask::{At, Differ, For, Is, Reaches, Same, Set, Unlike, Unset};
use super::super::rule::Clause::{As, Degraded, Each, Failed, Healthy, Progressing, Suspended};
use super::super::rule::{Clause, Row, row};
use super::{READY, SUCCEEDED};

const SUSPENDED: Clause = Suspended(&[At("spec.suspend", "true")]);

/// Of Flux; what is being tried again says `Reconciling`, and what is not `Stalled`, which decide before.
const FLUX: &[Clause] =
    &[SUSPENDED, Degraded("", &[For("Ready", "False", "*Failed")]), Healthy("", &[Is("Ready", "True")])];

const FLUX_SOURCE: &[Clause] = &[
    SUSPENDED,
    Degraded("", &[Is("FetchFailed|StorageOperationFailed", "True")]),
    Degraded("", &[For("Ready", "False", "*Failed")]),
    Healthy("", &[Is("Ready", "True")]),
];

/// One of the gates of a promotion, in each of its environments.
const GATE: &[Clause] = &[Degraded("", &[At("phase", "failure")]), Healthy("", &[At("phase", "success")])];

const PROMOTER: &[Clause] =
    &[Degraded("", &[For("Ready", "False", "ReconciliationError")]), Healthy("", &[Is("Ready", "True")])];

const PHASES: &[Clause] = &[
    Failed("", &[At("status.phase", "Failed|Error")]),
    Degraded("", &[At("status.phase", "Inconclusive")]),
    Healthy("", &[At("status.phase", "Succeeded|Successful")]),
];

const DEPLOYED: &[Clause] = &[
    Degraded("", &[Is("Deployed|SourcesProvided|DependenciesProvided|TriggersProvided", "False")]),
    Healthy("", &[Is("Deployed", "True")]),
];

/// An Application says of no generation that it saw it.
const OLDER: &str = "what was compared is an older version of its spec";

pub(super) const ROWS: &[Row] = &[
    row(
        "argoproj.io",
        "Application",
        "status.operationState.message",
        &[
            Progressing(OLDER, &[Unlike("spec.source", "status.sync.comparedTo.source")]),
            Progressing(OLDER, &[Unlike("spec.sources", "status.sync.comparedTo.sources")]),
            Progressing(OLDER, &[Differ("spec.destination.namespace", "status.sync.comparedTo.destination.namespace")]),
            Progressing("", &[At("status.operationState.phase", "Running|Terminating")]),
            // What failed before a commit that needs nothing done is no word of that one.
            Degraded("", &[At("status.operationState.phase", "Failed|Error"), At("status.sync.status", "OutOfSync")]),
            Degraded(
                "",
                &[
                    At("status.operationState.phase", "Failed|Error"),
                    Same("status.operationState.syncResult.revision", "status.sync.revision"),
                ],
            ),
            Degraded("its objects are not well", &[At("status.health.status", "Degraded")]),
            Progressing("its objects wait for a person", &[At("status.health.status", "Suspended")]),
            Healthy("", &[At("status.sync.status", "Synced"), At("status.health.status", "Healthy")]),
        ],
    ),
    row(
        "argoproj.io",
        "ApplicationSet",
        "",
        &[
            Degraded("", &[Is("ErrorOccurred", "True")]),
            Degraded("", &[Is("ResourcesUpToDate", "False")]),
            Progressing("", &[Is("RolloutProgressing", "True")]),
            Healthy("", &[Is("ResourcesUpToDate", "True")]),
        ],
    ),
    row(
        "argoproj.io",
        "Rollout",
        "status.message",
        &[
            Progressing(
                "the change of its workload is not observed yet",
                &[Differ(
                    "metadata.annotations[rollout.argoproj.io/workload-generation]",
                    "status.workloadObservedGeneration",
                )],
            ),
            Failed("", &[At("status.phase", "Degraded")]),
            Progressing("it is paused (spec.paused)", &[At("spec.paused", "true"), At("status.phase", "Paused")]),
            Progressing("it is paused, and waits for somebody or for a time", &[At("status.phase", "Paused")]),
            Healthy("", &[At("status.phase", "Healthy")]),
        ],
    ),
    row("argoproj.io", "AnalysisRun|Experiment|Workflow", "status.message", PHASES),
    row(
        "argoproj.io",
        "CronWorkflow",
        "",
        &[
            SUSPENDED,
            Failed("", &[Is("SpecError", "True")]),
            Degraded("", &[Is("SubmissionError", "True")]),
            Healthy("there", &[]),
        ],
    ),
    row("argoproj.io", "EventBus|EventSource|Sensor", "", DEPLOYED),
    row(
        "promoter.argoproj.io",
        "GitCommitStatus|TimedCommitStatus|WebRequestCommitStatus",
        "",
        &[
            Degraded("", &[For("Ready", "False", "ReconciliationError")]),
            Each("status.environments", "branch", GATE),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "promoter.argoproj.io",
        "ChangeTransferPolicy",
        "",
        &[
            Degraded("", &[For("Ready", "False", "ReconciliationError")]),
            Healthy("", &[Is("Ready", "True"), Same("status.active.dry.sha", "status.proposed.dry.sha")]),
            Progressing("a change is proposed that is not active yet", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "promoter.argoproj.io",
        "PromotionStrategy",
        "",
        &[
            Degraded("", &[For("Ready", "False", "ReconciliationError")]),
            Each(
                "status.environments",
                "branch",
                &[
                    Healthy("", &[Same("active.dry.sha", "proposed.dry.sha")]),
                    Progressing("a change is proposed that is not active yet", &[]),
                ],
            ),
            Healthy("", &[Is("Ready", "True"), Set("status.environments")]),
        ],
    ),
    row("promoter.argoproj.io", "*", "", PROMOTER),
    row(
        "flagger.app",
        "Canary",
        "",
        &[
            SUSPENDED,
            Failed("", &[Is("Promoted", "False"), At("status.phase", "Failed")]),
            Failed("", &[At("status.phase", "Failed")]),
            Progressing("it waits to be confirmed", &[At("status.phase", "Waiting|WaitingPromotion")]),
            Progressing("", &[Is("Promoted", "Unknown"), At("status.phase", "Progressing|Promoting|Finalising")]),
            Healthy("", &[At("status.phase", "Initialized|Succeeded")]),
        ],
    ),
    row(
        "helm.toolkit.fluxcd.io",
        "HelmRelease",
        "",
        &[
            SUSPENDED,
            Degraded("", &[For("Ready", "False", "*Failed|RollbackSucceeded|UninstallSucceeded")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row("kustomize.toolkit.fluxcd.io", "Kustomization", "", FLUX),
    // A static object since it may name a registry: nobody looks at that, and nothing is said of it.
    row(
        "source.toolkit.fluxcd.io",
        "HelmRepository",
        "",
        &[
            SUSPENDED,
            Healthy(
                "a registry, which is looked at by its charts",
                &[At("spec.type", "oci"), Unset("status.conditions")],
            ),
            Degraded("", &[Is("FetchFailed|StorageOperationFailed", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row("source.toolkit.fluxcd.io", "GitRepository|HelmChart|Bucket|OCIRepository", "", FLUX_SOURCE),
    row("source.toolkit.fluxcd.io", "ArtifactGenerator|ExternalArtifact", "", READY),
    row("source.extensions.fluxcd.io", "ArtifactGenerator", "", FLUX),
    row("image.toolkit.fluxcd.io", "ImageRepository|ImagePolicy|ImageUpdateAutomation", "", FLUX),
    row("notification.toolkit.fluxcd.io", "Receiver", "", FLUX),
    row("fluxcd.controlplane.io", "FluxInstance|ResourceSet|ResourceSetInputProvider", "", FLUX),
    row("tekton.dev", "PipelineRun|TaskRun|CustomRun|Run", "", SUCCEEDED),
    row(
        "tower.ansible.com",
        "AnsibleJob",
        "",
        &[
            Failed("", &[At("status.ansibleJobResult.status", "failed|error|canceled")]),
            Healthy("", &[At("status.ansibleJobResult.status", "successful")]),
        ],
    ),
    row("pulumi.com", "Stack", "", READY),
    row(
        "lifecycle.keptn.sh",
        "KeptnEvaluation",
        "",
        &[Failed("", &[At("status.overallStatus", "Failed")]), Healthy("", &[At("status.overallStatus", "Succeeded")])],
    ),
    row(
        "lifecycle.keptn.sh",
        "KeptnAppVersion|KeptnTask|KeptnWorkloadInstance|KeptnWorkloadVersion",
        "",
        &[Failed("", &[At("status.status", "Failed")]), Healthy("", &[At("status.status", "Succeeded")])],
    ),
    row(
        "metrics.keptn.sh",
        "Analysis",
        "",
        &[
            Healthy("", &[At("status.pass", "true")]),
            Healthy("", &[At("status.warning", "true")]),
            Failed("", &[At("status.pass", "false")]),
        ],
    ),
    row(
        "metrics.keptn.sh",
        "KeptnMetric",
        "status.errMsg",
        &[Degraded("its value cannot be had", &[Set("status.errMsg")]), Healthy("", &[Set("status.value")])],
    ),
    // Kruise.
    row(
        "apps.kruise.io",
        "CloneSet",
        "",
        &[
            Healthy("", &[Reaches("status.updatedAvailableReplicas", "spec.replicas")]),
            Healthy(
                "updated as far as its partition says",
                &[
                    Set("spec.updateStrategy.partition"),
                    Set("status.expectedUpdatedReplicas"),
                    Reaches("status.updatedAvailableReplicas", "status.expectedUpdatedReplicas"),
                    Reaches("status.availableReplicas", "spec.replicas"),
                ],
            ),
            Progressing("it is paused (spec.updateStrategy.paused)", &[At("spec.updateStrategy.paused", "true")]),
        ],
    ),
    row("apps.kruise.io", "StatefulSet", "", &[As("apps", "StatefulSet")]),
    row("apps.kruise.io", "DaemonSet", "", &[As("apps", "DaemonSet")]),
    row("apps.kruise.io", "AdvancedCronJob", "", &[As("batch", "CronJob")]),
    row(
        "apps.kruise.io",
        "BroadcastJob",
        "",
        &[
            Failed("", &[At("status.phase", "failed")]),
            Healthy("", &[At("status.phase", "completed"), Reaches("status.succeeded", "status.desired")]),
        ],
    ),
    row(
        "rollouts.kruise.io",
        "Rollout",
        "status.message",
        &[
            Progressing("it waits for somebody", &[At("status.canaryStatus.currentStepState", "StepPaused")]),
            Healthy("", &[At("status.phase", "Healthy"), Unset("status.canaryStatus")]),
            Healthy("", &[At("status.phase", "Healthy"), At("status.canaryStatus.currentStepState", "Completed")]),
        ],
    ),
    row(
        "game.kruise.io",
        "GameServer",
        "",
        &[Healthy("", &[At("status.currentState", "Ready"), At("status.desiredState", "Ready")])],
    ),
    row(
        "game.kruise.io",
        "GameServerSet",
        "",
        &[
            Healthy(
                "",
                &[
                    Reaches("status.updatedReadyReplicas", "spec.replicas"),
                    Reaches("status.readyReplicas", "spec.replicas"),
                ],
            ),
            Progressing(
                "it is paused (spec.updateStrategy)",
                &[At("spec.updateStrategy.rollingUpdate.paused", "true")],
            ),
        ],
    ),
    row(
        "core.spinkube.dev",
        "SpinApp",
        "",
        &[
            Failed("", &[For("Progressing", "False", "ProgressDeadlineExceeded")]),
            Healthy("", &[Is("Available", "True"), Reaches("status.readyReplicas", "spec.replicas")]),
        ],
    ),
    // What is spread over several clusters.
    row(
        "work.karmada.io",
        "ResourceBinding|ClusterResourceBinding",
        "",
        &[
            Each(
                "status.aggregatedStatus",
                "clusterName",
                &[
                    Degraded("", &[At("health", "Unhealthy")]),
                    Degraded("it could not be applied", &[At("applied", "false")]),
                    Healthy("", &[At("applied", "true")]),
                ],
            ),
            Healthy(
                "applied in all of its clusters",
                &[Set("status.aggregatedStatus"), Reaches("status.aggregatedStatus", "spec.clusters")],
            ),
        ],
    ),
];
