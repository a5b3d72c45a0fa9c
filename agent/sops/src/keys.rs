//! A cluster's keys, and with them the key of one document.

use std::fmt;
use std::io::Read as _;

use age::armor::ArmoredReader;
use age::x25519::Identity;
use bellwether_core::sealed::{AGE_ENTRY, NAMESPACE_END, Sops};
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
    age: Vec<Key>,
    held: Held,
}

struct Key {
    recipient: String,
    identity: Identity,
    /// In which alone it opens.
    namespace: Option<String>,
}

impl Key {
    fn opens_in(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|only| only == namespace)
    }
}

/// How much of a keyring is what it seems to be: whoever put the wrong thing there has to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub entries: usize,
    pub identities: usize,
    /// Lines that are neither a comment nor an identity, or are one too many.
    pub unread: usize,
    /// Identities that open in other namespaces only.
    pub elsewhere: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, identities, unread, elsewhere } = self;
        write!(f, "{entries} entries `*{AGE_ENTRY}` with {identities} identities")?;
        if *elsewhere > 0 {
            write!(f, ", of which {elsewhere} are for other namespaces")?;
        }
        if *unread > 0 {
            write!(f, "; {unread} lines of them are no X25519 identity, or are over {IDENTITIES_MAX}")?;
        }
        Ok(())
    }
}

impl Keys {
    /// Of the entries of a Secret: of those called `*.agekey`, each line that is an identity. What is before an underscore is the
    /// namespace that it opens in. Comments are passed over, and what else is no X25519 identity is counted.
    pub fn read<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut keys = Self::default();
        for (name, bytes) in entries {
            let Some(name) = name.strip_suffix(AGE_ENTRY) else { continue };
            keys.held.entries += 1;
            let namespace = name.split_once(NAMESPACE_END).map(|(namespace, _)| namespace);
            match std::str::from_utf8(bytes) {
                Ok(text) => text.lines().for_each(|line| keys.read_line(line.trim(), namespace)),
                Err(_) => keys.held.unread += 1,
            }
        }
        keys
    }

    fn read_line(&mut self, line: &str, namespace: Option<&str>) {
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        match line.parse::<Identity>() {
            Ok(identity) if self.age.len() < IDENTITIES_MAX => {
                let (recipient, namespace) = (identity.to_public().to_string(), namespace.map(str::to_owned));
                self.age.push(Key { recipient, identity, namespace });
                self.held.identities += 1;
            }
            _ => self.held.unread += 1,
        }
    }

    /// The public keys, for which documents can be sealed.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.age.iter().map(|key| key.recipient.as_str())
    }

    /// The key of the document, of the first recipient that is ours and opens in the namespace.
    pub(crate) fn data_key(&self, sops: &Sops, namespace: &str) -> Result<DataKey, OpenError> {
        let mut is_ours = false;
        for key in &sops.age {
            let is_it = |ours: &&Key| ours.recipient == key.recipient && ours.opens_in(namespace);
            let Some(ours) = self.age.iter().find(is_it) else { continue };
            is_ours = true;
            if let Some(data_key) = opened(&key.sealed, &ours.identity) {
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
        let elsewhere = self.age.iter().filter(|key| !key.opens_in(namespace)).count();
        let held = Held { elsewhere, ..self.held };
        Err(OpenError::NoKey { recipients, namespace: namespace.to_owned(), held })
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
        let told = keys.held.to_string();
        assert!(told.starts_with("2 entries `*.agekey` with 2 identities; 3 lines of them are no"), "{told}");
    }

    #[test]
    fn what_is_before_an_underscore_is_the_namespace_that_an_identity_opens_in() {
        let keys = Keys::read([("shop_eu.agekey", ONE.as_bytes()), ("_x.agekey", ONE.as_bytes())]);
        let everywhere = Keys::read([("shop-eu.agekey", ONE.as_bytes())]);

        let opens = |keys: &Keys, namespace| keys.age.iter().any(|key| key.opens_in(namespace));
        assert!(opens(&keys, "shop") && !opens(&keys, "evil") && !opens(&keys, "shop-2"));
        assert!(opens(&everywhere, "shop") && opens(&everywhere, "evil"));
    }

    #[test]
    fn of_more_identities_than_a_cluster_has_the_first_count() {
        let many = ONE.repeat(IDENTITIES_MAX + 1);

        assert_eq!(Keys::read([("a.agekey", many.as_bytes())]).recipients().count(), IDENTITIES_MAX);
    }
}
