//! Secrets at rest: what seals repo credentials and the CA's keys before they enter a row, and the tokens, digests and
//! signatures that strangers are checked by.
//!
//! One key for the whole installation, from a file or the environment; it is never in the database, so a stolen
//! database opens nothing. What is sealed is bound to its purpose: a row's secret copied into another row does not open
//! there. Nothing here logs, and no error carries plaintext or key bytes. Neighbours: `ca` (whose keys are sealed),
//! `store` (which keeps the sealed bytes).

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bellwether_core::Digest;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretBox, SecretSlice, SecretString};
use subtle::ConstantTimeEq as _;

/// The first byte of everything sealed: AES-256-GCM, laid out as version, key id, nonce, ciphertext and tag.
const VERSION: u8 = 1;
const KEY_LEN: usize = 32;
const KEY_ID_LEN: usize = 8;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// Where the key comes from.
#[derive(Debug)]
pub(crate) enum SealKey {
    /// A file with 64 hexadecimal digits.
    File(PathBuf),
    /// The digits themselves, from the environment.
    Value(SecretString),
}

/// Names a key without telling it: the start of a digest over the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId([u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("cannot read the seal key {}", path.display())]
    UnreadableKey {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the seal key {}", path.display())]
    UnwritableKey {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the seal key from {origin} is not 64 hexadecimal digits")]
    MalformedKey { origin: String },
    #[error("the bytes kept for `{purpose}` are not sealed in a form this hub knows")]
    NotSealed { purpose: String },
    #[error("`{purpose}` was sealed with the key {wanted}, and the key loaded is {loaded}")]
    OtherKey { purpose: String, wanted: KeyId, loaded: KeyId },
    #[error("what is sealed for `{purpose}` was altered, or was sealed for something else")]
    Altered { purpose: String },
}

impl SealError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::UnreadableKey { .. } | Self::UnwritableKey { .. } => {
                Some("the file must be the hub's own, with mode 0600")
            }
            Self::MalformedKey { .. } => Some("make a key with `openssl rand -hex 32`"),
            Self::OtherKey { .. } => Some("give the hub the key that this database was first started with"),
            Self::NotSealed { .. } | Self::Altered { .. } => None,
        };
        text.map(Cow::Borrowed)
    }
}

/// Seals and opens with the installation's key.
pub(crate) struct Seal {
    key: RandomizedNonceKey,
    id: KeyId,
    /// Derived from the same key.
    marks: hmac::Key,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.id)
    }
}

impl Seal {
    pub(crate) fn load(key: &SealKey) -> Result<Self, SealError> {
        match key {
            SealKey::File(path) => {
                let digits =
                    read_key(path).map_err(|source| SealError::UnreadableKey { path: path.clone(), source })?;
                warn_if_world_may_read(path);
                Self::from_digits(&digits, || path.display().to_string())
            }
            SealKey::Value(digits) => Self::from_digits(digits, || "the environment".to_owned()),
        }
    }

    /// The key in this file; made now when there is none. Of several hubs that start at once, all get the same.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, SealError> {
        if !path.exists() {
            create_key(path).map_err(|source| SealError::UnwritableKey { path: path.to_owned(), source })?;
        }
        Self::load(&SealKey::File(path.to_owned()))
    }

    pub(crate) fn key_id(&self) -> KeyId {
        self.id
    }

    /// Tells whether two values are the same, and to nobody without the key what they are: a plain digest of a short
    /// password is found by trying.
    pub(crate) fn mark(&self, digest: Digest) -> String {
        hex::encode(hmac::sign(&self.marks, digest.as_bytes()).as_ref())
    }

    /// What is sealed opens only with the same purpose, which names the one place where it is kept.
    pub(crate) fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(plain.len() + MAX_TAG_LEN);
        body.extend_from_slice(plain);
        // A random nonce may repeat after 2^32 seals with one key; credentials are sealed by the thousand.
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(bound(self.id, purpose)), &mut body)
            .expect("AES-GCM seals whatever fits into memory");

        let mut sealed = Vec::with_capacity(HEADER_LEN + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        sealed
    }

    pub(crate) fn open(&self, purpose: &str, sealed: &[u8]) -> Result<SecretSlice<u8>, SealError> {
        let not_sealed = || SealError::NotSealed { purpose: purpose.to_owned() };
        let (&version, rest) = sealed.split_first().ok_or_else(not_sealed)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_LEN>().ok_or_else(not_sealed)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(not_sealed)?;
        if version != VERSION {
            return Err(not_sealed());
        }
        if *id != self.id.0 {
            return Err(SealError::OtherKey { purpose: purpose.to_owned(), wanted: KeyId(*id), loaded: self.id });
        }

        let mut buffer = body.to_vec();
        let opened = self.key.open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(bound(self.id, purpose)),
            &mut buffer,
        );
        // Copied at its exact size: shrinking the buffer instead could leave a second, unwiped copy behind.
        let plain = opened.map(|plain| SecretSlice::from(Box::<[u8]>::from(&*plain)));
        buffer.zeroize();
        plain.map_err(|_| SealError::Altered { purpose: purpose.to_owned() })
    }

    fn from_digits(digits: &SecretString, origin: impl Fn() -> String) -> Result<Self, SealError> {
        let mut key = SecretBox::new(Box::new([0; KEY_LEN]));
        decode_key(digits, &mut key).ok_or_else(|| SealError::MalformedKey { origin: origin() })?;
        Ok(Self::from_key(&key))
    }

    fn from_key(key: &SecretBox<[u8; KEY_LEN]>) -> Self {
        let digest = Digest::of_parts([&b"bellwether seal key id"[..], key.expose_secret()]);
        let id = digest.as_bytes().first_chunk().copied().expect("a digest is longer than a key id");
        let derived = Digest::of_parts([&b"bellwether marks of values"[..], key.expose_secret()]);
        let marks = hmac::Key::new(hmac::HMAC_SHA256, derived.as_bytes());
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.expose_secret()).expect("the key has AES-256's length");
        Self { key, id: KeyId(id), marks }
    }
}

