//! Manifests that are nearly right: every file of the corpus, with a few things wrong.

#[path = "../../proto/tests/mutation/mod.rs"]
mod mutation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use bellwether_core::object::digest_of;
use bellwether_core::parameters::{ClusterFacts, Parameters};
use bellwether_render::{Documents, Marks, Recipe, SourceFile, yaml};
use mutation::mutated;
use proptest::prelude::*;
use serde_json::Value;

const PIECES: &[&[u8]] = &[
    b"\n",
    b"\n  ",
    b"\n---\n",
    b"\n...\n",
    b": ",
    b"- ",
    b"? ",
    b"&a ",
    b"*a",
    b"<<: *a\n",
    b"!!str ",
    b"!!binary ",
    b"|\n",
    b">-\n",
    b"\"",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"#",
    b"\t",
    b"\r",
    b"%YAML 1.1\n",
    b"\\x",
    b"\\u12",
    b"${a}",
    b"${",
    b"0x",
    b".inf",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc2",
    b"\x00",
    b"kind: List\nitems:\n",
    b"metadata: {name: x}\n",
    b"\xff\xfe",
];
/// Longer ones are about bounds, which have tests of their own, and would make each case slow.
const BYTES_MAX: u64 = 8 << 10;

fn corpus() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/cases");
    let mut files: Vec<_> = fs::read_dir(folder).expect("the corpus is there").flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    let small = files.iter().filter(|file| file.metadata().is_ok_and(|metadata| metadata.len() <= BYTES_MAX));
    small.map(|file| fs::read(file.path()).expect("it is read")).collect()
}

fn recipe() -> Recipe {
    let target = serde_json::from_value(serde_json::json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    Recipe {
        marks: Some(Marks { target, owner: "main/shop/web".to_owned() }),
        namespace: Some("shop".to_owned()),
        agents: BTreeSet::new(),
    }
}

proptest! {
    #[test]
    fn what_is_read_of_a_changed_file_is_read_the_same_from_its_own_json(bytes in mutated(corpus(), PIECES)) {
        for document in yaml::read("a.yaml", &bytes).unwrap_or_default() {
            let value = document.to_json();
            let json = value.to_string();
            let again = yaml::read("a.json", json.as_bytes());
            let Ok(again) = again else { continue }; // A scalar alone is no document of its own.
            if value.is_object() {
                prop_assert_eq!(again.len(), 1, "{}", json);
                prop_assert_eq!(again[0].to_json(), value);
            }
        }
    }

    #[test]
    fn what_is_rendered_of_a_changed_file_is_named_by_what_it_holds(bytes in mutated(corpus(), PIECES)) {
        let files = [SourceFile { path: "a.yaml".to_owned(), bytes }];
        let name = "berlin".parse().expect("is a name");
        let values = Parameters::resolve(&[], ClusterFacts::new(&name, &BTreeMap::new()));
        let rendered = Documents::parse(&files).ok().and_then(|documents| documents.render(&recipe(), &values).ok());

        for object in rendered.unwrap_or_default() {
            let body: Value = serde_json::from_slice(&object.body).expect("a body is JSON");
            prop_assert_eq!(object.digest, digest_of(&body));
        }
    }
}
