//! What others are built on: certificates, secrets, scaling, networks, policies, operators, and what watches all that.

use super::super::rule::Ask::{At, For, Full, Is, Reaches, Same, Set, Unset};
use super::super::rule::Clause::{Degraded, Each, Failed, Healthy, Progressing, Suspended};
use super::super::rule::{Clause, Row, row};
use super::{OPERATOR, READY, READY_OR_WRONG, SUCCEEDED};

/// Of ACME, as cert-manager goes through it.
const ACME: &[Clause] =
    &[Failed("", &[At("status.state", "invalid|expired|errored")]), Healthy("", &[At("status.state", "valid")])];

const GREEN: &[Clause] = &[Degraded("", &[At("status.health", "red")]), Healthy("", &[At("status.health", "green")])];

/// Written as a word, or as its number.
const GLOO: &[Clause] =
    &[Degraded("", &[At("state", "Rejected|Warning|2|3")]), Healthy("", &[At("state", "Accepted|1")])];

/// Of Ansible's operators.
const ANSIBLE: &[Clause] = &[Degraded("", &[Is("Failure", "True")]), Healthy("", &[Is("Successful", "True")])];

const COMPLIANT: &[Clause] = &[
    Suspended(&[At("spec.disabled", "true")]),
    Degraded("", &[At("status.compliant", "NonCompliant")]),
    Healthy("", &[At("status.compliant", "Compliant")]),
];

const NUMAFLOW: &[Clause] = &[
    Failed("", &[At("status.phase", "Failed")]),
    Degraded(
        "its gradual upgrade failed",
        &[At("metadata.labels[numaplane.numaproj.io/progressive-result-state]", "failed")],
    ),
    Degraded("", &[Is("*", "False")]),
    Healthy("", &[At("status.phase", "Running")]),
    Healthy("", &[At("status.phase", "Paused"), At("spec.lifecycle.desiredPhase", "Paused")]),
];

const NUMAPLANE: &[Clause] = &[
    Failed("", &[At("status.phase", "Failed")]),
    Degraded("", &[Is("ProgressiveUpgradeSucceeded", "False")]),
    Progressing("an upgrade is under way", &[Set("status.upgradeInProgress")]),
    Progressing("", &[At("status.phase", "Pending")]),
    Progressing("", &[For("ChildResourcesHealthy", "False", "Progressing")]),
    Degraded("", &[Is("ChildResourcesHealthy", "False")]),
    Healthy("", &[Is("ChildResourcesHealthy", "True")]),
];

const THREESCALE: &[Clause] = &[
    Degraded("", &[Is("Invalid|Orphan|Failed", "True")]),
    Progressing("", &[Is("Waiting|In-progress", "True")]),
    Healthy("", &[Is("Ready|Synced", "True")]),
];

