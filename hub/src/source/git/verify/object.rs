//! What of a commit or a tag is signed, and its signature: Git's own rules for objects that SHA-1 names.

use gix::ObjectId;

/// A signature is some hundred bytes, a few thousand by several keys.
const SIGNATURE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Signed {
    pub(super) content: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Tag<'a> {
    /// The commit that it names.
    pub(super) target: ObjectId,
    pub(super) name: &'a [u8],
    pub(super) signed: Option<Signed>,
}

const HEADER: &[u8] = b"gpgsig ";
/// Headers that begin so are signatures over other names of the same objects, and no part of what is signed here.
const HEADERS: &[u8] = b"gpgsig";

/// `None`: it is not signed; or more than once, which Git does not write, and of which each reader takes another.
pub(super) fn read_commit(bytes: &[u8]) -> Option<Signed> {
    let (mut content, mut signature, mut signatures) = (Vec::with_capacity(bytes.len()), Vec::new(), 0);
    let (mut is_signature, mut is_other) = (false, false);
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        if line == b"\n" {
            // The message follows, whatever it looks like.
            content.extend_from_slice(line);
            lines.by_ref().for_each(|line| content.extend_from_slice(line));
            break;
        }
        if let Some(rest) = line.strip_prefix(b" ") {
            match (is_signature, is_other) {
                (true, _) => signature.extend_from_slice(rest),
                (false, true) => {}
                (false, false) => content.extend_from_slice(line),
            }
            continue;
        }
        is_signature = line.starts_with(HEADER);
        is_other = !is_signature && line.starts_with(HEADERS);
        if is_signature {
            signatures += 1;
            signature.extend_from_slice(&line[HEADER.len()..]);
        } else if !is_other {
            content.extend_from_slice(line);
        }
    }
    let is_one = signatures == 1 && signature.len() <= SIGNATURE_BYTES_MAX;
    is_one.then_some(Signed { content, signature })
}

/// `None`: it is not the tag of a commit.
pub(super) fn read_tag(bytes: &[u8]) -> Option<Tag<'_>> {
    let mut headers = bytes.split(|byte| *byte == b'\n');
    let target = ObjectId::from_hex(headers.next()?.strip_prefix(b"object ")?).ok()?;
    if headers.next()? != b"type commit" {
        return None;
    }
    let name = headers.next()?.strip_prefix(b"tag ")?;
    Some(Tag { target, name, signed: split_tag(bytes) })
}

/// The signature of a tag is its end, from the last line on that begins one.
fn split_tag(bytes: &[u8]) -> Option<Signed> {
    const BEGINS: [&[u8]; 2] = [super::openpgp::BEGIN_SIGNATURE.as_bytes(), super::ssh::BEGIN.as_bytes()];
    let (mut at, mut begin) = (0, None);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if BEGINS.iter().any(|one| line.starts_with(one)) {
            begin = Some(at);
        }
        at += line.len();
    }
    let (content, signature) = bytes.split_at(begin?);
    let is_one = signature.len() <= SIGNATURE_BYTES_MAX;
    is_one.then(|| Signed { content: content.to_vec(), signature: signature.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_the_commit_without_its_signatures() {
        let commit =
            b"tree 1\ngpgsig -----BEGIN\n a\n \n b\ngpgsig-sha256 x\n y\nencoding z\n more\n\ngpgsig no\n\n header\n";

        let signed = read_commit(commit).expect("it is signed");

        assert_eq!(signed.content, b"tree 1\nencoding z\n more\n\ngpgsig no\n\n header\n");
        assert_eq!(signed.signature, b"-----BEGIN\na\n\nb\n");
    }

    #[test]
    fn a_commit_with_two_signatures_or_with_none_is_not_signed() {
        assert!(read_commit(b"tree 1\ngpgsig a\ngpgsig b\n\nx").is_none());
        assert!(read_commit(b"tree 1\n\ngpgsig a\n").is_none());
        assert!(read_commit(b"").is_none());
    }
}
