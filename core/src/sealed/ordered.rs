//! JSON in the order in which it was written: `serde_json` sorts what it reads, and SOPS' MAC goes by the order.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::SEALED_VALUE;

/// A value whose maps are as they were written, each key once. It may have been opened, so nothing of it is ever printed.
#[derive(Clone, PartialEq)]
pub enum Ordered {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// What a list or a map holds.
type Nested<'a> = Box<dyn Iterator<Item = (String, &'a Ordered)> + 'a>;

impl Ordered {
    /// `None` for what is no text.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The value under a key; `None` where it lacks it, or is no map.
    pub fn field(&self, key: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Without its order.
    pub fn into_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(flag),
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::String(text),
            Self::List(items) => Value::Array(items.into_iter().map(Self::into_json).collect()),
            Self::Map(fields) => {
                Value::Object(fields.into_iter().map(|(key, value)| (key, value.into_json())).collect())
            }
        }
    }

    /// How many values of it SOPS sealed.
    pub(super) fn count_sealed(&self) -> usize {
        match self {
            Self::Text(text) => usize::from(text.starts_with(SEALED_VALUE)),
            nested => nested.nested().map(|(_, value)| value.count_sealed()).sum(),
        }
    }

    /// Where the first of them is.
    pub(super) fn first_sealed(&self) -> Option<String> {
        self.nested().find_map(|(name, value)| match value {
            Self::Text(text) => text.starts_with(SEALED_VALUE).then_some(name),
            nested => nested.first_sealed().map(|path| format!("{name}.{path}")),
        })
    }

    /// Of a scalar none.
    fn nested(&self) -> Nested<'_> {
        match self {
            Self::List(items) => Box::new(items.iter().enumerate().map(|(at, item)| (at.to_string(), item))),
            Self::Map(fields) => Box::new(fields.iter().map(|(name, value)| (name.clone(), value))),
            _ => Box::new(std::iter::empty()),
        }
    }
}

impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ordered(…)")
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Ordered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Ordered, E> {
        Ok(Ordered::Null)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Ordered, E> {
        Ok(Ordered::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ordered, E> {
        Ok(Ordered::Number(number.into()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Ordered, E> {
        Ok(Ordered::Number(number.into()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Ordered, E> {
        Number::from_f64(number).map(Ordered::Number).ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ordered, E> {
        Ok(Ordered::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Ordered::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let (mut fields, mut names) = (Vec::new(), std::collections::HashSet::new());
        while let Some((name, value)) = access.next_entry::<String, Ordered>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom("a key is repeated"));
            }
            fields.push((name, value));
        }
        Ok(Ordered::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_in_the_same_order() {
        let text = r#"{"z":1,"a":[true,null,-2,1.5,"x\n",18446744073709551615],"m":{"y":"","b":{}}}"#;
        let value: Ordered = serde_json::from_str(text).expect("is JSON");

        assert_eq!(serde_json::to_string(&value).expect("is written"), text);
        assert!(!format!("{value:?}").contains("18446744073709551615"));
        assert!(serde_json::from_str::<Ordered>(r#"{"a":1,"a":1}"#).is_err());
    }
}
