//! All values of a document in their order: each that is sealed is opened, and all that counts goes into the MAC.

use bellwether_core::sealed::{Ordered, Rules, Sealed};
use regex::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha512};

use crate::OpenError;
use crate::cipher::{DataKey, counted, is_comment};

/// A compiled pattern's memory: of names in Secrets they have a few KiB.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// What SOPS begins the MAC with where only what is sealed counts: one of them is then never taken for one of all.
const ONLY_SEALED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// The document with its values, if nothing of it was changed since it was sealed.
pub(crate) fn open(sealed: Sealed, key: &DataKey) -> Result<Vec<(String, Ordered)>, OpenError> {
    let Sealed { fields, sops } = sealed;
    let mut opening = Opening {
        key,
        names: Names::of(&sops.rules)?,
        only_sealed: sops.mac_only_encrypted,
        mac: Sha512::new(),
        path: Vec::new(),
    };
    if sops.mac_only_encrypted {
        opening.mac.update(ONLY_SEALED);
    }
    let opened = opening.fields(fields, Matched::default())?;
    let mac = key.open(&sops.mac, &sops.last_modified).ok_or(OpenError::Mac)?;
    if *mac.bytes != hex::encode_upper(opening.mac.finalize()).as_bytes() {
        return Err(OpenError::Mac);
    }
    Ok(opened)
}

struct Opening<'k> {
    key: &'k DataKey,
    names: Names,
    only_sealed: bool,
    mac: Sha512,
    /// Without places in lists: so SOPS binds values to them.
    path: Vec<String>,
}

impl Opening<'_> {
    fn fields(&mut self, fields: Vec<(String, Ordered)>, around: Matched) -> Result<Vec<(String, Ordered)>, OpenError> {
        let opened = fields.into_iter().map(|(name, value)| {
            let matched = around.or(self.names.matched(&name));
            self.path.push(name.clone());
            let value = self.value(value, matched)?;
            self.path.pop();
            Ok((name, value))
        });
        opened.collect()
    }

    fn value(&mut self, value: Ordered, matched: Matched) -> Result<Ordered, OpenError> {
        match value {
            Ordered::Map(fields) => self.fields(fields, matched).map(Ordered::Map),
            Ordered::List(items) => {
                // SOPS writes a sealed comment in a list as if it were one of its values.
                let values = items.into_iter().filter(|item| !item.text().is_some_and(is_comment));
                let items: Result<Vec<_>, _> = values.map(|item| self.value(item, matched)).collect();
                items.map(Ordered::List)
            }
            Ordered::Null => Ok(Ordered::Null),
            scalar if self.names.seal(matched) => {
                let place = format!("{}:", self.path.join(":"));
                let plain = scalar.text().and_then(|sealed| self.key.open(sealed, &place));
                let plain = plain.ok_or_else(|| OpenError::Value(self.path.join(".")))?;
                self.mac.update(&*plain.bytes);
                Ok(plain.value)
            }
            scalar => {
                if !self.only_sealed {
                    self.mac.update(&*counted(&scalar));
                }
                Ok(scalar)
            }
        }
    }
}

/// Which rules a name of a path, or one before it, meets.
#[expect(clippy::struct_excessive_bools, reason = "SOPS has four rules, and a name may meet each")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Matched {
    unencrypted_suffix: bool,
    encrypted_suffix: bool,
    unencrypted_regex: bool,
    encrypted_regex: bool,
}

impl Matched {
    fn or(self, other: Self) -> Self {
        Self {
            unencrypted_suffix: self.unencrypted_suffix || other.unencrypted_suffix,
            encrypted_suffix: self.encrypted_suffix || other.encrypted_suffix,
            unencrypted_regex: self.unencrypted_regex || other.unencrypted_regex,
            encrypted_regex: self.encrypted_regex || other.encrypted_regex,
        }
    }
}

/// The rules of a document. SOPS writes one; of several, the last of this order that says something counts.
struct Names {
    unencrypted_suffix: Option<String>,
    encrypted_suffix: Option<String>,
    unencrypted_regex: Option<Regex>,
    encrypted_regex: Option<Regex>,
}

impl Names {
    fn of(rules: &Rules) -> Result<Self, OpenError> {
        let suffix = |text: &String| (!text.is_empty()).then(|| text.clone());
        let pattern = |text: &str, name: &'static str| {
            let compiled = || RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
            (!text.is_empty()).then(compiled).transpose().map_err(|_| OpenError::Rule(name))
        };
        Ok(Self {
            unencrypted_suffix: suffix(&rules.unencrypted_suffix),
            encrypted_suffix: suffix(&rules.encrypted_suffix),
            unencrypted_regex: pattern(&rules.unencrypted_regex, "unencrypted_regex")?,
            encrypted_regex: pattern(&rules.encrypted_regex, "encrypted_regex")?,
        })
    }

    fn matched(&self, name: &str) -> Matched {
        let ends = |suffix: &Option<String>| suffix.as_ref().is_some_and(|suffix| name.ends_with(suffix));
        let has = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
        Matched {
            unencrypted_suffix: ends(&self.unencrypted_suffix),
            encrypted_suffix: ends(&self.encrypted_suffix),
            unencrypted_regex: has(&self.unencrypted_regex),
            encrypted_regex: has(&self.encrypted_regex),
        }
    }

    /// Whether values under such a path are sealed.
    fn seal(&self, matched: Matched) -> bool {
        let mut seals = !matched.unencrypted_suffix;
        if self.encrypted_suffix.is_some() {
            seals = matched.encrypted_suffix;
        }
        seals &= !matched.unencrypted_regex;
        if self.encrypted_regex.is_some() {
            seals = matched.encrypted_regex;
        }
        seals
    }
}
