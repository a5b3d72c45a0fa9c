//! Signatures as `gpg` makes them.
//!
//! The library reads packets and computes; which key may sign, and until when, is decided here. What a key signed while it
//! was good stays good; a key that is revoked, for whatever reason, signs nothing.

use jiff::Timestamp;
use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use super::{InvalidVerifyKey, Unverified};

pub(super) const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
pub(super) const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";

/// Of one object: some sign with two keys.
const SIGNATURES_MAX: usize = 8;

/// A person's key, with all of its parts that may sign.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Of the primary key, by which people know it.
    fingerprint: String,
    signers: Vec<Signer>,
}

/// A part of a key that may sign.
#[derive(Debug, Clone)]
struct Signer {
    part: Part,
    /// Seconds since 1970; `None`: never.
    expires_at: Option<u64>,
}

#[derive(Debug, Clone)]
enum Part {
    Primary(PublicKey),
    Sub(PublicSubkey),
}

impl Key {
    pub(super) fn id(&self) -> String {
        id_of(&self.fingerprint)
    }

    /// What it signed is kept by the part that did: one that is revoked later has signed nothing.
    pub(super) fn ids_of_parts(&self) -> impl Iterator<Item = String> {
        self.signers.iter().map(|signer| self.id_of_part(&signer.part))
    }

    fn id_of_part(&self, part: &Part) -> String {
        match part {
            Part::Primary(_) => self.id(),
            Part::Sub(sub) => format!("{}/{:X}", self.id(), sub.fingerprint()),
        }
    }
}

fn id_of(fingerprint: &str) -> String {
    format!("openpgp:{fingerprint}")
}

/// All keys of a block.
pub(super) fn read(text: &str) -> Result<Vec<Key>, InvalidVerifyKey> {
    let unreadable = |_| InvalidVerifyKey::OpenPgp;
    let begin = text.find(BEGIN).ok_or(InvalidVerifyKey::OpenPgp)?;
    let (keys, _) = SignedPublicKey::from_string_many(&text[begin..]).map_err(unreadable)?;
    let keys: Vec<Key> = keys.map(|key| read_key(&key.map_err(unreadable)?)).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(InvalidVerifyKey::OpenPgp) } else { Ok(keys) }
}

fn read_key(key: &SignedPublicKey) -> Result<Key, InvalidVerifyKey> {
    let primary = &key.primary_key;
    let fingerprint = format!("{:X}", primary.fingerprint());
    let unusable = |reason| InvalidVerifyKey::Unusable { fingerprint: fingerprint.clone(), reason };
    if key.details.revocation_signatures.iter().any(|one| one.verify_key(primary).is_ok()) {
        return Err(unusable("is revoked"));
    }
    // Its owner's newest word about it.
    let says = newest(list_self_signatures(key)).ok_or_else(|| unusable("is not signed by itself"))?;
    let expires_at = end(primary, says);
    let mut signers = Vec::new();
    if says.key_flags().sign() {
        signers.push(Signer { part: Part::Primary(primary.clone()), expires_at });
    }
    for sub in &key.public_subkeys {
        let Some(says) = find_binding(sub, primary) else { continue };
        let expires_at = [expires_at, end(&sub.key, says)].into_iter().flatten().min();
        signers.push(Signer { part: Part::Sub(sub.key.clone()), expires_at });
    }
    if signers.is_empty() {
        return Err(unusable("has no part that may sign"));
    }
    Ok(Key { fingerprint, signers })
}

fn list_self_signatures(key: &SignedPublicKey) -> Vec<&Signature> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter().filter(|one| one.verify_key(primary).is_ok());
    let users = key.details.users.iter().flat_map(|user| {
        let good = |one: &&Signature| one.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        let good: Vec<_> = user.signatures.iter().filter(good).collect();
        // A name that was taken back says nothing about the key any more.
        let is_revoked = good.iter().any(|one| one.typ() == Some(SignatureType::CertRevocation));
        if is_revoked { Vec::new() } else { good }
    });
    direct.chain(users).collect()
}

/// What makes a part one that may sign for the key.
fn find_binding<'a>(sub: &'a SignedPublicSubKey, primary: &PublicKey) -> Option<&'a Signature> {
    let good = sub.signatures.iter().filter(|one| one.verify_subkey_binding(primary, &sub.key).is_ok());
    let good: Vec<_> = good.collect();
    if good.iter().any(|one| one.typ() == Some(SignatureType::SubkeyRevocation)) {
        return None;
    }
    let binding = newest(good).filter(|binding| binding.key_flags().sign())?;
    // It has to say itself that it belongs to that key, or anybody's part could be called one's own.
    binding.embedded_signature()?.verify_primary_key_binding(&sub.key, primary).ok()?;
    Some(binding)
}

