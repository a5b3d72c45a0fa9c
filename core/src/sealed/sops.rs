//! What SOPS writes of a document beside its values: for whom it is sealed, by which rules, and the MAC.

use super::{Ordered, SealedError};

/// For whom one document is sealed: each key costs an exchange with each that a cluster holds, and fleets share keys.
const KEYS_MAX: usize = 100;

/// A data key sealed for one: age takes 400 bytes, and OpenPGP with a key of 16384 bits 3 KiB.
const KEY_BYTES_MAX: usize = 8 * 1024;

/// Of a pattern of names, which is compiled at each opening; people write less than a line.
const RULE_BYTES_MAX: usize = 1024;

/// Of a mac and other single values; they have a tenth.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// Services that hold keys, by their lists: an agent asks none.
const SERVICES: [(&str, &str); 5] = [
    ("kms", "AWS KMS"),
    ("gcp_kms", "GCP KMS"),
    ("azure_kv", "Azure Key Vault"),
    ("hc_vault", "Vault"),
    ("hckms", "Huawei Cloud KMS"),
];

/// What changes how a document is sealed, and is not supported: with groups, parts of a data key have to be put together; comments
/// do not reach a cluster. A `shamir_threshold` without groups is of no meaning.
const UNSUPPORTED: [&str; 3] = ["key_groups", "encrypted_comment_regex", "unencrypted_comment_regex"];

/// Which names SOPS leaves readable, with what is under them, where no rule is given.
const DEFAULT_SUFFIX: &str = "_unencrypted";

/// The `sops` key of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sops {
    /// Sealed itself.
    pub mac: String,
    /// As it is written: the MAC is sealed beside it.
    pub last_modified: String,
    pub age: Vec<AgeKey>,
    pub pgp: Vec<PgpKey>,
    /// As people call those services that hold a key for it, too.
    pub services: Vec<&'static str>,
    pub rule: Rule,
    /// What is readable is not covered by the MAC.
    pub mac_only_encrypted: bool,
}

/// The data key, for one age recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgeKey {
    pub recipient: String,
    /// Armored.
    pub sealed: String,
}

/// The data key, for one key of OpenPGP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgpKey {
    pub fingerprint: String,
    /// Armored.
    pub sealed: String,
}

/// Which values are sealed: all under a name that ends so or matches, or all but those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(String),
    EncryptedRegex(String),
}

impl Sops {
    pub(super) fn of(sops: &Ordered) -> Result<Self, SealedError> {
        let text = |field: &'static str| {
            let text = sops.field(field).and_then(Ordered::text);
            text.filter(|text| (1..=TEXT_BYTES_MAX).contains(&text.len())).ok_or(SealedError::Field(field))
        };
        let (mac, last_modified, version) =
            (text("mac")?.to_owned(), text("lastmodified")?.to_owned(), text("version")?);
        if !version.starts_with("3.") {
            return Err(SealedError::Version(version.chars().filter(|it| !it.is_control()).take(20).collect()));
        }
        let is_said = |field: &&&str| sops.field(field).is_some_and(|value| !is_empty(value));
        if let Some(field) = UNSUPPORTED.iter().find(is_said) {
            return Err(SealedError::Unsupported(field));
        }
        let services = SERVICES.iter().filter(|(field, _)| is_said(&field)).map(|(_, name)| *name).collect();
        let age = keys(sops, "age", "recipient")?.map(|(recipient, sealed)| AgeKey { recipient, sealed }).collect();
        let pgp = keys(sops, "pgp", "fp")?.map(|(fingerprint, sealed)| PgpKey { fingerprint, sealed }).collect();
        let rule = Rule::of(sops)?;
        let mac_only_encrypted = sops.field("mac_only_encrypted") == Some(&Ordered::Bool(true));
        let read = Self { mac, last_modified, age, pgp, services, rule, mac_only_encrypted };
        if read.age.is_empty() { Err(read.nobodys()) } else { Ok(read) }
    }

    /// No age key is among them.
    fn nobodys(&self) -> SealedError {
        let pgp = (!self.pgp.is_empty()).then_some("PGP");
        let others: Vec<_> = pgp.into_iter().chain(self.services.iter().copied()).collect();
        if others.is_empty() { SealedError::Field("age") } else { SealedError::OtherKeys(others.join(", ")) }
    }
}

impl Rule {
    /// As SOPS: there is one, or the suffix that it has without any.
    fn of(sops: &Ordered) -> Result<Self, SealedError> {
        let said = [
            rule(sops, "unencrypted_suffix")?.map(Self::UnencryptedSuffix),
            rule(sops, "encrypted_suffix")?.map(Self::EncryptedSuffix),
            rule(sops, "unencrypted_regex")?.map(Self::UnencryptedRegex),
            rule(sops, "encrypted_regex")?.map(Self::EncryptedRegex),
        ];
        let mut said = said.into_iter().flatten();
        match (said.next(), said.next()) {
            (_, Some(_)) => Err(SealedError::Rules),
            (one, None) => Ok(one.unwrap_or_else(|| Self::UnencryptedSuffix(DEFAULT_SUFFIX.to_owned()))),
        }
    }
}

fn is_empty(value: &Ordered) -> bool {
    match value {
        Ordered::Null => true,
        Ordered::List(items) => items.is_empty(),
        Ordered::Text(text) => text.is_empty(),
        Ordered::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// A list of whom the data key is sealed for, each with what is sealed.
fn keys(sops: &Ordered, list: &'static str, name: &str) -> Result<impl Iterator<Item = (String, String)>, SealedError> {
    let items = match sops.field(list) {
        None | Some(Ordered::Null) => &[][..],
        Some(Ordered::List(items)) => items,
        Some(_) => return Err(SealedError::Field(list)),
    };
    if items.len() > KEYS_MAX {
        return Err(SealedError::TooManyKeys { what: list, max: KEYS_MAX });
    }
    let keys = items.iter().map(|item| {
        let text = |field: &str, max| item.field(field).and_then(Ordered::text).filter(|text| text.len() <= max);
        let key = text(name, TEXT_BYTES_MAX).zip(text("enc", KEY_BYTES_MAX));
        key.map(|(name, sealed)| (name.to_owned(), sealed.to_owned())).ok_or(SealedError::Field(list))
    });
    Ok(keys.collect::<Result<Vec<_>, _>>()?.into_iter())
}

fn rule(sops: &Ordered, field: &'static str) -> Result<Option<String>, SealedError> {
    match sops.field(field) {
        None | Some(Ordered::Null) => Ok(None),
        Some(Ordered::Text(text)) if text.is_empty() => Ok(None),
        Some(Ordered::Text(text)) if text.len() <= RULE_BYTES_MAX => Ok(Some(text.clone())),
        Some(_) => Err(SealedError::Field(field)),
    }
}
