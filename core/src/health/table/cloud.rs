//! What stands for something outside the cluster: Crossplane, and the controllers of the clouds.

use super::super::rule::Ask::{At, For, Is, Severe, Unset};
use super::super::rule::Clause::{As, Degraded, Each, Failed, Healthy, Progressing, Suspended};
use super::super::rule::{Clause, Row, row};
use super::READY;

const PAUSED: Clause = Suspended(&[At("metadata.annotations[crossplane.io/paused]", "true")]);

/// Without a status: kstatus takes them for well, once they are there.
const STATIC: &[Clause] = &[As("", "")];

/// What a provider keeps outside: it has both conditions.
const MANAGED: &[Clause] = &[
    PAUSED,
    Degraded("", &[Is("LastAsyncOperation", "False")]),
    Degraded("", &[For("Synced", "False", "ReconcileError")]),
    Healthy("", &[Is("Ready", "True"), Is("Synced", "True")]),
];

const SAP: &[Clause] = &[
    Degraded("", &[Is("Failed", "True")]),
    Degraded("", &[For("Succeeded", "False", "*Failed")]),
    Healthy("", &[Is("Ready", "True"), Is("Succeeded", "True")]),
];

pub(super) const ROWS: &[Row] = &[
    // Crossplane.
    row("*.crossplane.io|*.upbound.io", "*ProviderConfig|ProviderConfigUsage|StoreConfig", "", STATIC),
    row("pkg.crossplane.io", "DeploymentRuntimeConfig|ControllerConfig|ImageConfig|Lock", "", STATIC),
    row(
        "pkg.crossplane.io",
        "Provider|Configuration|Function",
        "",
        &[PAUSED, Healthy("", &[Is("Healthy", "True"), Is("Installed", "True")])],
    ),
    row("pkg.crossplane.io", "*Revision", "", &[PAUSED, Healthy("", &[Is("Healthy|RevisionHealthy", "True")])]),
    row(
        "apiextensions.crossplane.io",
        "CompositeResourceDefinition",
        "",
        &[
            Healthy("", &[Is("Established", "True"), Unset("spec.claimNames")]),
            Healthy("", &[Is("Offered", "True"), Is("Established", "True")]),
            Progressing("its claims are not offered yet", &[Is("Established", "True")]),
        ],
    ),
    row("apiextensions.crossplane.io", "ManagedResourceDefinition", "", &[Healthy("", &[Is("Established", "True")])]),
    row("apiextensions.crossplane.io|protection.crossplane.io", "Usage|ClusterUsage", "", READY),
    row("apiextensions.crossplane.io", "*", "", STATIC),
    row("*.crossplane.io|*.upbound.io", "*", "", MANAGED),
    // Clouds.
    row("services.k8s.aws", "AdoptedResource", "", &[Healthy("", &[Is("ACK.Adopted", "True")])]),
    row(
        "*.services.k8s.aws",
        "*",
        "",
        &[
            Failed("", &[Is("ACK.Terminal", "True")]),
            Degraded("", &[Is("ACK.Recoverable", "True")]),
            Progressing("", &[Is("Ready", "False|Unknown")]),
            Healthy("", &[Is("Ready", "True")]),
            // Before it had `Ready`.
            Healthy("", &[Is("ACK.ResourceSynced", "True")]),
        ],
    ),
    row(
        "*.cnrm.cloud.google.com",
        "ConfigConnector|ConfigConnectorContext",
        "",
        &[Healthy("", &[At("status.healthy", "true")]), Degraded("", &[At("status.healthy", "false")])],
    ),
    row(
        "*.cnrm.cloud.google.com",
        "*",
        "",
        &[
            Degraded(
                "",
                &[For(
                    "Ready",
                    "False",
                    "CreateFailed|UpdateFailed|DependencyInvalid|DependencyNotFound|ManagementConflict",
                )],
            ),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "networking.gke.io",
        "ManagedCertificate",
        "",
        &[
            Each(
                "status.domainStatus",
                "domain",
                &[Degraded("", &[At("status", "Failed*")]), Healthy("", &[At("status", "Active")])],
            ),
            Healthy("", &[At("status.certificateStatus", "Active")]),
        ],
    ),
    row(
        "*.azure.com",
        "*",
        "",
        &[
            Failed("", &[Severe("Ready", "False", "Error")]),
            Degraded("", &[Severe("Ready", "False", "Warning")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row("services.cloud.sap.com", "ServiceBinding|ServiceInstance", "", SAP),
    row(
        "iammanager.keikoproj.io",
        "Iamrole",
        "status.errorDescription",
        &[
            Degraded("", &[At("status.state", "Error|RolesMaxLimitReached|PolicyNotAllowed|RoleNameNotAvailable")]),
            Healthy("", &[At("status.state", "Ready")]),
        ],
    ),
    row(
        "core.gardener.cloud",
        "Shoot",
        "",
        &[Degraded("", &[At(SHOOT, "unhealthy")]), Healthy("", &[At(SHOOT, "healthy")])],
    ),
    // Nodes, as they are made.
    row("karpenter.sh", "NodePool|NodeClaim", "", READY),
    row("karpenter.k8s.aws", "EC2NodeClass", "", READY),
];

const SHOOT: &str = "metadata.labels[shoot.gardener.cloud/status]";