fn newest(signatures: Vec<&Signature>) -> Option<&Signature> {
    signatures.into_iter().max_by_key(|one| one.created().map(pgp::types::Timestamp::as_secs))
}

fn end(key: &impl KeyDetails, says: &Signature) -> Option<u64> {
    let lasts = says.key_expiration_time().map(|lasts| u64::from(lasts.as_secs())).filter(|lasts| *lasts > 0)?;
    Some(u64::from(key.created_at().as_secs()) + lasts)
}

/// By which part of the keys the content is signed.
pub(super) fn find_signer(
    keys: &[Key],
    content: &[u8],
    signature: &[u8],
    now: Timestamp,
) -> Result<String, Unverified> {
    let mut why = Unverified::ByOthers(None);
    let Ok((signatures, _)) = DetachedSignature::from_armor_many_buf(signature) else { return Err(why) };
    for signature in signatures.take(SIGNATURES_MAX) {
        let Ok(DetachedSignature { signature }) = signature else { break };
        match find_one(keys, content, &signature, now) {
            Ok(key) => return Ok(key),
            // That one of ours is not good says more.
            Err(error @ Unverified::NotGood { .. }) => why = error,
            Err(error) if why == Unverified::ByOthers(None) => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

fn find_one(keys: &[Key], content: &[u8], signature: &Signature, now: Timestamp) -> Result<String, Unverified> {
    let mut signers = keys.iter().flat_map(|key| key.signers.iter().map(move |signer| (key, signer)));
    let made = signers.find(|(_, signer)| signer.part.says_to_have_made(signature));
    let Some((key, signer)) = made else { return Err(Unverified::ByOthers(describe_issuer(signature))) };
    match signer.judge(content, signature, now) {
        Ok(()) => Ok(key.id_of_part(&signer.part)),
        Err(reason) => Err(Unverified::NotGood { key: key.id(), reason }),
    }
}

impl Signer {
    fn judge(&self, content: &[u8], signature: &Signature, now: Timestamp) -> Result<(), &'static str> {
        let created = signature.created().map(|at| u64::from(at.as_secs()));
        let Some(created) = created else { return Err("does not say when it was made") };
        if signature.typ() != Some(SignatureType::Binary) {
            return Err("is of another kind than Git's");
        }
        if !signature.hash_alg().is_some_and(is_strong) {
            return Err("is over a hash that is no longer safe");
        }
        if !self.part.has_signed(signature, content) {
            return Err("is not over this content");
        }
        if created < self.part.created() || self.expires_at.is_some_and(|end| created > end) {
            return Err("was made when the key was not valid");
        }
        let lasts = signature.signature_expiration_time().map(|lasts| u64::from(lasts.as_secs()));
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        if lasts.is_some_and(|lasts| lasts > 0 && created + lasts < now) {
            return Err("has expired");
        }
        Ok(())
    }
}

const fn is_strong(hash: HashAlgorithm) -> bool {
    matches!(
        hash,
        HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512
    )
}

fn describe_issuer(signature: &Signature) -> Option<String> {
    let fingerprint = signature.issuer_fingerprint().first().map(|one| format!("{one:X}"));
    let id = || signature.issuer_key_id().first().map(|one| hex::encode_upper(one.as_ref()));
    fingerprint.or_else(id).map(|text| id_of(&text))
}

impl Part {
    fn says_to_have_made(&self, signature: &Signature) -> bool {
        let (fingerprint, id) = match self {
            Self::Primary(key) => (key.fingerprint(), key.legacy_key_id()),
            Self::Sub(key) => (key.fingerprint(), key.legacy_key_id()),
        };
        signature.issuer_fingerprint().contains(&&fingerprint) || signature.issuer_key_id().contains(&&id)
    }

    fn has_signed(&self, signature: &Signature, content: &[u8]) -> bool {
        match self {
            Self::Primary(key) => signature.verify(key, content).is_ok(),
            Self::Sub(key) => signature.verify(key, content).is_ok(),
        }
    }

    fn created(&self) -> u64 {
        u64::from(match self {
            Self::Primary(key) => key.created_at().as_secs(),
            Self::Sub(key) => key.created_at().as_secs(),
        })
    }
}
