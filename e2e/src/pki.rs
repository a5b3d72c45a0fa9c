//! The keys and certificates of one test cluster, and kubeconfigs that use them.
//!
//! As kubeadm makes them, but from one authority: a test cluster's parts all trust each other.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde_json::{Value, json};

/// Users of a cluster that have a kubeconfig: the file's name, the user's name, and the group.
const CLIENTS: [(&str, &str, Option<&str>); 3] = [
    ("admin", "admin", Some("system:masters")),
    ("kcm", "system:kube-controller-manager", None),
    ("sched", "system:kube-scheduler", None),
];

/// A client certificate with its key, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// One cluster's authority, with the identities of its control plane. The authority's key is not kept.
#[derive(Debug)]
pub struct Pki {
    ca: String,
    clients: Vec<(&'static str, Identity)>,
}

impl Pki {
    /// Writes what the API server and the controller manager read, into the cluster's folder.
    pub fn write(folder: &Path) -> Result<Self> {
        let ca_key = new_key()?;
        let mut params = named("bellwether-test", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let ca = params.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(params, ca_key);

        let server = server_identity(&issuer)?;
        let service_accounts = new_key()?;
        for (name, text) in [
            ("ca.crt", ca.as_str()),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("sa.key", &service_accounts.serialize_pem()),
            ("sa.pub", &service_accounts.public_key_pem()),
        ] {
            write_private(&folder.join(name), text)?;
        }
        let clients = CLIENTS
            .into_iter()
            .map(|(file, name, group)| Ok((file, client_identity(&issuer, name, group)?)))
            .collect::<Result<_>>()?;
        Ok(Self { ca, clients })
    }

    /// Written for each port that the API server is tried on.
    pub fn write_kubeconfigs(&self, folder: &Path, server: &str) -> Result<()> {
        for (name, identity) in &self.clients {
            let text = kubeconfig(server, &self.ca, identity);
            write_private(&folder.join(format!("{name}.kubeconfig")), &text)?;
        }
        Ok(())
    }
}

/// JSON, which every reader of kubeconfigs reads too.
fn kubeconfig(server: &str, ca: &str, identity: &Identity) -> String {
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    let user = json!({
        "client-certificate-data": encoded(&identity.certificate),
        "client-key-data": encoded(&identity.key),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server, "certificate-authority-data": encoded(ca)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    });
    format!("{config:#}\n")
}

/// The same cluster, for whoever has this token.
pub fn kubeconfig_with_token(kubeconfig: &str, token: &str) -> Result<String> {
    let mut config: Value = serde_json::from_str(kubeconfig).context("it is no kubeconfig of ours")?;
    config["users"][0]["user"] = json!({ "token": token });
    Ok(format!("{config:#}\n"))
}

/// A file that only its owner reads.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn new_key() -> Result<KeyPair> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn named(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

fn server_identity(issuer: &Issuer<'_, KeyPair>) -> Result<Identity> {
    let hosts = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut params = CertificateParams::new(hosts.map(str::to_owned))?;
    params.distinguished_name = named("kube-apiserver", None).distinguished_name;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(&mut params, issuer)
}

fn client_identity(issuer: &Issuer<'_, KeyPair>, name: &str, group: Option<&str>) -> Result<Identity> {
    let mut params = named(name, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(&mut params, issuer)
}

fn sign(params: &mut CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Identity> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = new_key()?;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_for_its_owner_only() -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir()?;

        Pki::write(folder.path())?.write_kubeconfigs(folder.path(), "https://127.0.0.1:1")?;

        for name in ["sa.key", "server.key", "admin.kubeconfig"] {
            assert_eq!(fs::metadata(folder.path().join(name))?.permissions().mode() & 0o777, 0o600, "{name}");
        }
        assert!(fs::read_to_string(folder.path().join("sa.key"))?.starts_with("-----BEGIN PRIVATE KEY-----"));
        Ok(())
    }
}
