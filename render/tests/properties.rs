//! What holds for any input.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::ObjectKey;
use bellwether_core::object::digest_of;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters};
use bellwether_render::{Documents, Marks, Recipe, SourceFile, yaml};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Pieces of YAML that meet in unlucky ways more often than random characters do.
fn yaml_like() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "b: ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "---\n",
        "...\n",
        ": ",
        "? ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "!!binary ",
        "! ",
        "|\n",
        ">-\n",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        "#",
        " #",
        "\t",
        "0x1",
        "1e3",
        ".inf",
        "~",
        "yes",
        "${a}",
        "$${",
        "${a:-",
        "%",
        "\\",
        "\u{FEFF}",
        "é",
        "\r\n",
        "kind: List\nitems:\n",
        "metadata: {name: x}\n",
        "apiVersion: v1\n",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~é😀\n\t]{0,20}".prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), scalar()];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z<~ ]{0,4}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn recipe() -> Recipe {
    let target = serde_json::from_value(json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    Recipe {
        marks: Some(Marks { target, owner: "main/shop/web".to_owned() }),
        namespace: Some("shop".to_owned()),
        agents: BTreeSet::new(),
    }
}

fn render(text: &str, value: &Value) -> Option<Vec<bellwether_render::RenderedObject>> {
    let files = [SourceFile { path: "a.yaml".to_owned(), bytes: text.as_bytes().to_vec() }];
    let set = ParameterSet { clusters: None, values: BTreeMap::from([("a".to_owned(), value.clone())]) };
    let name = "berlin".parse().expect("is a name");
    let values = Parameters::resolve(&[set], ClusterFacts::new(&name, &BTreeMap::new()));
    Documents::parse(&files).ok()?.render(&recipe(), &values).ok()
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = yaml::read("a.yaml", &bytes);
    }

    #[test]
    fn nothing_that_looks_like_yaml_makes_the_renderer_panic(text in yaml_like(), value in scalar()) {
        let _ = render(&text, &value);
    }

    #[test]
    fn json_is_read_as_what_it_is_whether_as_json_or_as_yaml(value in tree()) {
        let value = json!({ "a": value });
        let json = value.to_string();
        let flow = format!("---\n{json}\n");

        for text in [json, flow] {
            let documents = yaml::read("a.json", text.as_bytes()).expect("can be read");
            prop_assert_eq!(&documents[0].to_json(), &value);
        }
    }

    #[test]
    fn no_value_changes_anything_but_the_text_it_is_put_into(value in scalar()) {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  k: '${a}'\n  other: 1\n";

        let objects = render(text, &value).expect("renders");

        let mut body: Value = serde_json::from_slice(&objects[0].body).expect("is JSON");
        prop_assert_eq!(objects.len(), 1);
        prop_assert_eq!(objects[0].digest, digest_of(&body));
        prop_assert_eq!(ObjectKey::of(&body), Some(objects[0].key.clone()));
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        prop_assert_eq!(body["data"].take(), json!({"k": text, "other": 1}));
    }
}
