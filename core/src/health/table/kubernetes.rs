//! Kinds of Kubernetes itself, of its Gateway API, and of its other projects.

use super::super::rule::Ask::{At, For, Is, Reaches, Set, Severe, Unset};
use super::super::rule::Clause::{As, Degraded, Each, Failed, Healthy, Progressing, Suspended};
use super::super::rule::{Ask, Clause, Row, row};
use super::READY;

const ADDRESS: &str = "status.loadBalancer.ingress";
const SELECTED_NODE: &str = "metadata.annotations[volume.kubernetes.io/selected-node]";
const PROVISIONER: &str = "metadata.annotations[volume.kubernetes.io/storage-provisioner]";

/// Whether its class waits for the first consumer, a claim does not say: only that nobody was asked for a volume yet.
const UNCLAIMED: &str = "not bound, and nobody was asked for a volume yet; where its class waits for the first consumer, \
                         a pod that uses it belongs into the same phase";

/// A route at one of its parents, a policy at one of its ancestors.
const ATTACHED: &[Clause] = &[
    Progressing("", &[For("Accepted", "False", "Pending")]),
    Degraded("", &[Is("Accepted|ResolvedRefs", "False")]),
    Degraded("", &[Is("PartiallyInvalid", "True")]),
    Progressing("", &[Is("ResolvedRefs", "Unknown")]),
    Progressing("", &[Is("Programmed", "False|Unknown")]),
    Healthy("", &[Is("Accepted", "True")]),
];

const LISTENER: &[Clause] = &[
    Degraded("", &[Is("Conflicted", "True")]),
    Progressing("", &[For("Accepted|Programmed", "False", "Pending")]),
    Degraded("", &[Is("Accepted|ResolvedRefs", "False")]),
    Progressing("", &[Is("Programmed|ResolvedRefs", "False|Unknown")]),
    Healthy("", &[Is("Programmed|Accepted", "True")]),
];

const GATEWAY: &[Clause] = &[
    Progressing("", &[For("Accepted", "False", "Pending")]),
    Degraded("", &[Is("Accepted", "False")]),
    Each("status.listeners", "name", LISTENER),
    Healthy("", &[Is("Programmed", "True"), Is("Accepted", "True")]),
];

const PAUSED: Clause = Suspended(&[At("spec.paused", "true")]);
/// It has a word for what is an error and what only takes time.
const SEVERE: Clause = Degraded("", &[Severe("Ready", "False", "Error")]);

/// In many clusters nobody ever gives one, so it is waited for only where a manifest asks for that.
const ASKS_FOR_ADDRESS: Ask = At("metadata.annotations[bellwether.dev/health]", "address");

