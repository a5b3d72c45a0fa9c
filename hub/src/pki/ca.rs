//! The installation's own certificate authority: who an agent is, and how it knows its hub.
//!
//! A root signs an intermediate, and the intermediate signs the certificates of agents and of the hub. Agents pin the
//! root by its fingerprint, so the intermediate can be replaced, and the root's key be taken off the hub, without any
//! agent noticing. Of a certificate request nothing is used but its key: who somebody is comes from the token or the
//! certificate that the request arrived with, never from what the request says. This file decides nothing about tokens,
//! revocation or renewal (`link` and `store` do), opens no socket (`tls` does), and takes the time as an argument.
//! `rcgen` is used here and nowhere else in the hub.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bellwether_core::{ClusterId, Digest};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _,
    RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, DnsName};
use secrecy::{ExposeSecret as _, SecretSlice};
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo as RequestKey;

/// Agents whose clock runs behind ours by less than this accept what was issued just now. Of a short life it is a tenth:
/// half of a life that began long ago would be over at once, and agents renew by that.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// A P-256 request with a long name is 400 bytes; nobody gets to make us parse more than this.
const REQUEST_BYTES_MAX: usize = 4096;
const ROOT_YEARS: i64 = 10;
/// As long as the root: what is shorter must be renewed in time, or its last day locks the whole fleet out. The
/// intermediate exists so that the root's key can be elsewhere, and so that it can be replaced at any time.
const INTERMEDIATE_YEARS: i64 = ROOT_YEARS;
/// The hub makes a new one at each start and keeps it in memory only.
const SERVER_DAYS: i64 = 365;
/// Must be given, and is not enforced: the hub makes a new list whenever one is needed, and a hub that ran for longer
/// without a revocation must not lock its agents out.
const REVOCATION_LIST_DAYS: i64 = 365;

const ROOT: &str = "root";
const INTERMEDIATE: &str = "intermediate";
/// What precedes the cluster's id in the one SAN of an agent's certificate.
const CLUSTER_URI: &str = "bellwether://cluster/";
/// Agents know their hub by this name, wherever it is reached, since only our root's certificates count there.
pub(crate) const HUB_NAME: &str = "bellwether-hub";

#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    #[error("the certificate request cannot be read")]
    MalformedRequest,
    #[error("the certificate request has {bytes} bytes, more than {REQUEST_BYTES_MAX}")]
    RequestTooLong { bytes: usize },
    #[error("the certificate request's key is neither ECDSA P-256 nor P-384")]
    UnsupportedKey,
    #[error("the certificate request is not signed with its own key")]
    NotSignedByItsKey,
    #[error("the certificate is not an agent's: {reason}")]
    NotAnAgent { reason: &'static str },
    #[error("`{name}` is neither a host name nor an address")]
    NotAHostName { name: String },
    #[error("`{serial}` is not the serial number of a certificate")]
    NotASerial { serial: String },
    #[error("the {name} certificate is missing")]
    Missing { name: &'static str },
    #[error("the stored {name} certificate cannot be used: {reason}")]
    Unusable { name: &'static str, reason: &'static str },
    #[error("the intermediate certificate ended at {at}")]
    Ended { at: Timestamp },
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// A certificate of the authority and its key, as they are kept (the key sealed).
#[derive(Debug)]
pub(crate) struct StoredKey {
    pub(crate) name: &'static str,
    pub(crate) certificate: Vec<u8>,
    /// PKCS#8. Of the root it is needed only to make another intermediate.
    pub(crate) private_key: SecretSlice<u8>,
}

/// What an agent gets.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The agent's certificate, then the intermediate.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Lower-case hexadecimal digits, as [`identity_of`] tells it.
    pub(crate) serial: String,
    pub(crate) not_after: Timestamp,
}

/// Whom an agent's certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentIdentity {
    pub(crate) cluster: ClusterId,
    /// Lower-case hexadecimal digits.
    pub(crate) serial: String,
    pub(crate) not_after: Timestamp,
    /// The digest of its public key, as [`key_of`] tells it of a request.
    pub(crate) key: Digest,
}

/// What the hub shows to those who connect.
#[derive(Debug)]
pub(crate) struct ServerIdentity {
    /// The hub's certificate, the intermediate and the root: whoever pins the root's fingerprint needs to see it.
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS#8.
    pub(crate) key: SecretSlice<u8>,
    pub(crate) not_after: Timestamp,
}

