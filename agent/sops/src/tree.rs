//! All values of a document in their order: each that is sealed is opened, and all that counts goes into the MAC.

use bellwether_core::sealed::{Ordered, Rule, Sealed};
use regex::{Regex, RegexBuilder};
use sha2::{Digest as _, Sha512};

use crate::OpenError;
use crate::cipher::{DataKey, counted, is_comment};

/// A compiled pattern's memory: of names in Secrets they have a few KiB.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Of names that are compared with a pattern, of which each byte may cost its size: those of [`SEALED_VALUES_MAX`] values in a Secret
/// have fifty each. What is under a name that matches is not compared.
///
/// [`SEALED_VALUES_MAX`]: bellwether_core::sealed::SEALED_VALUES_MAX
const NAMES_BYTES_MAX: usize = 256 * 1024;

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
        names: Names::of(&sops.rule)?,
        names_left: NAMES_BYTES_MAX,
        only_sealed: sops.mac_only_encrypted,
        mac: Sha512::new(),
        path: Vec::new(),
    };
    if sops.mac_only_encrypted {
        opening.mac.update(ONLY_SEALED);
    }
    let opened = opening.fields(fields, false)?;
    let mac = key.open(&sops.mac, &sops.last_modified).ok_or(OpenError::Mac)?;
    if *mac.bytes != hex::encode_upper(opening.mac.finalize()).as_bytes() {
        return Err(OpenError::Mac);
    }
    Ok(opened)
}

struct Opening<'k> {
    key: &'k DataKey,
    names: Names,
    names_left: usize,
    only_sealed: bool,
    mac: Sha512,
    /// Without places in lists: so SOPS binds values to them.
    path: Vec<String>,
}

impl Opening<'_> {
    fn fields(&mut self, fields: Vec<(String, Ordered)>, around: bool) -> Result<Vec<(String, Ordered)>, OpenError> {
        let opened = fields.into_iter().map(|(name, value)| {
            let matched = around || self.names.matches(&name, &mut self.names_left)?;
            self.path.push(name.clone());
            let value = self.value(value, matched)?;
            self.path.pop();
            Ok((name, value))
        });
        opened.collect()
    }

    fn value(&mut self, value: Ordered, matched: bool) -> Result<Ordered, OpenError> {
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

/// The rule of a document.
enum Names {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(Regex),
    EncryptedRegex(Regex),
}

impl Names {
    fn of(rule: &Rule) -> Result<Self, OpenError> {
        Ok(match rule {
            Rule::UnencryptedSuffix(suffix) => Self::UnencryptedSuffix(suffix.clone()),
            Rule::EncryptedSuffix(suffix) => Self::EncryptedSuffix(suffix.clone()),
            Rule::UnencryptedRegex(text) => Self::UnencryptedRegex(pattern(text, "unencrypted_regex")?),
            Rule::EncryptedRegex(text) => Self::EncryptedRegex(pattern(text, "encrypted_regex")?),
        })
    }

    /// Whether the rule is about this name, and so about all under it. `budget` is how many bytes may still be compared with a pattern.
    fn matches(&self, name: &str, budget: &mut usize) -> Result<bool, OpenError> {
        let (rule, pattern) = match self {
            Self::UnencryptedSuffix(suffix) | Self::EncryptedSuffix(suffix) => return Ok(name.ends_with(suffix)),
            Self::UnencryptedRegex(pattern) => ("unencrypted_regex", pattern),
            Self::EncryptedRegex(pattern) => ("encrypted_regex", pattern),
        };
        *budget = budget.checked_sub(name.len()).ok_or(OpenError::Names(rule))?;
        Ok(pattern.is_match(name))
    }

    /// Whether values are sealed that the rule is about, or is not.
    fn seal(&self, matched: bool) -> bool {
        matched == matches!(self, Self::EncryptedSuffix(_) | Self::EncryptedRegex(_))
    }
}

fn pattern(text: &str, rule: &'static str) -> Result<Regex, OpenError> {
    RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build().map_err(|_| OpenError::Rule(rule))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Keys;

    /// What sops seals is more than a Secret may hold, so that it is opened here, before that is asked.
    #[test]
    fn values_of_every_type_keep_their_type_and_their_place() {
        let document = serde_json::from_str(include_str!("../tests/files/types-sealed.json")).expect("is JSON");
        let Ordered::Map(mut fields) = document else { panic!("is a map") };
        let at = fields.iter().position(|(name, _)| name == "nested").expect("has it");
        let nested = fields.remove(at);
        let mut sealed = Sealed::of(Ordered::Map(fields)).expect("is a Secret without that");
        sealed.fields.insert(at, nested);
        let keys = Keys::read([("a.agekey", &include_bytes!("../tests/files/one.agekey")[..])]);
        let key = keys.data_key(&sealed.sops, "any").expect("there is one");

        let opened = open(sealed, &key).expect("it opens");

        let list = json!([1, -2.5, true, "text", {"deep": [false, 1.5e+21, null]}]);
        let nested = json!({"list": list, "empty": "", "emptyList": [], "emptyMap": {}, "big": 9_007_199_254_740_993_i64,
            "text": "ünïcode: \"quoted\" \u{1F600}\ttab"});
        let opened = Ordered::Map(opened).into_json();
        assert_eq!((&opened["nested"], &opened["stringData"]), (&nested, &json!({"a": "b"})));
    }

    #[test]
    fn names_are_compared_with_a_pattern_up_to_a_bound_and_those_below_a_match_are_not() {
        let names = Names::of(&Rule::EncryptedRegex("^data$".to_owned())).expect("is one");
        let mut left = 8;

        assert_eq!(names.matches("data", &mut left), Ok(true));
        assert_eq!(names.matches("date", &mut left), Ok(false));
        assert_eq!(names.matches("x", &mut left), Err(OpenError::Names("encrypted_regex")));
    }
}