pub(super) const ROWS: &[Row] = &[
    row(
        "",
        "Service",
        "",
        &[
            Progressing(
                "its load balancer has no address yet",
                &[ASKS_FOR_ADDRESS, At("spec.type", "LoadBalancer"), Set("spec.clusterIP"), Unset(ADDRESS)],
            ),
            As("", "Service"),
        ],
    ),
    row(
        "",
        "PersistentVolumeClaim",
        "",
        &[
            Failed("its volume is lost", &[At("status.phase", "Lost")]),
            Progressing(UNCLAIMED, &[At("status.phase", "Pending"), Unset(SELECTED_NODE), Unset(PROVISIONER)]),
            As("", "PersistentVolumeClaim"),
        ],
    ),
    row(
        "networking.k8s.io",
        "Ingress",
        "",
        &[
            Progressing("it has no address yet (status.loadBalancer)", &[ASKS_FOR_ADDRESS, Unset(ADDRESS)]),
            Healthy("there", &[]),
        ],
    ),
    row(
        "autoscaling",
        "HorizontalPodAutoscaler",
        "",
        &[
            Degraded("", &[For("ScalingActive", "False", "InvalidSelector")]),
            As("autoscaling", "HorizontalPodAutoscaler"),
        ],
    ),
    row(
        "policy",
        "PodDisruptionBudget",
        "",
        &[Degraded("", &[For("DisruptionAllowed", "False", "SyncFailed")]), As("policy", "PodDisruptionBudget")],
    ),
    // The Gateway API: https://gateway-api.sigs.k8s.io/reference/spec/.
    row(
        "gateway.networking.k8s.io",
        "GatewayClass",
        "",
        &[Degraded("", &[Is("Accepted", "False")]), Healthy("", &[Is("Accepted", "True")])],
    ),
    row("gateway.networking.k8s.io", "Gateway", "", GATEWAY),
    row("gateway.networking.k8s.io|gateway.networking.x-k8s.io", "ListenerSet|XListenerSet", "", GATEWAY),
    row(
        "gateway.networking.k8s.io",
        "HTTPRoute|GRPCRoute|TLSRoute|TCPRoute|UDPRoute",
        "",
        &[
            Each("status.parents", "parentRef.name", ATTACHED),
            Healthy("accepted by its parents", &[Set("status.parents"), Reaches("status.parents", "spec.parentRefs")]),
        ],
    ),
    row(
        "gateway.networking.k8s.io|gateway.networking.x-k8s.io",
        "*Policy",
        "",
        &[Each("status.ancestors", "ancestorRef.name", ATTACHED), Healthy("accepted", &[Set("status.ancestors")])],
    ),
    row(
        "gateway.envoyproxy.io|microgateway.airlock.com",
        "*Policy",
        "",
        &[Each("status.ancestors", "ancestorRef.name", ATTACHED), Healthy("accepted", &[Set("status.ancestors")])],
    ),
    row(
        "snapshot.storage.k8s.io",
        "VolumeSnapshot|VolumeSnapshotContent",
        "status.error.message",
        &[
            Healthy("", &[At("status.readyToUse", "true")]),
            Degraded("it cannot be taken", &[Set("status.error.message")]),
        ],
    ),
    row(
        "jobset.x-k8s.io",
        "JobSet",
        "",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Failed("", &[Is("Failed", "True")]),
            Healthy("", &[Is("Completed", "True")]),
        ],
    ),
    row(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        "",
        &[Progressing("", &[Is("UpdateInProgress", "True")]), Healthy("", &[Is("Available", "True")])],
    ),
    // Cluster API.
    row(
        "addons.cluster.x-k8s.io",
        "ClusterResourceSet",
        "",
        &[Degraded("", &[Is("ResourcesApplied", "False")]), Healthy("", &[Is("ResourcesApplied", "True")])],
    ),
    row("addons.cluster.x-k8s.io", "HelmChartProxy|HelmReleaseProxy", "", READY),
    row(
        "cluster.x-k8s.io",
        "Cluster",
        "status.failureMessage",
        &[
            PAUSED,
            Failed("", &[At("status.phase", "Failed")]),
            SEVERE,
            Healthy("", &[At("status.phase", "Provisioned"), Is("Ready|Available", "True")]),
        ],
    ),
    row(
        "cluster.x-k8s.io",
        "Machine",
        "status.failureMessage",
        &[Failed("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Running")])],
    ),
    row(
        "cluster.x-k8s.io",
        "MachineDeployment|MachinePool",
        "status.failureMessage",
        &[
            PAUSED,
            Failed("", &[At("status.phase", "Failed")]),
            Healthy("", &[At("status.phase", "Running"), Reaches("status.readyReplicas", "spec.replicas")]),
        ],
    ),
    row(
        "cluster.x-k8s.io",
        "MachineSet",
        "status.failureMessage",
        &[
            Failed("", &[Set("status.failureMessage")]),
            Healthy("", &[Reaches("status.readyReplicas", "spec.replicas")]),
        ],
    ),
    row(
        "cluster.x-k8s.io",
        "MachineHealthCheck",
        "",
        &[
            Healthy("", &[Set("status.expectedMachines"), Reaches("status.currentHealthy", "status.expectedMachines")]),
            Degraded("fewer machines are well than there are", &[Set("status.expectedMachines")]),
        ],
    ),
    row(
        "controlplane.cluster.x-k8s.io",
        "*ControlPlane",
        "status.failureMessage",
        &[
            Failed("", &[Set("status.failureMessage")]),
            Progressing("", &[Is("*ControlPlaneUpdating", "True")]),
            Degraded("", &[Severe("*", "False", "Error")]),
            Progressing("", &[At("status.ready", "false")]),
            Healthy("", &[Is("Ready|Available", "True")]),
        ],
    ),
    row(
        "infrastructure.cluster.x-k8s.io",
        "*Cluster|*Machine|*MachinePool",
        "status.failureMessage",
        &[Failed("", &[Set("status.failureMessage")]), SEVERE, Healthy("", &[Is("Ready", "True")])],
    ),
];