/// Signs for the installation, with the intermediate's key. The root's key is not held.
#[derive(Debug)]
pub(crate) struct Authority {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl Authority {
    /// A new authority, and what has to be stored of it.
    pub(crate) fn create(now: Timestamp, installation: Uuid) -> Result<(Self, Vec<StoredKey>), CaError> {
        let root_key = KeyPair::generate()?;
        let root_params = authority_params(&format!("Bellwether root {installation}"), 1, now, ROOT_YEARS);
        let root = root_params.self_signed(&root_key)?;
        let root_issuer = Issuer::from_params(&root_params, &root_key);

        let key = KeyPair::generate()?;
        let name = format!("Bellwether intermediate {installation}");
        let intermediate = authority_params(&name, 0, now, INTERMEDIATE_YEARS).signed_by(&key, &root_issuer)?;

        let stored = vec![
            StoredKey { name: ROOT, certificate: root.der().to_vec(), private_key: private(&root_key) },
            StoredKey { name: INTERMEDIATE, certificate: intermediate.der().to_vec(), private_key: private(&key) },
        ];
        Ok((Self::restore(&stored)?, stored))
    }

    /// The authority from what was stored. Refuses certificates that do not belong together, since whatever it then
    /// issued would be refused by every agent.
    pub(crate) fn restore(stored: &[StoredKey]) -> Result<Self, CaError> {
        let find = |name| stored.iter().find(|key| key.name == name).ok_or(CaError::Missing { name });
        let (root, intermediate) = (find(ROOT)?, find(INTERMEDIATE)?);
        let key = KeyPair::try_from(intermediate.private_key.expose_secret())?;
        let not_after = check_intermediate(&root.certificate, &intermediate.certificate, &key)?;

        let certificate = CertificateDer::from(intermediate.certificate.as_slice());
        Ok(Self {
            root: root.certificate.clone(),
            intermediate: intermediate.certificate.clone(),
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            not_after,
        })
    }

    /// What agents trust.
    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        vec![self.root.clone()]
    }

    /// The hexadecimal SHA-256 of the root's DER, which the install manifest carries.
    pub(crate) fn fingerprint(&self) -> String {
        hex::encode(Digest::of(&self.root).as_bytes())
    }

    /// A certificate that says "this is the agent of `cluster`" of whoever holds the request's key.
    pub(crate) fn issue_agent(
        &self,
        csr_der: &[u8],
        cluster: ClusterId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Issued, CaError> {
        let request = read_request(csr_der)?;
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)?;
        let serial = random_serial();
        let not_after = self.end_of(now, lifetime)?;
        let uri = format!("{CLUSTER_URI}{cluster}").try_into()?;
        let mut params = params(&format!("agent of {cluster}"), &serial, now, not_after);
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;

        Ok(Issued {
            chain: vec![leaf.der().to_vec(), self.intermediate.clone()],
            serial: hex::encode(serial),
            not_after,
        })
    }

    /// The hub's own certificate, for the names it always has and these.
    pub(crate) fn issue_server(&self, names: &[String], now: Timestamp) -> Result<ServerIdentity, CaError> {
        let key = KeyPair::generate()?;
        let lifetime = Duration::from_hours(24 * SERVER_DAYS.unsigned_abs());
        let not_after = self.end_of(now, lifetime)?;
        let mut params = params(HUB_NAME, &random_serial(), now, not_after);
        params.subject_alt_names = server_names(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;

        Ok(ServerIdentity {
            chain: vec![leaf.der().to_vec(), self.intermediate.clone(), self.root.clone()],
            key: private(&key),
            not_after,
        })
    }

    /// The list of these serial numbers, in DER. Only certificates that have not ended need to be on it.
    pub(crate) fn revocation_list(&self, serials: &[String], now: Timestamp) -> Result<Vec<u8>, CaError> {
        let revoked = |serial: &String| {
            let bytes = hex::decode(serial).ok().filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| CaError::NotASerial { serial: serial.chars().take(80).collect() })?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(bytes),
                revocation_time: date_time_ymd(1970, 1, 1) + since_1970(now),
                reason_code: None,
                invalidity_date: None,
            })
        };
        let next = now.checked_add((24 * REVOCATION_LIST_DAYS).hours()).unwrap_or(Timestamp::MAX);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + since_1970(now),
            next_update: date_time_ymd(1970, 1, 1) + since_1970(next),
            // Only has to grow from list to list.
            crl_number: SerialNumber::from(now.as_millisecond().unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect::<Result<_, CaError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }

    /// Nothing outlives the intermediate: it would be refused from that day on, whatever it said itself.
    fn end_of(&self, now: Timestamp, lifetime: Duration) -> Result<Timestamp, CaError> {
        if now >= self.not_after {
            return Err(CaError::Ended { at: self.not_after });
        }
        let end = now.checked_add(lifetime).map_or(self.not_after, |end| end.min(self.not_after));
        Ok(Timestamp::from_second(end.as_second()).expect("a timestamp's whole second is one"))
    }
}

