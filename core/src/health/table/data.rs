//! What keeps data: databases, brokers, storage.

use super::super::rule::Ask::{At, For, Is, Reaches, Set};
use super::super::rule::Clause::{Degraded, Each, Failed, Healthy, Progressing, Suspended};
use super::super::rule::{Clause, Row, row};
use super::OPERATOR;

const STRIMZI: &[Clause] = &[
    Suspended(&[At("metadata.annotations[strimzi.io/pause-reconciliation]", "true")]),
    Progressing("", &[For("NotReady", "True", "Creating")]),
    Degraded("", &[Is("NotReady", "True")]),
    Healthy("", &[Is("Ready", "True")]),
];

const PERCONA: &[Clause] = &[
    Suspended(&[At("spec.pause", "true")]),
    Degraded("", &[At("status.state", "error")]),
    Healthy("", &[At("status.state", "ready")]),
];

const ALTINITY: &[Clause] =
    &[Failed("", &[At("status.status", "Aborted")]), Healthy("", &[At("status.status", "Completed")])];

const MARIADB: &[Clause] = &[Degraded("", &[For("Ready", "False", "Failed")]), Healthy("", &[Is("Ready", "True")])];

const CONFLUENT: &[Clause] =
    &[Degraded("", &[At("status.phase", "FAILED|ERROR")]), Healthy("", &[At("status.phase", "RUNNING")])];

const CREATED: &[Clause] =
    &[Degraded("", &[For("Ready", "False", "FailedCreateOrUpdate")]), Healthy("", &[Is("Ready", "True")])];

