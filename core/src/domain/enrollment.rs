//! Join tokens: for which key one is good, and for how long.
//!
//! A token is for one cluster and binds to the first key that uses it. That key may come again until its certificate was used,
//! because an answer may be lost; any other key is refused.

use jiff::Timestamp;

use crate::Digest;

/// A join token, as it is found by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// From then on it is good for nothing.
    pub expires_at: Timestamp,
    /// The key that used it first; `None`: none has.
    pub first_key: Option<Digest>,
    /// The certificate that the first key got has opened a session.
    pub spent: bool,
}

/// Why no certificate is issued for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the join token is not known")]
    Unknown,
    #[error("the cluster is revoked")]
    Revoked,
    #[error("the join token was used by another agent")]
    Used,
    #[error("the join token has expired")]
    Expired,
}

/// Whether this key may have a certificate for the token that it shows, of a cluster that may be revoked.
pub fn check(token: Option<&JoinToken>, is_revoked: bool, key: Digest, now: Timestamp) -> Result<(), Refused> {
    let token = token.ok_or(Refused::Unknown)?;
    if is_revoked {
        return Err(Refused::Revoked);
    }
    if token.first_key.is_some_and(|first| first != key) || token.spent {
        return Err(Refused::Used);
    }
    if token.expires_at <= now {
        return Err(Refused::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn a_token_is_good_for_its_first_key_until_that_has_used_its_certificate() {
        let (mine, other) = (Digest::of(b"mine"), Digest::of(b"other"));
        let fresh = JoinToken { expires_at: Timestamp::MAX, first_key: None, spent: false };
        let bound = JoinToken { first_key: Some(mine), ..fresh.clone() };
        let spent = JoinToken { spent: true, ..bound.clone() };
        let late = JoinToken { expires_at: NOW, ..bound.clone() };
        let asked = |token: &JoinToken, key| check(Some(token), false, key, NOW);

        assert_eq!([asked(&fresh, mine), asked(&bound, mine)], [Ok(()), Ok(())]);
        assert_eq!([asked(&bound, other), asked(&spent, mine)], [Err(Refused::Used), Err(Refused::Used)]);
        assert_eq!(asked(&late, mine), Err(Refused::Expired));
        assert_eq!(check(Some(&fresh), true, mine, NOW), Err(Refused::Revoked));
        assert_eq!(check(None, false, mine, NOW), Err(Refused::Unknown));
    }
}