/// What the tag covers besides the plaintext. All parts but the last have one length, so no two inputs meet.
fn bound(id: KeyId, purpose: &str) -> Vec<u8> {
    [&[VERSION][..], &id.0, purpose.as_bytes()].concat()
}

fn decode_key(digits: &SecretString, key: &mut SecretBox<[u8; KEY_LEN]>) -> Option<()> {
    use secrecy::ExposeSecretMut as _;
    hex::decode_to_slice(digits.expose_secret().trim(), key.expose_secret_mut()).ok()
}

fn read_key(path: &Path) -> io::Result<SecretString> {
    fs::read_to_string(path).map(SecretString::from)
}

/// A Secret mounted in Kubernetes is often readable by the pod's group, so only "everybody" is worth a word.
fn warn_if_world_may_read(path: &Path) {
    if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0) {
        tracing::warn!(path = %path.display(), "everybody on this machine may read the seal key; give it mode 0600");
    }
}

/// Written under another name, synced, and linked: a crash leaves no half key, and the first of two hubs wins.
fn create_key(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unfinished = folder.join(format!(".seal-key-{}", hex::encode(random::<8>())));
    let written = write_key(&unfinished).and_then(|()| match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&unfinished);
    written.and(removed)?;
    // Without this, the name may be gone after a power cut while rows sealed with the key are there.
    File::open(folder)?.sync_all()
}

fn write_key(path: &Path) -> io::Result<()> {
    let mut key = random::<KEY_LEN>();
    let mut digits = hex::encode(key);
    key.zeroize();
    digits.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The mode given at creation passes through the umask; a key that its owner cannot read again helps nobody.
    file.set_permissions(Permissions::from_mode(0o600))?;
    let written = file.write_all(digits.as_bytes()).and_then(|()| file.sync_all());
    digits.zeroize();
    written
}

/// A new token for a person or an agent: 256 random bits behind a prefix that tells what it is for, and that lets
/// scanners find tokens that were pushed to a repository.
pub(crate) fn random_token(prefix: &str) -> SecretString {
    let mut bytes = random::<32>();
    let token = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes));
    bytes.zeroize();
    token.into()
}

/// What is kept of a token. It holds 256 random bits, so neither salt nor a slow hash would add anything, and a lookup
/// by digest tells nobody by its timing how much of a guess was right.
pub(crate) fn hash_token(token: &str) -> Digest {
    Digest::of(token.as_bytes())
}

/// What a body that comes in parts is signed with.
pub(crate) struct HmacSha256(hmac::Context);

impl HmacSha256 {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    #[cfg(test)]
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.sign().as_ref().to_vec()
    }

    /// Whether one of these is the signature. Takes as long for a nearly right one as for a wrong one.
    pub(crate) fn fits(self, signatures: &[[u8; 32]]) -> bool {
        let signature = self.0.sign();
        signatures.iter().fold(false, |fits, one| fits | bool::from(signature.as_ref().ct_eq(one)))
    }
}

