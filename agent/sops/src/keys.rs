//! A cluster's keys, and with them the key of one document.

use std::fmt;
use std::io::Read as _;

use age::armor::ArmoredReader;
use age::x25519::Identity;
use bellwether_core::sealed::{AGE_ENTRY, Sops};
use zeroize::Zeroizing;

use crate::OpenError;
use crate::cipher::{DATA_KEY_BYTES, DataKey};

/// Identities of a cluster: some for rotation, some for teams. Each is compared with each recipient of a document.
const IDENTITIES_MAX: usize = 100;

/// How many recipients an error names: a line of a report has room for few.
const NAMED_MAX: usize = 5;

/// What a cluster opens documents with.
#[derive(Default)]
pub struct Keys {
    /// Each with its recipient.
    age: Vec<(String, Identity)>,
}

impl Keys {
    /// Of the entries of a Secret: of those called `*.agekey`, each line that is an identity. Comments and whatever else is no X25519
    /// identity open nothing, and are passed over.
    pub fn read<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let files = entries.into_iter().filter(|(name, _)| name.ends_with(AGE_ENTRY));
        let texts = files.filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok());
        let identities = texts.flat_map(str::lines).filter_map(|line| line.trim().parse::<Identity>().ok());
        let age =
            identities.take(IDENTITIES_MAX).map(|identity| (identity.to_public().to_string(), identity)).collect();
        Self { age }
    }

    /// The public keys, for which documents can be sealed.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.age.iter().map(|(recipient, _)| recipient.as_str())
    }

    /// The key of the document, of the first recipient that is ours.
    pub(crate) fn data_key(&self, sops: &Sops) -> Result<DataKey, OpenError> {
        let mut is_ours = false;
        for key in &sops.age {
            let Some((_, identity)) = self.age.iter().find(|(recipient, _)| *recipient == key.recipient) else {
                continue;
            };
            is_ours = true;
            if let Some(data_key) = opened(&key.sealed, identity) {
                return Ok(data_key);
            }
        }
        if is_ours {
            return Err(OpenError::DataKey);
        }
        let mut recipients: Vec<_> = sops.age.iter().take(NAMED_MAX).map(|key| shown(&key.recipient)).collect();
        if let Some(more) = sops.age.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            recipients.push(format!("{more} more"));
        }
        Err(OpenError::NoKey { recipients })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.recipients()).finish()
    }
}

/// A document says it: a recipient of age has 62 characters.
fn shown(recipient: &str) -> String {
    recipient.chars().filter(char::is_ascii_alphanumeric).take(70).collect()
}

/// Of a file of age that holds a key and nothing more.
fn opened(sealed: &str, identity: &Identity) -> Option<DataKey> {
    let decryptor = age::Decryptor::new(ArmoredReader::new(sealed.as_bytes())).ok()?;
    let reader = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(DATA_KEY_BYTES + 1));
    let limit = u64::try_from(DATA_KEY_BYTES + 1).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(&mut bytes).ok()?;
    DataKey::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = include_str!("../tests/files/one.agekey");
    const TWO: &str = include_str!("../tests/files/two.agekey");

    #[test]
    fn identities_are_read_of_every_entry_that_is_called_so_with_comments_between() {
        let both = format!("{ONE}\n# more\nAGE-SECRET-KEY-1NONE\nAGE-PLUGIN-X-1QQQ\n{TWO}");
        let keys = Keys::read([("a.agekey", both.as_bytes()), ("b.txt", ONE.as_bytes()), ("c.agekey", &[0xff][..])]);

        let recipients: Vec<_> = keys.recipients().collect();
        assert_eq!(recipients.len(), 2);
        assert!(recipients.iter().all(|recipient| both.contains(recipient)), "as the comments say: {recipients:?}");
        assert!(!format!("{keys:?}").contains("SECRET"));
    }

    #[test]
    fn of_more_identities_than_a_cluster_has_the_first_count() {
        let many = ONE.repeat(IDENTITIES_MAX + 1);

        assert_eq!(Keys::read([("a.agekey", many.as_bytes())]).recipients().count(), IDENTITIES_MAX);
    }
}