/// The digest of the request's public key, by which a token is bound to its first user.
pub(crate) fn key_of(csr_der: &[u8]) -> Result<Digest, CaError> {
    let request = read_request(csr_der)?;
    Ok(Digest::of(request.certification_request_info.subject_pki.raw))
}

/// Whose certificate this is. The TLS handshake has checked who signed it and that it has not ended; this checks that it
/// was signed to be an agent's.
pub(crate) fn identity_of(cert_der: &[u8]) -> Result<AgentIdentity, CaError> {
    let refuse = |reason| CaError::NotAnAgent { reason };
    let certificate = read_certificate(cert_der).ok_or(refuse("it cannot be read"))?;
    if certificate.is_ca() {
        return Err(refuse("it is an authority's"));
    }
    let usage = certificate.extended_key_usage().ok().flatten().ok_or(refuse("it does not say what it is for"))?;
    if !is_for_clients_only(usage.value) {
        return Err(refuse("it is not for clients only"));
    }
    let names = certificate.subject_alternative_name().ok().flatten().ok_or(refuse("it names nobody"))?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
        return Err(refuse("it has other names than one URI"));
    };
    let cluster = parse_cluster_uri(uri).ok_or(refuse("its URI is not a cluster's"))?;
    let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp());
    let not_after = not_after.map_err(|_| refuse("its end is no time"))?;
    let key = Digest::of(certificate.tbs_certificate.subject_pki.raw);
    Ok(AgentIdentity { cluster, serial: serial_of(&certificate), not_after, key })
}

fn parse_cluster_uri(uri: &str) -> Option<ClusterId> {
    let id = uri.strip_prefix(CLUSTER_URI)?;
    let cluster = ClusterId::new(Uuid::try_parse(id).ok()?);
    // One spelling only, so that a name is never equal in one place and different in another.
    (cluster.to_string() == id).then_some(cluster)
}

fn is_for_clients_only(usage: &ExtendedKeyUsage<'_>) -> bool {
    let others = usage.any
        || usage.server_auth
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    usage.client_auth && !others
}

fn serial_of(certificate: &X509Certificate<'_>) -> String {
    let raw = certificate.raw_serial();
    // DER puts a zero before a first byte that would read as negative.
    hex::encode(raw.strip_prefix(&[0]).unwrap_or(raw))
}

fn read_certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The request, with a key that we sign for and whose holder made it.
fn read_request(csr_der: &[u8]) -> Result<X509CertificationRequest<'_>, CaError> {
    if csr_der.len() > REQUEST_BYTES_MAX {
        return Err(CaError::RequestTooLong { bytes: csr_der.len() });
    }
    let (rest, request) = X509CertificationRequest::from_der(csr_der).map_err(|_| CaError::MalformedRequest)?;
    if !rest.is_empty() {
        return Err(CaError::MalformedRequest);
    }
    // Before the signature: how long that takes to check is then not for a stranger to choose.
    if !may_sign_for(&request.certification_request_info.subject_pki) {
        return Err(CaError::UnsupportedKey);
    }
    request.verify_signature().map_err(|_| CaError::NotSignedByItsKey)?;
    Ok(request)
}

fn may_sign_for(key: &RequestKey<'_>) -> bool {
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384)
}

/// When the intermediate ends, if it is the root's and the key is its own.
fn check_intermediate(root: &[u8], intermediate: &[u8], key: &KeyPair) -> Result<Timestamp, CaError> {
    let unusable = |name, reason| CaError::Unusable { name, reason };
    let root = read_certificate(root).ok_or(unusable(ROOT, "it cannot be read"))?;
    let certificate = read_certificate(intermediate).ok_or(unusable(INTERMEDIATE, "it cannot be read"))?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(unusable(INTERMEDIATE, "its key is another's"));
    }
    if certificate.verify_signature(Some(root.public_key())).is_err() {
        return Err(unusable(INTERMEDIATE, "the root did not sign it"));
    }
    let end = certificate.validity().not_after.timestamp();
    Timestamp::from_second(end).map_err(|_| unusable(INTERMEDIATE, "its end is no time"))
}