pub(super) const ROWS: &[Row] = &[
    row(
        "cert-manager.io|certmanager.k8s.io",
        "Certificate",
        "",
        &[
            Progressing("", &[Is("Issuing", "True")]),
            Healthy("", &[Is("Ready", "True")]),
            Degraded("", &[For("Issuing", "False", "*Failed|Denied|InvalidRequest")]),
        ],
    ),
    row(
        "cert-manager.io|certmanager.k8s.io",
        "Issuer|ClusterIssuer",
        "",
        &[Degraded("", &[For("Ready", "False", "Err*|Invalid*|VaultError")]), Healthy("", &[Is("Ready", "True")])],
    ),
    row(
        "cert-manager.io|certmanager.k8s.io",
        "CertificateRequest",
        "",
        &[
            Failed("", &[Is("Denied|InvalidRequest", "True")]),
            Failed("", &[For("Ready", "False", "Failed|Denied")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row("acme.cert-manager.io|certmanager.k8s.io", "Order|Challenge", "status.reason", ACME),
    row(
        "trust.cert-manager.io",
        "Bundle",
        "",
        &[Degraded("", &[Is("Synced", "False")]), Healthy("", &[Is("Synced", "True")])],
    ),
    row(
        "external-secrets.io",
        "ExternalSecret|SecretStore|ClusterSecretStore|PushSecret|ClusterPushSecret",
        "",
        READY_OR_WRONG,
    ),
    row(
        "external-secrets.io",
        "ClusterExternalSecret",
        "",
        &[
            Degraded("", &[Is("PartiallyReady|NotReady", "True")]),
            Degraded("", &[Is("Ready", "False")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "kubernetes-client.io",
        "ExternalSecret",
        "",
        &[Degraded("", &[At("status.status", "ERROR*")]), Healthy("", &[At("status.status", "SUCCESS")])],
    ),
    row(
        "bitnami.com",
        "SealedSecret",
        "",
        &[Degraded("", &[Is("Synced", "False")]), Healthy("", &[Is("Synced", "True")])],
    ),
    row("onepassword.com", "OnePasswordItem", "", READY_OR_WRONG),
    row(
        "keda.sh",
        "ScaledObject|ScaledJob",
        "",
        &[
            Degraded("", &[Is("Ready", "False")]),
            Degraded("", &[Is("Fallback", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row("kyverno.io", "Policy|ClusterPolicy", "", READY),
    row(
        "policy.open-cluster-management.io",
        "ConfigurationPolicy",
        "",
        &[
            Progressing("its newest generation is not evaluated yet", &[Unset("status.lastEvaluatedGeneration")]),
            Degraded(
                "",
                &[
                    At("status.compliant", "NonCompliant"),
                    Same("metadata.generation", "status.lastEvaluatedGeneration"),
                ],
            ),
            Healthy(
                "",
                &[At("status.compliant", "Compliant"), Same("metadata.generation", "status.lastEvaluatedGeneration")],
            ),
        ],
    ),
    row(
        "policy.open-cluster-management.io",
        "OperatorPolicy",
        "",
        &[Degraded("", &[Is("Compliant", "False")]), Healthy("", &[Is("Compliant", "True")])],
    ),
    row("policy.open-cluster-management.io", "Policy|CertificatePolicy", "", COMPLIANT),
    row("nmstate.io", "NodeNetworkConfigurationPolicy", "", OPERATOR),
    // Meshes and gateways.
    row(
        "install.istio.io",
        "IstioOperator",
        "",
        &[Degraded("", &[At("status.status", "ERROR|4")]), Healthy("", &[At("status.status", "HEALTHY|3")])],
    ),
    row("sailoperator.io", "Istio|IstioRevision|IstioCNI|ZTunnel", "", READY),
    row(
        "gateway.solo.io|gloo.solo.io",
        "*",
        "",
        &[
            Each("status.statuses", "", GLOO),
            Healthy("accepted", &[Set("status.statuses")]),
            Degraded("", &[At("status.state", "Rejected|Warning|2|3")]),
            Healthy("", &[At("status.state", "Accepted|1")]),
        ],
    ),
    row(
        "projectcontour.io",
        "HTTPProxy|ExtensionService",
        "status.description",
        &[Degraded("", &[Is("Valid", "False")]), Healthy("", &[Is("Valid", "True")])],
    ),
    row(
        "proclaim.dogmatiq.io",
        "DNSSDServiceInstance",
        "",
        &[
            Degraded("", &[Is("Adopted", "False")]),
            Degraded("", &[For("Advertised", "*", "AdvertiseError|UnadvertiseError")]),
            Healthy("", &[Is("Discoverable", "True")]),
        ],
    ),
    row(
        "route.openshift.io",
        "Route",
        "",
        &[
            Each(
                "status.ingress",
                "routerName",
                &[Degraded("", &[Is("Admitted", "False")]), Healthy("", &[Is("Admitted", "True")])],
            ),
            Healthy("admitted", &[Set("status.ingress")]),
        ],
    ),
    // OpenShift, and Operator Lifecycle Manager.
    row(
        "apps.openshift.io",
        "DeploymentConfig",
        "",
        &[
            Failed("", &[For("Progressing", "False", "ProgressDeadlineExceeded")]),
            Healthy("it has no replicas", &[At("spec.replicas", "0")]),
            Healthy("", &[Is("Available", "True"), For("Progressing", "True", "NewReplicationControllerAvailable")]),
        ],
    ),
    row(
        "operator.openshift.io",
        "IngressController",
        "",
        &[
            Degraded("", &[Is("Degraded", "True")]),
            Progressing("", &[Is("DeploymentReplicasAllAvailable", "False")]),
            Progressing("", &[Is("Progressing", "True")]),
            Healthy("", &[Is("Available", "True")]),
        ],
    ),
    row("ocs.openshift.io", "StorageCluster", "", OPERATOR),
    row(
        "operators.coreos.com",
        "Subscription",
        "",
        &[
            Degraded("", &[Is("CatalogSourcesUnhealthy|InstallPlanFailed|ResolutionFailed", "True")]),
            Degraded("", &[At("status.state", "UpgradeFailed")]),
            Healthy(
                "installed; a newer one waits to be approved, as its manifest asks",
                &[
                    At("spec.installPlanApproval", "Manual"),
                    Set("status.installedCSV"),
                    At("status.state", "UpgradePending"),
                ],
            ),
            Healthy("", &[At("status.state", "AtLatestKnown")]),
        ],
    ),
    row(
        "operators.coreos.com",
        "ClusterServiceVersion",
        "status.message",
        &[Degraded("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Succeeded")])],
    ),
    row(
        "operators.coreos.com",
        "InstallPlan",
        "",
        &[Failed("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Complete")])],
    ),
    row(
        "operators.coreos.com",
        "CatalogSource",
        "",
        &[Healthy("", &[At("status.connectionState.lastObservedState", "READY")])],
    ),
    row("olm.operatorframework.io", "ClusterExtension", "", &[Healthy("", &[Is("Installed", "True")])]),
    row("olm.operatorframework.io", "ClusterCatalog", "", &[Healthy("", &[Is("Serving", "True")])]),
    // What watches.
    row(
        "monitoring.coreos.com",
        "Prometheus|PrometheusAgent|Alertmanager|ThanosRuler",
        "",
        &[
            Suspended(&[At("spec.paused", "true")]),
            Degraded("", &[Is("Reconciled", "False")]),
            Progressing("", &[For("Available", "False|Degraded", "SomePodsNotReady")]),
            Degraded("", &[Is("Available", "False|Degraded")]),
            Healthy("", &[Is("Available", "True")]),
        ],
    ),
    row(
        "operator.victoriametrics.com",
        "VMRule|VMServiceScrape|VMPodScrape|VMNodeScrape|VMStaticScrape|VMScrapeConfig|VMProbe|VMUser|VMAlertmanagerConfig",
        "status.reason",
        &[
            Degraded("", &[At("status.updateStatus", "failed")]),
            Healthy("", &[At("status.updateStatus", "operational")]),
            // Older operators say nothing of these.
            Healthy("there", &[Unset("status.updateStatus")]),
        ],
    ),
    row(
        "operator.victoriametrics.com",
        "*",
        "status.reason",
        &[
            Suspended(&[At("spec.paused", "true")]),
            Degraded("", &[At("status.updateStatus", "failed")]),
            Healthy("", &[At("status.updateStatus", "operational")]),
        ],
    ),
    row(
        "opentelemetry.io",
        "OpenTelemetryCollector",
        "",
        &[
            Healthy("it runs beside the pods that ask for it", &[At("spec.mode", "sidecar")]),
            Healthy("no node wants it", &[At("spec.mode", "daemonset"), At("status.scale.statusReplicas", "0/0")]),
            Healthy("", &[Full("status.scale.statusReplicas")]),
        ],
    ),
    row(
        "jaegertracing.io",
        "Jaeger",
        "",
        &[Failed("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Running")])],
    ),
    row("kiali.io", "Kiali", "", ANSIBLE),
    row("awx.ansible.com", "AWX", "", ANSIBLE),
    row(
        "datadoghq.com",
        "DatadogMetric",
        "",
        &[
            Degraded("", &[Is("Error", "True")]),
            Degraded("", &[Is("Valid", "False")]),
            Healthy("", &[Is("Valid", "True")]),
        ],
    ),
    row(
        "coralogix.com",
        "*",
        "",
        &[Degraded("", &[Is("RemoteSynced", "False")]), Healthy("", &[Is("RemoteSynced", "True")])],
    ),
    row(
        "core.humio.com",
        "HumioCluster",
        "status.message",
        &[Degraded("", &[At("status.state", "ConfigError")]), Healthy("", &[At("status.state", "Running")])],
    ),
    row(
        "core.humio.com",
        "*",
        "",
        &[Degraded("", &[At("status.state", "ConfigError")]), Healthy("", &[At("status.state", "Exists")])],
    ),
    row(
        "grafana.integreatly.org",
        "Grafana",
        "status.lastMessage",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Degraded("", &[At("status.stageStatus", "failed")]),
            Healthy("", &[At("status.stage", "complete"), At("status.stageStatus", "success")]),
        ],
    ),
    row(
        "grafana.integreatly.org",
        "*",
        "",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Degraded("", &[Is("NoMatchingInstance|InvalidSpec", "True")]),
            Degraded("no Grafana fits its selector", &[At("status.NoMatchingInstances", "true")]),
            Degraded("", &[Is("*Synchronized", "False")]),
            Healthy("", &[Is("*Synchronized", "True")]),
            // Before it had conditions.
            Healthy("", &[Unset("status.conditions"), At("status.uid", "*")]),
            Healthy("there", &[Unset("status.conditions"), Set("status.hash")]),
        ],
    ),
    row("grafana-org-operator.kubitus-project.gitlab.io", "*", "", READY_OR_WRONG),
    row(
        "loki.grafana.com|tempo.grafana.com",
        "LokiStack|TempoStack|TempoMonolithic",
        "",
        &[
            Degraded("", &[Is("Failed|Degraded|ConfigurationError", "True")]),
            Progressing("", &[Is("Pending", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "elasticsearch.k8s.elastic.co",
        "Elasticsearch",
        "",
        &[
            Failed("", &[At("status.phase", "Invalid")]),
            Degraded("", &[At("status.health", "red")]),
            Healthy("", &[At("status.health", "green"), At("status.phase", "Ready")]),
        ],
    ),
    row("*.k8s.elastic.co", "Kibana|ApmServer|Beat|Agent|EnterpriseSearch|Logstash|ElasticMapsServer", "", GREEN),
    // Functions, flows and identities.
    row(
        "serving.knative.dev|eventing.knative.dev|messaging.knative.dev|sources.knative.dev|flows.knative.dev",
        "Service|Route|Configuration|Revision|DomainMapping|Broker|Trigger|Channel|InMemoryChannel|Subscription|*Source|\
         SinkBinding|Sequence|Parallel",
        "",
        READY_OR_WRONG,
    ),
    row("operator.knative.dev", "KnativeServing|KnativeEventing", "", READY),
    row("openfaas.com", "Function", "", READY_OR_WRONG),
    row(
        "camel.apache.org",
        "Integration|Kamelet|Pipe|KameletBinding",
        "",
        &[
            Degraded("", &[At("status.phase", "Error")]),
            Degraded("", &[Is("Ready", "False")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "k8s.keycloak.org",
        "Keycloak|KeycloakRealmImport",
        "",
        &[Degraded("", &[Is("HasErrors", "True")]), Healthy("", &[Is("Ready|Done", "True")])],
    ),
    row("numaflow.numaproj.io", "InterStepBufferService|MonoVertex|Pipeline|Vertex", "status.message", NUMAFLOW),
    row("numaplane.numaproj.io", "*Rollout", "status.message", NUMAPLANE),
    row("apps.3scale.net", "APIManager", "", &[Healthy("", &[Is("Available", "True")])]),
    row("capabilities.3scale.net", "*", "", THREESCALE),
    // Machines in a cluster.
    row(
        "kubevirt.io",
        "VirtualMachine",
        "status.printableStatus",
        &[
            Suspended(&[At("spec.runStrategy", "Halted")]),
            Suspended(&[At("spec.running", "false")]),
            Progressing("it is paused", &[Is("Paused", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "kubevirt.io",
        "VirtualMachineInstance",
        "",
        &[
            Failed("", &[At("status.phase", "Failed")]),
            Progressing("it is paused", &[Is("Paused", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "cdi.kubevirt.io",
        "DataVolume",
        "",
        &[
            Failed("", &[At("status.phase", "Failed")]),
            Degraded("", &[For("Running", "False", "Error")]),
            Healthy("", &[At("status.phase", "Succeeded")]),
        ],
    ),
    // Learning and batches.
    row(
        "serving.kserve.io",
        "InferenceService",
        "",
        &[
            Degraded("", &[At("status.modelStatus.transitionStatus", "BlockedByFailedLoad|InvalidSpec")]),
            Progressing("", &[At("status.modelStatus.transitionStatus", "InProgress")]),
            Progressing("it is stopped", &[Is("Stopped", "True")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    row(
        "kubeflow.org",
        "TFJob|PyTorchJob|MPIJob|XGBoostJob|PaddleJob|JAXJob",
        "",
        &[Failed("", &[Is("Failed", "True")]), Healthy("", &[Is("Succeeded", "True")])],
    ),
    row(
        "batch.volcano.sh",
        "Job",
        "status.state.message",
        &[
            Failed("", &[At("status.state.phase", "Failed|Aborted|Terminated")]),
            Healthy("", &[At("status.state.phase", "Completed")]),
        ],
    ),
    row(
        "ray.io",
        "RayCluster",
        "status.reason",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Degraded("", &[At("status.state", "failed")]),
            Healthy("", &[At("status.state", "ready")]),
        ],
    ),
    row(
        "ray.io",
        "RayService",
        "",
        &[
            Healthy("", &[Is("Ready", "True")]),
            Healthy("", &[Unset("status.conditions"), At("status.serviceStatus", "Running")]),
        ],
    ),
    row(
        "ray.io",
        "RayJob",
        "status.message",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Failed("", &[At("status.jobDeploymentStatus", "Failed")]),
            Failed("", &[At("status.jobStatus", "FAILED|STOPPED")]),
            Healthy("", &[At("status.jobStatus", "SUCCEEDED")]),
        ],
    ),
    row(
        "sparkoperator.k8s.io",
        "SparkApplication",
        "status.applicationState.errorMessage",
        &[
            Failed("", &[At("status.applicationState.state", "FAILED")]),
            Degraded("", &[At("status.applicationState.state", "FAILING|SUBMISSION_FAILED")]),
            Healthy("", &[At("status.applicationState.state", "RUNNING|COMPLETED")]),
        ],
    ),
    row(
        "sparkoperator.k8s.io",
        "ScheduledSparkApplication",
        "status.reason",
        &[
            Suspended(&[At("spec.suspend", "true")]),
            Failed("", &[At("status.scheduleState", "FailedValidation")]),
            Healthy("", &[At("status.scheduleState", "Scheduled")]),
        ],
    ),
    row(
        "flink.apache.org",
        "FlinkDeployment|FlinkSessionJob",
        "status.error",
        &[
            Suspended(&[At("spec.job.state", "suspended")]),
            Failed("", &[At("status.lifecycleState", "FAILED|ROLLED_BACK")]),
            Degraded("", &[At("status.jobManagerDeploymentStatus", "ERROR")]),
            Healthy("", &[At("status.lifecycleState", "STABLE")]),
            // Before it had a lifecycle.
            Healthy(
                "",
                &[
                    At("status.jobManagerDeploymentStatus", "READY"),
                    Unset("status.lifecycleState"),
                    At("status.reconciliationStatus.state", "DEPLOYED"),
                ],
            ),
        ],
    ),
    // Backups.
    row(
        "velero.io",
        "Backup|Restore",
        "status.failureReason",
        &[
            Failed("", &[At("status.phase", "Failed|FailedValidation")]),
            Degraded("", &[At("status.phase", "*PartiallyFailed")]),
            Healthy("", &[At("status.phase", "Completed")]),
        ],
    ),
    row(
        "velero.io",
        "BackupStorageLocation",
        "status.message",
        &[Degraded("", &[At("status.phase", "Unavailable")]), Healthy("", &[At("status.phase", "Available")])],
    ),
    row(
        "velero.io",
        "Schedule",
        "",
        &[
            Suspended(&[At("spec.paused", "true")]),
            Failed("", &[At("status.phase", "FailedValidation")]),
            Healthy("", &[At("status.phase", "Enabled")]),
        ],
    ),
    row(
        "astra.netapp.io",
        "AppVault",
        "",
        &[
            Degraded("", &[At("status.state", "failed|Failed")]),
            Healthy("", &[At("status.state", "available|Available")]),
        ],
    ),
    row("astra.netapp.io", "Application", "", READY_OR_WRONG),
    row(
        "astra.netapp.io",
        "*Backup|Snapshot|ExecHooksRun",
        "",
        &[Failed("", &[At("status.state", "Failed|Error")]), Healthy("", &[At("status.state", "Completed")])],
    ),
    row(
        "trident.netapp.io",
        "TridentBackendConfig",
        "status.message",
        &[
            Degraded("", &[At("status.lastOperationStatus", "Failed")]),
            Healthy("", &[At("status.phase", "Bound"), At("status.lastOperationStatus", "Success")]),
        ],
    ),
    row(
        "trident.netapp.io",
        "TridentOrchestrator",
        "status.message",
        &[Degraded("", &[At("status.status", "Failed|Error")]), Healthy("", &[At("status.status", "Installed")])],
    ),
    row("ops.crossplane.io", "Operation", "", SUCCEEDED),
    row(
        "solr.apache.org",
        "SolrCloud",
        "",
        &[
            Each(
                "status.solrNodes",
                "name",
                &[Healthy("", &[At("ready", "true")]), Progressing("it is not ready", &[])],
            ),
            Healthy("", &[Set("status.solrNodes"), Reaches("status.solrNodes", "spec.replicas")]),
        ],
    ),
];
