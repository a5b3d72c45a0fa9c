//! One value: AES-256-GCM with a nonce of 32 bytes, bound to its place.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::sealed::Ordered;
use serde_json::Number;
use zeroize::Zeroizing;

pub(crate) const DATA_KEY_BYTES: usize = 32;

/// The key of one document.
pub(crate) struct DataKey(AesGcm<Aes256, U32>);

/// What was sealed, and as what the MAC counts it.
pub(crate) struct Plain {
    pub(crate) value: Ordered,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl DataKey {
    /// `None`: it is no key.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        AesGcm::new_from_slice(bytes).ok().map(Self)
    }

    /// `None`: it is no such value, or of another place or document.
    pub(crate) fn open(&self, sealed: &str, place: &str) -> Option<Plain> {
        // SOPS leaves it as it is.
        if sealed.is_empty() {
            return Some(Plain { value: Ordered::Text(String::new()), bytes: Zeroizing::default() });
        }
        let rest = sealed.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = rest.split_once(",iv:")?;
        let (nonce, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        let nonce: [u8; 32] = decoded(nonce)?.try_into().ok()?;
        let tag: [u8; 16] = decoded(tag)?.try_into().ok()?;
        let mut message = decoded(data)?;
        message.extend(tag);
        let payload = Payload { msg: &message, aad: place.as_bytes() };
        let bytes = Zeroizing::new(self.0.decrypt(&Nonce::<U32>::from(nonce), payload).ok()?);
        let value = typed(std::str::from_utf8(&bytes).ok()?, kind)?;
        Some(Plain { bytes: counted(&value), value })
    }
}

/// Which no MAC covers.
pub(crate) fn is_comment(sealed: &str) -> bool {
    sealed.starts_with("ENC[AES256_GCM,") && sealed.ends_with(",type:comment]")
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn typed(text: &str, kind: &str) -> Option<Ordered> {
    Some(match kind {
        "str" | "bytes" | "time" => Ordered::Text(text.to_owned()),
        "int" => Ordered::Number(text.parse::<i64>().ok()?.into()),
        "float" => Ordered::Number(Number::from_f64(text.parse().ok()?)?),
        "bool" => Ordered::Bool(match text {
            "True" | "true" => true,
            "False" | "false" => false,
            _ => return None,
        }),
        _ => return None,
    })
}

/// As SOPS' MAC has it: words of Python, and numbers without an exponent. Of what holds others nothing.
pub(crate) fn counted(value: &Ordered) -> Zeroizing<Vec<u8>> {
    let text = match value {
        Ordered::Text(text) => text.clone(),
        Ordered::Bool(true) => "True".to_owned(),
        Ordered::Bool(false) => "False".to_owned(),
        Ordered::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.to_string(),
            (None, Some(number)) => number.to_string(),
            (None, None) => String::new(),
        },
        Ordered::Null | Ordered::List(_) | Ordered::Map(_) => String::new(),
    };
    Zeroizing::new(text.into_bytes())
}
