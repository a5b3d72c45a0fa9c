//! The index of a Helm repository: which versions of a chart there are.
//!
//! An index may have 30 MB and more, of thousands of charts. It is read as it arrives, and nothing is kept but the versions
//! of one chart.

use std::io::{BufReader, Read};

use granit_parser::{Event, Parser};

/// The largest that is known has half of it.
pub(super) const INDEX_BYTES_MAX: u64 = 64 << 20;

/// A chart that is released every hour has as many in a year.
const VERSIONS_MAX: usize = 10_000;

/// Names looked through for a suggestion.
const NAMES_MAX: usize = 10_000;

/// An index is four levels deep.
const DEPTH_MAX: usize = 64;

/// One version of a chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    /// Such as `1.2.3`.
    pub(super) name: String,
    /// Of the archive: SHA-256, without a word before it; not every repository says it.
    pub(super) digest: Option<String>,
    pub(super) created: Option<String>,
    /// Relative to the index, or anywhere.
    pub(super) url: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum IndexError {
    NotAnIndex,
    /// With the charts that there are.
    NoSuchChart(Vec<String>),
}

pub(super) fn read_versions(index: impl Read, chart: &str) -> Result<Vec<Version>, IndexError> {
    let characters = Characters { from: BufReader::with_capacity(64 << 10, index), held: Vec::new(), at: 0 };
    Reader { parser: Parser::new_from_iter(characters), names: Vec::new() }.read(chart)
}

struct Reader<P> {
    parser: P,
    names: Vec<String>,
}

impl<'input, P, S, E> Reader<P>
where
    P: Iterator<Item = Result<(Event<'input>, S), E>>,
{
    fn read(mut self, chart: &str) -> Result<Vec<Version>, IndexError> {
        loop {
            match self.next()? {
                Event::MappingStart(..) => break,
                Event::StreamStart | Event::DocumentStart(..) => {}
                _ => return Err(IndexError::NotAnIndex),
            }
        }
        while let Some(key) = self.next_key()? {
            if key != "entries" {
                self.skip_node()?;
                continue;
            }
            let Event::MappingStart(..) = self.next()? else { return Err(IndexError::NotAnIndex) };
            while let Some(name) = self.next_key()? {
                if name == chart {
                    return self.read_list();
                }
                if self.names.len() < NAMES_MAX {
                    self.names.push(name);
                }
                self.skip_node()?;
            }
            return Err(IndexError::NoSuchChart(self.names));
        }
        Err(IndexError::NotAnIndex)
    }

    fn read_list(&mut self) -> Result<Vec<Version>, IndexError> {
        let Event::SequenceStart(..) = self.next()? else { return Err(IndexError::NotAnIndex) };
        let mut versions = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(versions),
                Event::MappingStart(..) if versions.len() < VERSIONS_MAX => versions.push(self.read_version()?),
                _ => return Err(IndexError::NotAnIndex),
            }
        }
    }

    fn read_version(&mut self) -> Result<Version, IndexError> {
        let mut version = Version::default();
        while let Some(key) = self.next_key()? {
            match key.as_str() {
                "version" => version.name = self.next_text()?.unwrap_or_default(),
                "digest" => version.digest = self.next_text()?,
                "created" => version.created = self.next_text()?,
                "urls" => version.url = self.read_first_url()?,
                _ => self.skip_node()?,
            }
        }
        Ok(version)
    }

    /// The others lead to the same.
    fn read_first_url(&mut self) -> Result<Option<String>, IndexError> {
        let first = self.next()?;
        if !matches!(first, Event::SequenceStart(..)) {
            self.skip_rest_of(&first)?;
            return Ok(None);
        }
        let mut url = None;
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(url),
                Event::Scalar(text, ..) => url = url.or_else(|| Some(text.into_owned())),
                other => self.skip_rest_of(&other)?,
            }
        }
    }

    /// `None`: the map ends.
    fn next_key(&mut self) -> Result<Option<String>, IndexError> {
        match self.next()? {
            Event::MappingEnd => Ok(None),
            Event::Scalar(text, ..) => Ok(Some(text.into_owned())),
            _ => Err(IndexError::NotAnIndex),
        }
    }

    /// `None`: it is no text.
    fn next_text(&mut self) -> Result<Option<String>, IndexError> {
        match self.next()? {
            Event::Scalar(text, ..) => Ok(Some(text.into_owned())),
            other => self.skip_rest_of(&other).map(|()| None),
        }
    }

    fn skip_node(&mut self) -> Result<(), IndexError> {
        let first = self.next()?;
        self.skip_rest_of(&first)
    }

    fn skip_rest_of(&mut self, first: &Event<'_>) -> Result<(), IndexError> {
        if !matches!(first, Event::MappingStart(..) | Event::SequenceStart(..)) {
            return Ok(());
        }
        let mut depth = 1;
        while depth > 0 {
            match self.next()? {
                Event::MappingStart(..) | Event::SequenceStart(..) if depth < DEPTH_MAX => depth += 1,
                Event::MappingStart(..) | Event::SequenceStart(..) => return Err(IndexError::NotAnIndex),
                Event::MappingEnd | Event::SequenceEnd => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Event<'input>, IndexError> {
        loop {
            match self.parser.next() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((Event::StreamEnd | Event::DocumentEnd, _)) | Err(_)) | None => {
                    return Err(IndexError::NotAnIndex);
                }
                Some(Ok((event, _))) => return Ok(event),
            }
        }
    }
}

