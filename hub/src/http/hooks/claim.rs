//! Who a webhook says it is from, and how it proves that. Decides by headers alone, so that nothing of a body is read
//! before its sender is known. Every host has its rule; the first header that is there says which one counts, and what
//! fails by that rule is not tried by another.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bellwether_core::Digest;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::pki::seal::HmacSha256;

/// How far the clock of a host that signs its time may be from ours.
const TIME_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);
/// Of one header; hosts send one, and two while a secret is being changed.
const SIGNATURES_MAX: usize = 4;

/// Whose rules and words a webhook follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    GitHub,
    GitLab,
    /// Forgejo's are the same under names of its own.
    Gitea,
    /// Cloud and Data Center, which name their events differently.
    Bitbucket,
    AzureDevOps,
    /// Whatever else signs as our documents say.
    Generic,
}

impl Host {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Bitbucket => "bitbucket",
            Self::AzureDevOps => "azure-devops",
            Self::Generic => "generic",
        }
    }
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) host: Host,
    /// As the host calls it; those that say it in the body only have none.
    pub(super) event: Option<String>,
    /// Names this one and its repetitions, and no other of the same repo.
    pub(super) delivery: Option<Digest>,
    /// The body is a form, and what counts is in its field `payload`.
    pub(super) is_form: bool,
    pub(super) proof: Proof,
}

#[derive(Debug)]
pub(super) enum Proof {
    /// HMAC-SHA256 of the body. One of the signatures is it.
    Signed(Vec<[u8; 32]>),
    /// The same, of an id, a time and the body; the key is what the secret is the text of.
    SignedWithTime { before: String, signatures: Vec<[u8; 32]> },
    /// The secret itself.
    Secret(SecretString),
}

impl Claim {
    /// `None`: it claims nothing that could be proven.
    pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let header = |name| text(headers, name);
        let (host, event, delivery, proof) = if let Some(signature) = header("x-forgejo-signature") {
            let event = header("x-forgejo-event").or_else(|| header("x-gitea-event"));
            (Host::Gitea, event, header("x-forgejo-delivery"), signed(signature)?)
        } else if let Some(signature) = header("x-gitea-signature") {
            (Host::Gitea, header("x-gitea-event"), header("x-gitea-delivery"), signed(signature)?)
        } else if let Some(signature) = header("webhook-signature") {
            let id = header("webhook-id")?;
            (Host::GitLab, header("x-gitlab-event"), Some(id), signed_with_time(headers, id, signature, now)?)
        } else if let Some(token) = header("x-gitlab-token") {
            // The id of the event is no id of this webhook: what another one leads to has the same.
            (Host::GitLab, header("x-gitlab-event"), header("idempotency-key"), Proof::Secret(token.into()))
        } else if let Some(signature) = header("x-hub-signature-256") {
            let proof = signed(signature.strip_prefix("sha256=")?)?;
            (Host::GitHub, header("x-github-event"), header("x-github-delivery"), proof)
        } else if let Some(event) = header("x-event-key") {
            let proof = match header("x-hub-signature") {
                Some(signature) => signed(signature.strip_prefix("sha256=")?)?,
                None => basic(headers)?,
            };
            let delivery = header("x-request-uuid").or_else(|| header("x-request-id"));
            (Host::Bitbucket, Some(event), delivery, proof)
        } else if let Some(signature) = header("x-signature") {
            (Host::Generic, None, None, signed(signature.strip_prefix("sha256=")?)?)
        } else {
            (Host::AzureDevOps, None, None, basic(headers)?)
        };
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Some(Self {
            host,
            event: event.map(ToOwned::to_owned),
            delivery: delivery.map(|id| delivery_id(host, id)),
            // Of what is sent by hand it is only what curl says of any body.
            is_form: content_type.starts_with("application/x-www-form-urlencoded") && host != Host::Generic,
            proof,
        })
    }
}

/// Whether a host only asks if anybody is here, without any proof: Bitbucket Data Center does, when its webhook is tested.
pub(super) fn is_unproven_ping(headers: &HeaderMap) -> bool {
    text(headers, "x-event-key") == Some("diagnostics:ping")
        && text(headers, "x-hub-signature").is_none()
        && !headers.contains_key(AUTHORIZATION)
}

/// Of any length; two hosts may give the same.
pub(super) fn delivery_id(host: Host, id: &str) -> Digest {
    Digest::of(format!("{}\n{id}", host.as_str()).as_bytes())
}

/// What a body is to be hashed with; nothing where the secret itself is told.
pub(super) fn hasher(proof: &Proof, secret: &SecretString) -> Option<HmacSha256> {
    match proof {
        Proof::Signed(_) => Some(HmacSha256::new(secret.expose_secret().as_bytes())),
        Proof::SignedWithTime { before, .. } => {
            let mut hasher = HmacSha256::new(key_of(secret).expose_secret());
            hasher.update(before.as_bytes());
            Some(hasher)
        }
        Proof::Secret(_) => None,
    }
}