fn authority_params(name: &str, path_len: u8, now: Timestamp, years: i64) -> CertificateParams {
    // 8,766 hours: a year with its share of a leap day.
    let end = now.checked_add((8766 * years).hours()).unwrap_or(Timestamp::MAX);
    let mut params = params(name, &random_serial(), now, end);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What every certificate has; as it stands, of somebody who is no authority and may do nothing yet.
fn params(name: &str, serial: &[u8], now: Timestamp, not_after: Timestamp) -> CertificateParams {
    let tolerance = CLOCK_TOLERANCE.min(not_after.duration_since(now) / 10);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = common_name(name);
    params.not_before = date_time_ymd(1970, 1, 1) + since_1970(now.checked_sub(tolerance).unwrap_or(now));
    params.not_after = date_time_ymd(1970, 1, 1) + since_1970(not_after);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

fn server_names(names: &[String]) -> Result<Vec<SanType>, CaError> {
    let fixed = [HUB_NAME, "localhost"].map(str::to_owned);
    let fixed_addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let all: BTreeSet<String> =
        fixed.into_iter().chain(fixed_addresses.map(|ip| ip.to_string())).chain(names.iter().cloned()).collect();
    all.into_iter().map(server_name).collect()
}

fn server_name(name: String) -> Result<SanType, CaError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    // `DnsName` knows what a client accepts; a name that none accepts is a mistake to be told now.
    if DnsName::try_from(name.as_str()).is_err() {
        return Err(CaError::NotAHostName { name });
    }
    Ok(SanType::DnsName(name.try_into()?))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// 126 random bits, positive, and always of 16 bytes, so that its digits are the same wherever it is written.
fn random_serial() -> [u8; 16] {
    let mut serial = crate::pki::seal::random::<16>();
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

fn private(key: &KeyPair) -> SecretSlice<u8> {
    Box::<[u8]>::from(key.serialized_der()).into()
}

/// To be added to `date_time_ymd(1970, 1, 1)`: rcgen's times are of a crate that has no other use here.
fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::SigningKey;

    const WEEK: Duration = Duration::from_hours(7 * 24);

    pub(crate) fn now() -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second()).expect("a whole second")
    }

    pub(crate) fn authority() -> Authority {
        Authority::create(now(), Uuid::from_u128(1)).expect("an authority").0
    }

    pub(crate) fn cluster() -> ClusterId {
        ClusterId::new(Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0001))
    }

    /// A new agent's key and what it asks with.
    fn request() -> (KeyPair, Vec<u8>) {
        let key = KeyPair::generate().expect("a key");
        let csr = request_with(&CertificateParams::default(), &key);
        (key, csr)
    }

    /// The same for tests elsewhere: the key in PKCS#8.
    pub(crate) fn agent_request() -> (Vec<u8>, Vec<u8>) {
        let (key, csr) = request();
        (key.serialize_der(), csr)
    }

    fn request_with(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.serialize_request(key).expect("a request").der().to_vec()
    }

    fn parsed(der: &[u8]) -> X509Certificate<'_> {
        read_certificate(der).expect("a certificate")
    }

    #[test]
    fn an_issued_certificate_names_its_cluster_and_nothing_else() {
        let (authority, (key, csr), now) = (authority(), request(), now());

        let issued = authority.issue_agent(&csr, cluster(), now, WEEK).expect("issued");

        let leaf = parsed(&issued.chain[0]);
        let (serial, not_after) = (issued.serial.clone(), issued.not_after);
        let identity = identity_of(&issued.chain[0]).expect("an agent's");
        let key_digest = key_of(&csr).expect("a request");
        assert_eq!(identity, AgentIdentity { cluster: cluster(), serial, not_after, key: key_digest });
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
        assert_eq!(leaf.validity().not_before.timestamp(), now.as_second() - 300);
        assert_eq!(leaf.validity().not_after.timestamp(), issued.not_after.as_second());
        assert_eq!(issued.not_after, now.checked_add(WEEK).expect("in range"));
        assert_eq!(issued.chain[1], authority.intermediate);
        assert_eq!(issued.serial.len(), 32);
    }

    #[test]
    fn half_of_a_short_life_lies_ahead_when_it_is_issued() {
        let now = now();

        let issued = authority().issue_agent(&request().1, cluster(), now, Duration::from_secs(30)).expect("issued");

        let validity = parsed(&issued.chain[0]).validity().clone();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        assert!(from < now.as_second() && from.midpoint(to) > now.as_second() + 10, "{from} {to}");
    }

    #[test]
    fn whatever_a_request_asks_for_only_its_key_counts() {
        let authority = authority();
        let key = KeyPair::generate().expect("a key");
        let other = "bellwether://cluster/00000000-0000-0000-0000-000000000bad".try_into().expect("ascii");
        let mut hostile = CertificateParams::default();
        hostile.distinguished_name = common_name("system:admin");
        hostile.distinguished_name.push(DnType::OrganizationName, "system:masters");
        hostile.subject_alt_names = vec![
            SanType::DnsName("*.evil.example".try_into().expect("ascii")),
            SanType::URI(other),
            SanType::IpAddress(IpAddr::from([127, 0, 0, 1])),
        ];
        hostile.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        hostile.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        hostile.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ServerAuth];

        let issued =
            authority.issue_agent(&request_with(&hostile, &key), cluster(), now(), WEEK).expect("issued all the same");

        let leaf = parsed(&issued.chain[0]);
        assert_eq!(identity_of(&issued.chain[0]).expect("an agent's").cluster, cluster());
        assert_eq!(leaf.subject().to_string(), format!("CN=agent of {}", cluster()));
        assert!(!leaf.is_ca());
        assert!(!leaf.key_usage().expect("readable").expect("there").value.key_cert_sign());
    }

    #[test]
    fn a_request_signed_with_another_key_is_refused() {
        struct Borrowed<'a>(&'a KeyPair, &'a KeyPair);
        impl rcgen::PublicKeyData for Borrowed<'_> {
            fn der_bytes(&self) -> &[u8] {
                self.0.der_bytes()
            }
            fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
                self.0.algorithm()
            }
        }
        impl SigningKey for Borrowed<'_> {
            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
                self.1.sign(message)
            }
        }
        let (somebodys, mine) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let csr = CertificateParams::default().serialize_request(&Borrowed(&somebodys, &mine)).expect("a request");

        let issued = authority().issue_agent(csr.der(), cluster(), now(), WEEK);

        assert!(matches!(issued, Err(CaError::NotSignedByItsKey)), "{issued:?}");
        assert!(matches!(key_of(csr.der()), Err(CaError::NotSignedByItsKey)));
    }

    #[test]
    fn keys_of_other_kinds_and_requests_without_end_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let (_, mut csr) = request();
        csr.push(0);

        assert!(matches!(key_of(&request_with(&CertificateParams::default(), &key)), Err(CaError::UnsupportedKey)));
        assert!(matches!(key_of(&csr), Err(CaError::MalformedRequest)));
        assert!(matches!(key_of(b""), Err(CaError::MalformedRequest)));
        assert!(matches!(key_of(&[0x30; 5000]), Err(CaError::RequestTooLong { bytes: 5000 })));
    }

    #[test]
    fn a_key_is_the_same_in_each_of_its_requests() {
        let (key, csr) = request();
        let mut named = CertificateParams::default();
        named.distinguished_name = common_name("other");

        assert_eq!(key_of(&csr).expect("a key"), key_of(&request_with(&named, &key)).expect("a key"));
        assert_ne!(key_of(&csr).expect("a key"), key_of(&request().1).expect("a key"));
    }

    #[test]
    fn certificates_of_others_are_nobodys_identity() {
        let authority = authority();
        let server = authority.issue_server(&[], now()).expect("issued");
        for (der, whose) in [
            (server.chain[0].as_slice(), "the hub's"),
            (&authority.intermediate, "the intermediate"),
            (&authority.root, "the root"),
            (b"", "nothing"),
        ] {
            assert!(identity_of(der).is_err(), "{whose}");
        }
    }

    #[test]
    fn a_certificate_with_a_second_name_or_use_is_nobodys_identity() {
        let authority = authority();
        let uri = |text: &str| SanType::URI(text.try_into().expect("ascii"));
        let good = uri(&format!("{CLUSTER_URI}{}", cluster()));
        let client = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let both = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let cases = [
            (vec![good.clone(), good.clone()], client.clone()),
            (vec![good.clone(), SanType::DnsName("a".try_into().expect("ascii"))], client.clone()),
            (vec![uri(&format!("{CLUSTER_URI}{}/x", cluster()))], client.clone()),
            (vec![uri(&format!("{CLUSTER_URI}{}", cluster()).to_uppercase())], client.clone()),
            (vec![uri(&format!("{CLUSTER_URI}{}", cluster().as_uuid().simple()))], client.clone()),
            (vec![uri("https://cluster/")], client),
            (vec![good.clone()], both),
            (vec![good], vec![]),
        ];
        for (names, uses) in cases {
            let mut params = params("x", &random_serial(), now(), authority.not_after);
            params.subject_alt_names.clone_from(&names);
            params.extended_key_usages = uses;
            let key = KeyPair::generate().expect("a key");
            let leaf = params.signed_by(&key, &authority.issuer).expect("signed");

            assert!(identity_of(leaf.der()).is_err(), "{names:?}");
        }
    }

    #[test]
    fn an_authority_comes_back_from_what_was_stored() {
        let (created, stored) = Authority::create(now(), Uuid::from_u128(1)).expect("created");
        let without_root_key: Vec<_> = stored
            .into_iter()
            .map(|key| if key.name == ROOT { StoredKey { private_key: SecretSlice::default(), ..key } } else { key })
            .collect();

        let restored = Authority::restore(&without_root_key).expect("restored");

        assert_eq!(restored.fingerprint(), created.fingerprint());
        assert_eq!(restored.fingerprint().len(), 64);
        let issued = restored.issue_agent(&request().1, cluster(), now(), WEEK).expect("issued");
        let intermediate = parsed(&created.intermediate);
        assert!(parsed(&issued.chain[0]).verify_signature(Some(intermediate.public_key())).is_ok());
    }

    #[test]
    fn parts_of_two_authorities_make_none() {
        let (_, mut mine) = Authority::create(now(), Uuid::from_u128(1)).expect("created");
        let (_, mut other) = Authority::create(now(), Uuid::from_u128(2)).expect("created");
        let (root, intermediate) = (mine.remove(0), other.remove(1));

        let mixed = Authority::restore(&[root, intermediate]);
        let missing = Authority::restore(&mine);

        assert!(matches!(mixed, Err(CaError::Unusable { name: "intermediate", .. })), "{mixed:?}");
        assert!(matches!(missing, Err(CaError::Missing { name: "root" })), "{missing:?}");
    }

    #[test]
    fn nothing_is_issued_beyond_the_intermediates_end() {
        let (authority, (_, csr)) = (authority(), request());
        let last_day = authority.not_after.checked_sub(Duration::from_hours(24)).expect("in range");

        let issued = authority.issue_agent(&csr, cluster(), last_day, WEEK).expect("issued");
        let too_late = authority.issue_agent(&csr, cluster(), authority.not_after, WEEK);

        assert_eq!(issued.not_after, authority.not_after);
        assert!(matches!(too_late, Err(CaError::Ended { .. })));
    }

    #[test]
    fn the_root_allows_one_level_of_authorities_and_the_intermediate_none() {
        let authority = authority();
        for (der, expected) in [(&authority.root, 1), (&authority.intermediate, 0)] {
            let certificate = parsed(der);
            let constraints = certificate.basic_constraints().expect("readable").expect("there");
            assert!(constraints.critical && constraints.value.ca);
            assert_eq!(constraints.value.path_len_constraint, Some(expected));
        }
    }

    #[test]
    fn the_hubs_certificate_has_its_own_names_and_those_asked_for() {
        let names = ["hub.example.org", "10.1.2.3", "localhost"].map(str::to_owned);

        let server = authority().issue_server(&names, now()).expect("issued");

        let leaf = parsed(&server.chain[0]);
        let san = leaf.subject_alternative_name().expect("readable").expect("there");
        let names: Vec<_> = san.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert_eq!(server.chain.len(), 3);
    }

    #[test]
    fn a_name_that_no_client_accepts_is_refused() {
        for name in ["", "a b", "hub:8443", "https://hub", "*.example.org "] {
            let issued = authority().issue_server(&[name.to_owned()], now());
            assert!(matches!(issued, Err(CaError::NotAHostName { .. })), "{name}");
        }
    }

    #[test]
    fn a_revocation_list_holds_the_serials_in_the_form_certificates_tell_them() {
        let authority = authority();
        let issued = authority.issue_agent(&request().1, cluster(), now(), WEEK).expect("issued");

        let list = authority.revocation_list(std::slice::from_ref(&issued.serial), now()).expect("a list");

        let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&list).expect("readable");
        let serials: Vec<_> = list.iter_revoked_certificates().map(|one| hex::encode(one.raw_serial())).collect();
        assert_eq!(serials, [issued.serial]);
        assert!(matches!(authority.revocation_list(&["xyz".into()], now()), Err(CaError::NotASerial { .. })));
    }
}