pub(super) const ROWS: &[Row] = &[
    // Postgres.
    row(
        "postgresql.cnpg.io",
        "Cluster",
        "status.phaseReason",
        &[
            Suspended(&[At("metadata.annotations[cnpg.io/reconciliationLoop]", "disabled")]),
            Suspended(&[At("metadata.annotations[cnpg.io/hibernation]", "on")]),
            Failed("", &[At("status.phase", "Cluster is unrecoverable and needs manual intervention")]),
            Degraded("", &[At("status.phase", "Failing over")]),
            Degraded("", &[At("status.phase", "Unable to create required cluster objects")]),
            Degraded("", &[At("status.phase", "Cluster cannot *|Cluster has incomplete or invalid image catalog")]),
            Healthy("", &[At("status.phase", "Cluster in healthy state")]),
        ],
    ),
    row(
        "postgresql.cnpg.io",
        "Pooler",
        "",
        // It counts pods that are made, ready or not.
        &[Healthy(
            "its pods are made; only its Deployment tells whether they are ready",
            &[Set("status.instances"), Reaches("status.instances", "spec.instances")],
        )],
    ),
    row(
        "postgresql.cnpg.io",
        "Backup",
        "status.error",
        &[Failed("", &[At("status.phase", "failed")]), Healthy("", &[At("status.phase", "completed")])],
    ),
    row(
        "postgresql.cnpg.io",
        "Database|Publication|Subscription",
        "status.message",
        &[
            Degraded("it could not be applied", &[At("status.applied", "false")]),
            Healthy("", &[At("status.applied", "true")]),
        ],
    ),
    row(
        "acid.zalan.do",
        "postgresql",
        "",
        &[
            Failed("", &[At("status.PostgresClusterStatus", "CreateFailed|Invalid")]),
            Degraded("", &[At("status.PostgresClusterStatus", "UpdateFailed|SyncFailed")]),
            Healthy("", &[At("status.PostgresClusterStatus", "Running")]),
        ],
    ),
    row(
        "postgres-operator.crunchydata.com",
        "PostgresCluster",
        "",
        &[
            Suspended(&[At("spec.paused", "true")]),
            Each("status.instances", "name", &[Healthy("", &[Reaches("readyReplicas", "replicas")])]),
            Healthy("all of its instances are ready", &[Set("status.instances")]),
        ],
    ),
    // Other databases.
    row("psmdb.percona.com|pxc.percona.com|ps.percona.com|pgv2.percona.com", "Percona*", "", PERCONA),
    row("k8s.mariadb.com|mariadb.mmontes.io", "MariaDB|MaxScale|Database|Grant|User|Connection", "", MARIADB),
    row(
        "k8s.mariadb.com|mariadb.mmontes.io",
        "Backup|PhysicalBackup|SqlJob|Restore",
        "",
        &[
            Failed("", &[For("Complete", "*", "JobFailed")]),
            Healthy("", &[Is("Complete", "True")]),
            Healthy("it runs by its schedule", &[For("Complete", "False", "CronJobScheduled"), Set("spec.schedule")]),
        ],
    ),
    row(
        "mongodbcommunity.mongodb.com|mongodb.com",
        "MongoDB*",
        "status.message",
        &[Degraded("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Running")])],
    ),
    row("clickhouse.altinity.com", "ClickHouseInstallation", "status.error", ALTINITY),
    row("clickhouse-keeper.altinity.com", "ClickHouseKeeperInstallation", "status.error", ALTINITY),
    row(
        "cassandra.rook.io",
        "Cluster",
        "",
        &[
            Each("status.racks", "", &[Healthy("", &[Reaches("readyMembers", "members")])]),
            Healthy("all of its racks are ready", &[Set("status.racks")]),
        ],
    ),
    row("scylla.scylladb.com", "ScyllaCluster", "", OPERATOR),
    row(
        "db.atlasgo.io",
        "AtlasMigration|AtlasSchema",
        "",
        &[
            Progressing("", &[For("Ready", "False", "Reconciling|GettingDevDB")]),
            Degraded("", &[Is("Ready", "False")]),
            Healthy("", &[Is("Ready", "True")]),
        ],
    ),
    // Brokers.
    row(
        "kafka.strimzi.io",
        "Kafka|KafkaBridge|KafkaConnect|KafkaConnector|KafkaMirrorMaker2|KafkaTopic|KafkaUser",
        "",
        STRIMZI,
    ),
    row(
        "kafka.banzaicloud.io",
        "KafkaCluster",
        "",
        &[
            Each(
                "status.brokersState",
                "",
                &[
                    Healthy("", &[At("configurationState", "ConfigInSync")]),
                    Progressing("its configuration is not in sync", &[]),
                ],
            ),
            Healthy("", &[At("status.state", "ClusterRunning"), Set("status.brokersState")]),
        ],
    ),
    row(
        "platform.confluent.io",
        "Connector",
        "",
        &[
            Degraded("", &[At("status.state", "ERROR")]),
            Degraded("some of its tasks failed", &[Set("status.failedTasksCount")]),
            Healthy("", &[At("status.connectorState", "RUNNING"), At("status.state", "CREATED")]),
        ],
    ),
    row(
        "platform.confluent.io",
        "Connect|ControlCenter|Kafka|KafkaRestProxy|KRaftController|KsqlDB|SchemaRegistry|Zookeeper",
        "",
        CONFLUENT,
    ),
    row(
        "rabbitmq.com",
        "RabbitmqCluster",
        "",
        &[
            Degraded("", &[Is("ReconcileSuccess", "False")]),
            Healthy("", &[Is("AllReplicasReady", "True"), Is("ClusterAvailable", "True")]),
        ],
    ),
    row("rabbitmq.com", "*", "", CREATED),
    row(
        "zookeeper.pravega.io",
        "ZookeeperCluster",
        "",
        &[Healthy("", &[Reaches("status.readyReplicas", "spec.replicas")])],
    ),
    // Storage.
    row(
        "ceph.rook.io",
        "CephCluster",
        "status.message",
        &[
            Degraded("", &[At("status.ceph.health", "HEALTH_ERR|HEALTH_WARN")]),
            Degraded("", &[At("status.state", "Error")]),
            Healthy("", &[At("status.ceph.health", "HEALTH_OK"), At("status.state", "Created|Connected")]),
        ],
    ),
    row(
        "ceph.rook.io",
        "CephBlockPool|CephClient|CephFilesystem|CephFilesystemMirror|CephNFS|CephObjectStore|CephObjectStoreUser|\
         CephRBDMirror",
        "",
        &[Degraded("", &[At("status.phase", "Failure")]), Healthy("", &[At("status.phase", "Ready|Connected")])],
    ),
    row(
        "objectbucket.io",
        "ObjectBucketClaim",
        "",
        &[Failed("", &[At("status.phase", "Failed")]), Healthy("", &[At("status.phase", "Bound")])],
    ),
    row(
        "minio.min.io",
        "Tenant",
        "",
        &[
            Degraded("", &[At("status.healthStatus", "red")]),
            Degraded(
                "",
                &[At(
                    "status.currentState",
                    "Statefulset not controlled by operator|Another MinIO Tenant already exists in the namespace|Tenant credentials \
             are not set properly|Different versions across MinIO Pools|Pool Decommissioning Not Allowed",
                )],
            ),
            Healthy("", &[At("status.currentState", "Initialized")]),
        ],
    ),
];