/// Whoever signs with time signs with bytes, and knows them by a text: ours holds 32, as a secret of theirs does.
fn key_of(secret: &SecretString) -> SecretSlice<u8> {
    let text = secret.expose_secret();
    let decoded = match (text.strip_prefix("whsec_"), text.strip_prefix("bww_")) {
        (Some(text), _) => STANDARD.decode(text).ok(),
        (None, Some(text)) => URL_SAFE_NO_PAD.decode(text).ok(),
        (None, None) => None,
    };
    decoded.unwrap_or_else(|| text.as_bytes().to_vec()).into()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn signed(hex_digits: &str) -> Option<Proof> {
    let mut signature = [0; 32];
    hex::decode_to_slice(hex_digits, &mut signature).ok()?;
    Some(Proof::Signed(vec![signature]))
}

/// `v1,BASE64` one or more times, of `ID.TIME.BODY`: the Standard Webhooks, as GitLab's signing tokens sign. Others than `v1`
/// are of keys that this program has not.
fn signed_with_time(headers: &HeaderMap, id: &str, signatures: &str, now: Timestamp) -> Option<Proof> {
    let time = text(headers, "webhook-timestamp")?;
    let at = Timestamp::from_second(time.parse().ok()?).ok()?;
    if at.duration_since(now).abs() > TIME_TOLERANCE {
        return None;
    }
    let of_ours = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).take(SIGNATURES_MAX);
    let signatures: Vec<_> = of_ours.filter_map(|one| STANDARD.decode(one).ok()?.try_into().ok()).collect();
    (!signatures.is_empty()).then(|| Proof::SignedWithTime { before: format!("{id}.{time}."), signatures })
}

/// The password of whatever user.
fn basic(headers: &HeaderMap) -> Option<Proof> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()?;
    let pair = String::from_utf8(decoded).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(Proof::Secret(password.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Option<Claim> {
        let headers = pairs.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value).expect("a value"))
        });
        Claim::read(&headers.collect(), Timestamp::from_second(1_000_000).expect("a time"))
    }

    #[test]
    fn the_first_proof_that_is_there_decides_and_a_broken_one_is_not_tried_by_another_rule() {
        let good = "0".repeat(64);
        let of = |host: &str, other: &str| {
            let hub = format!("sha256={good}");
            read(&[(host, other), ("x-hub-signature-256", &hub), ("x-signature", &hub)])
        };

        assert_eq!(of("x-forgejo-signature", &good).map(|claim| claim.host), Some(Host::Gitea));
        assert!(of("x-forgejo-signature", "none").is_none());
        assert!(of("x-gitea-signature", &good[1..]).is_none());
        assert!(of("webhook-signature", "v1,none").is_none());
        assert!(read(&[("x-event-key", "repo:push"), ("x-hub-signature", "sha1=00")]).is_none());
        assert!(read(&[("x-hub-signature-256", &good)]).is_none(), "without its prefix");
        assert!(read(&[]).is_none());
        assert!(read(&[("authorization", "Bearer bwt_x")]).is_none());
    }

    #[test]
    fn a_signed_time_that_is_minutes_away_proves_nothing() {
        let signature = format!("v2,AAAA v1,{}", STANDARD.encode([7; 32]));
        let at =
            |time: &str| read(&[("webhook-signature", &signature), ("webhook-id", "a"), ("webhook-timestamp", time)]);

        assert!(at("1000290").is_some_and(|claim| claim.host == Host::GitLab && claim.delivery.is_some()));
        for time in ["1000301", "999699", "soon", "99999999999999"] {
            assert!(at(time).is_none(), "{time}");
        }
    }

    #[test]
    fn a_secret_is_the_password_of_any_user() {
        let of = |pair: &str| {
            let value = format!("Basic {}", STANDARD.encode(pair));
            read(&[("authorization", &value)]).map(|claim| match claim.proof {
                Proof::Secret(secret) => secret.expose_secret().to_owned(),
                other => panic!("{other:?}"),
            })
        };

        assert_eq!(of("bellwether:bww_a:b").as_deref(), Some("bww_a:b"));
        assert_eq!(of(":bww_a").as_deref(), Some("bww_a"));
        assert_eq!(of("bww_a"), None);
    }

    #[test]
    fn the_key_of_a_secret_is_the_same_as_that_of_its_signing_token() {
        let bytes = [200; 32];
        let ours = format!("bww_{}", URL_SAFE_NO_PAD.encode(bytes));
        let theirs = format!("whsec_{}", STANDARD.encode(bytes));

        for text in [ours, theirs] {
            assert_eq!(key_of(&text.into()).expose_secret(), bytes);
        }
        assert_eq!(key_of(&"a word".to_owned().into()).expose_secret(), b"a word");
    }
}