/// The characters of an answer. What ends in the middle ends the index, and why is known to whoever reads it.
struct Characters<R> {
    from: BufReader<R>,
    held: Vec<u8>,
    at: usize,
}

impl<R: Read> Iterator for Characters<R> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let mut bytes = [0; 4];
        for length in 1..=4 {
            bytes[length - 1] = self.next_byte()?;
            match std::str::from_utf8(&bytes[..length]) {
                Ok(text) => return text.chars().next(),
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Some(char::REPLACEMENT_CHARACTER),
            }
        }
        Some(char::REPLACEMENT_CHARACTER)
    }
}

impl<R: Read> Characters<R> {
    fn next_byte(&mut self) -> Option<u8> {
        if self.at == self.held.len() {
            self.held.resize(16 << 10, 0);
            let read = self.from.read(&mut self.held).ok()?;
            self.held.truncate(read);
            self.at = 0;
        }
        let byte = self.held.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
apiVersion: v1
entries:
  postgresql:
    - {version: 15.0.0, urls: [x]}
  # A comment.
  shop:
    - apiVersion: v2
      created: \"2026-03-01T10:00:00Z\"
      dependencies:
        - name: postgresql
          version: 15.x.x
      digest: 0a0b
      keywords: [a, b]
      name: shop
      urls:
        - charts/shop-1.2.0.tgz
        - https://elsewhere.example.com/shop-1.2.0.tgz
      version: 1.2.0
    - version: \"1.1.0\"
      urls: [shop-1.1.0.tgz]
generated: now
";

    #[test]
    fn the_versions_of_one_chart_are_read_and_nothing_else() {
        let versions = read_versions(INDEX.as_bytes(), "shop").expect("it is there");

        let of = |at: usize| (&*versions[at].name, versions[at].digest.as_deref(), versions[at].url.as_deref());
        assert_eq!(of(0), ("1.2.0", Some("0a0b"), Some("charts/shop-1.2.0.tgz")));
        assert_eq!(of(1), ("1.1.0", None, Some("shop-1.1.0.tgz")));
        assert_eq!(versions.len(), 2, "a dependency is none");
        let json = r#"{"apiVersion":"v1","entries":{"shop":[{"version":"1.0.0","urls":["a.tgz"]}]}}"#;
        assert_eq!(read_versions(json.as_bytes(), "shop").expect("it is there").len(), 1);
    }

    #[test]
    fn what_is_no_index_or_has_no_such_chart_is_told_apart() {
        let names = ["postgresql", "shop"].map(str::to_owned).to_vec();
        assert_eq!(read_versions(INDEX.as_bytes(), "shpo"), Err(IndexError::NoSuchChart(names)));
        let deep = format!("entries: {}", "[".repeat(10_000));
        for text in [
            "",
            "<html>",
            "a: 1",
            "entries: []",
            "entries: {shop: 1}",
            "entries: {shop: [1]}",
            "[",
            "entries:\n  shop",
            &deep,
        ] {
            assert_eq!(read_versions(text.as_bytes(), "shop"), Err(IndexError::NotAnIndex), "{text:.40}");
        }
        assert!(read_versions(&[0xff, 0xfe, 0x00][..], "shop").is_err());
    }

    #[test]
    fn an_index_of_many_charts_is_read_without_being_held() {
        let mut index = b"entries:\n".to_vec();
        for number in 0..20_000 {
            let entry =
                format!("  chart-{number}:\n  - {{version: 1.0.0, description: {}, urls: [a.tgz]}}\n", "x".repeat(200));
            index.extend_from_slice(entry.as_bytes());
        }
        assert!(index.len() > 4 << 20);
        assert_eq!(read_versions(&index[..], "chart-19999").expect("it is there").len(), 1);
    }
}