/// Whether a secret is what somebody says. Digests are compared, so that nothing of its length is told either.
pub(crate) fn is_secret(said: &SecretString, secret: &SecretString) -> bool {
    let [said, secret] = [said, secret].map(|text| hash_token(text.expose_secret()));
    said.as_bytes().ct_eq(secret.as_bytes()).into()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal_of(digit: &str) -> Seal {
        Seal::load(&SealKey::Value(digit.repeat(64).into())).expect("64 digits are a key")
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose() {
        let seal = seal_of("a");

        let sealed = seal.seal("repo/1/token", b"hunter2");

        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(seal.open("repo/1/token", &sealed).expect("opens").expose_secret(), b"hunter2");
    }

    #[test]
    fn nothing_sealed_for_one_purpose_opens_for_another() {
        let seal = seal_of("a");
        let sealed = seal.seal("repo/1/token", b"hunter2");

        let opened = seal.open("repo/2/token", &sealed);

        assert!(matches!(opened, Err(SealError::Altered { .. })), "{opened:?}");
    }

    #[test]
    fn a_mark_tells_equal_values_and_only_under_its_key() {
        let (value, other) = (Digest::of(b"hunter2"), Digest::of(b"hunter3"));

        assert_eq!(seal_of("a").mark(value), seal_of("a").mark(value));
        assert_ne!(seal_of("a").mark(value), seal_of("a").mark(other));
        assert_ne!(seal_of("a").mark(value), seal_of("b").mark(value));
    }

    #[test]
    fn the_same_secret_sealed_twice_looks_different() {
        let seal = seal_of("a");

        assert_ne!(seal.seal("p", b"x"), seal.seal("p", b"x"));
    }

    #[test]
    fn another_key_is_refused_and_both_keys_are_named() {
        let (first, second) = (seal_of("a"), seal_of("b"));
        let sealed = first.seal("ca/root", b"key");

        let error = second.open("ca/root", &sealed).expect_err("another key");

        let text = error.to_string();
        assert!(text.contains(&first.key_id().to_string()) && text.contains(&second.key_id().to_string()), "{text}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn no_byte_can_be_changed_or_cut_off() {
        let seal = seal_of("a");
        let sealed = seal.seal("p", b"secret");

        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.open("p", &changed).is_err(), "byte {at} changed");
            assert!(seal.open("p", &sealed[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_key_that_is_not_64_digits_is_refused_without_being_shown() {
        for digits in ["", "abc", &"g".repeat(64), &"a".repeat(66)] {
            let error = Seal::load(&SealKey::Value(digits.into())).expect_err("not a key");

            assert!(digits.is_empty() || !error.to_string().contains(digits), "{error}");
        }
    }

    #[test]
    fn a_created_key_is_found_again_and_is_its_owners_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");

        let first = Seal::load_or_create(&path).expect("made");
        let second = Seal::load_or_create(&path).expect("found");

        assert_eq!(first.key_id(), second.key_id());
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn hubs_that_start_at_once_agree_on_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("seal.key");

        let ids: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Seal::load_or_create(&path).map(|seal| seal.key_id()))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").expect("a key")).collect()
        });

        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn two_tokens_differ_and_each_carries_its_prefix() {
        let (first, second) = (random_token("bwj_"), random_token("bwj_"));

        assert_ne!(first.expose_secret(), second.expose_secret());
        assert!(first.expose_secret().starts_with("bwj_"));
        assert_eq!(first.expose_secret().len(), 4 + 43);
        assert_ne!(hash_token(first.expose_secret()), hash_token(second.expose_secret()));
    }

    #[test]
    fn only_the_right_signature_of_the_whole_body_is_accepted() {
        // The example of RFC 4231, section 4.3.
        let body = b"what do ya want for nothing?";
        let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

        let is_signed = |secret: &str, body: &[u8], signatures: &[&str]| {
            let bytes = |digits: &&str| hex::decode(digits).expect("digits").try_into().expect("64 of them");
            let signatures: Vec<[u8; 32]> = signatures.iter().map(bytes).collect();
            let mut hashed = HmacSha256::new(secret.as_bytes());
            body.chunks(5).for_each(|part| hashed.update(part));
            hashed.fits(&signatures)
        };

        let wrong = signature.replace('5', "6");
        assert!(is_signed("Jefe", body, &[signature]));
        assert!(is_signed("Jefe", body, &[&wrong, signature]), "one of them is it");
        assert!(!is_signed("Jefe", b"what do ya want for nothing", &[signature]));
        assert!(!is_signed("jefe", body, &[signature]));
        assert!(!is_signed("Jefe", body, &[&wrong]));
        assert!(!is_signed("Jefe", body, &[]));
    }

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let is = |said: &str| is_secret(&said.to_owned().into(), &"bww_abc".to_owned().into());

        assert!(is("bww_abc"));
        assert!(!["bww_abd", "bww_ab", "bww_abcd", "BWW_ABC", ""].into_iter().any(is));
    }
}
