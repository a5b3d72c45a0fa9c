//! What the real `sops` sealed, by way of a render: opened, and refused once anybody has touched it.
//!
//! The files are made by `files/make.sh`. What comes out has to be what comes of the plain file.

use std::collections::BTreeSet;

use bellwether_core::parameters::Values;
use bellwether_core::sealed::{SEALED_ANNOTATION, text_of};
use bellwether_render::{Documents, Marks, Recipe, RenderError, SourceFile};
use bellwether_sops::{Keys, OpenError, open};
use proptest::prelude::*;
use serde_json::{Value, json};

const PLAIN: &str = include_str!("files/plain.yaml");
const SECRET: &str = include_str!("files/secret.yaml");
const JSON: &str = include_str!("files/secret.json");
const BOTH: &str = include_str!("files/both.yaml");
const TWO: &str = include_str!("files/two.yaml");
const MAC_ONLY_ENCRYPTED: &str = include_str!("files/mac-only-encrypted.yaml");
const UNENCRYPTED_REGEX: &str = include_str!("files/unencrypted-regex.yaml");
const ENCRYPTED_SUFFIX: &str = include_str!("files/encrypted-suffix.yaml");
const NUMBER: &str = include_str!("files/number.yaml");
const NO_BASE64: &str = include_str!("files/no-base64.yaml");
const ALL: &str = include_str!("files/all.yaml");

fn key(of: &str) -> Keys {
    let identity = match of {
        "one" => include_str!("files/one.agekey"),
        _ => include_str!("files/two.agekey"),
    };
    Keys::read([("any.agekey", identity.as_bytes())])
}

fn render(text: &str) -> Result<Value, RenderError> {
    let name = if text.starts_with('{') { "a.json" } else { "a.yaml" };
    let target = serde_json::from_value(json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    let marks = Some(Marks { target, owner: "main/default/shop".to_owned() });
    let recipe = Recipe { marks, namespace: Some("other".to_owned()), agents: BTreeSet::new() };
    let documents = Documents::parse(&[SourceFile { path: name.to_owned(), bytes: text.as_bytes().to_vec() }])?;
    let objects = documents.render(&recipe, &Values::default())?;
    assert_eq!(objects.len(), 1);
    Ok(serde_json::from_slice(&objects[0].body).expect("is JSON"))
}

fn sealed(text: &str) -> Value {
    let object = render(text).expect("renders");
    assert!(text_of(&object).is_some() && object.get("data").is_none(), "it is an overlay");
    object
}

fn opened(overlay: &Value, keys: &Keys) -> Result<Value, OpenError> {
    let namespace = overlay["metadata"]["namespace"].as_str().expect("it has one");
    let bytes = open(overlay, keys, namespace)?.expect("it is sealed");
    Ok(serde_json::from_slice(&bytes).expect("is JSON"))
}

/// Of what should not open, why not; and that names no value.
fn refused(overlay: &Value) -> OpenError {
    let error = opened(overlay, &key("one")).expect_err("it is refused");
    let told = format!("{error} {error:?}");
    assert!(!["swordfish77", "canary-token", "postgres://"].iter().any(|secret| told.contains(secret)), "{told}");
    error
}

fn with_text(mut overlay: Value, change: impl FnOnce(&str) -> String) -> Value {
    let text = text_of(&overlay).expect("it is sealed").to_owned();
    let changed = change(&text);
    assert_ne!(text, changed, "something is changed");
    overlay["metadata"]["annotations"][SEALED_ANNOTATION] = changed.into();
    overlay
}

/// What stands under a key of a sealed text.
fn cipher(text: &str, name: &str) -> String {
    let (_, rest) = text.split_once(&format!("\"{name}\":\"")).expect("it has it");
    rest.split('"').next().expect("it ends").to_owned()
}

#[test]
fn what_was_sealed_by_any_rule_and_in_any_format_is_what_it_was() {
    let plain = render(PLAIN).expect("renders");
    assert_eq!(plain["data"]["password"], "c3dvcmRmaXNoNzc=");

    let rules = [SECRET, JSON, BOTH, MAC_ONLY_ENCRYPTED, UNENCRYPTED_REGEX, ENCRYPTED_SUFFIX];
    for text in rules {
        assert_eq!(opened(&sealed(text), &key("one")).as_ref(), Ok(&plain), "{text}");
    }
    assert_eq!(opened(&sealed(BOTH), &key("two")).as_ref(), Ok(&plain), "each recipient opens it");
}

/// Of which key the MAC says nothing, so that no header binds a document to a namespace.
#[test]
fn a_key_of_one_namespace_opens_nothing_that_is_applied_into_another_whatever_the_document_says() {
    let identity = include_str!("files/one.agekey").as_bytes();
    let (of_shop, of_all) = (Keys::read([("shop_a.agekey", identity)]), Keys::read([("a.agekey", identity)]));
    let overlay = sealed(SECRET);
    assert!(opened(&overlay, &of_shop).is_ok());

    // Its namespace is a label now, and the values are the same in the same order.
    let said = r#""namespace":"shop","labels":{"app":"shop"}"#;
    let mut moved = with_text(overlay, |text| text.replace(said, r#""labels":{"was":"shop","app":"shop"}"#));
    moved["metadata"]["namespace"] = "evil".into();

    assert!(opened(&moved, &of_all).is_ok(), "or the pages promise too little");
    let error = opened(&moved, &of_shop).expect_err("it is refused");
    assert!(matches!(&error, OpenError::NoKey { namespace, .. } if namespace == "evil"), "{error:?}");
    assert!(error.to_string().contains("opens in namespace evil"), "{error}");
    // Also where it says that it is of shop.
    moved["metadata"]["namespace"] = "shop".into();
    assert!(matches!(open(&moved, &of_shop, "evil"), Err(OpenError::NoKey { .. })));
}

#[test]
fn who_is_told_that_no_key_opens_is_told_what_the_keyring_holds() {
    let (two, one) = (include_str!("files/two.agekey"), include_str!("files/one.agekey"));
    let wrong = format!("{two}\nAGE-SECRET-KEY-PQ-1XYZ\n");
    let keys = Keys::read([("a.agekey", wrong.as_bytes()), ("evil_b.agekey", one.as_bytes()), ("c.txt", &b"x"[..])]);

    let Err(OpenError::NoKey { held, .. }) = opened(&sealed(SECRET), &keys) else { panic!("it is refused") };

    assert_eq!((held.entries, held.identities, held.unread, held.elsewhere), (2, 2, 1, 1));
}

#[test]
fn whoever_has_no_key_is_told_whose_it_is_for() {
    let error = refused(&sealed(TWO));

    let recipient = key("two").recipients().next().expect("there is one").to_owned();
    assert!(matches!(error, OpenError::NoKey { recipients, .. } if recipients == [recipient]));
    let error = opened(&sealed(SECRET), &Keys::default()).expect_err("nobody has a key");
    assert!(error.to_string().starts_with("it is sealed for age1"), "{error}");
}

#[test]
fn whatever_is_changed_after_it_was_sealed_opens_no_more() {
    let overlay = sealed(SECRET);
    let text = text_of(&overlay).expect("it is sealed");
    let [url, password, zeta, alpha] = ["url", "password", "zeta", "alpha"].map(|name| cipher(text, name));
    let [url, password, zeta, alpha] = [&*url, &*password, &*zeta, &*alpha];
    let changed = |change: &dyn Fn(&str) -> String| refused(&with_text(overlay.clone(), change));

    // A value, its place, and what is readable.
    let flipped = password.replacen("data:", "data:AAAA", 1);
    assert_eq!(changed(&|text| text.replace(password, &flipped)), OpenError::Value("stringData.password".to_owned()));
    assert_eq!(changed(&|text| text.replace(password, "plain")), OpenError::Value("stringData.password".to_owned()));
    assert_eq!(
        changed(&|text| text.replace(url, "x").replace(zeta, url).replace("\"x\"", &format!("\"{zeta}\""))),
        OpenError::Value("stringData.url".to_owned())
    );
    assert_eq!(changed(&|text| text.replace("for people", "for others")), OpenError::Mac);
    assert_eq!(changed(&|text| text.replace("Opaque", "opaque")), OpenError::Mac);
    // What is taken out, added or moved.
    assert_eq!(changed(&|text| text.replace(&format!("\"alpha\":\"{alpha}\""), "\"alpha\":\"\"")), OpenError::Mac);
    assert_eq!(changed(&|text| text.replace(&format!(",\"alpha\":\"{alpha}\""), "")), OpenError::Mac);
    let moved = |text: &str| {
        text.replace(&format!(",\"alpha\":\"{alpha}\""), "")
            .replace("\"url\":", &format!("\"alpha\":\"{alpha}\",\"url\":"))
    };
    assert_eq!(changed(&moved), OpenError::Mac);
    // The MAC, when it was made, and by which rules.
    assert_eq!(changed(&|text| text.replace("\"lastmodified\":\"2", "\"lastmodified\":\"3")), OpenError::Mac);
    let other_rule = |text: &str| text.replace("^(data|stringData)$", "^(stringData)$");
    assert_eq!(changed(&other_rule), OpenError::Mac);
    let no_rule = |text: &str| text.replace("\"encrypted_regex\"", "\"unknown\"");
    assert!(matches!(changed(&no_rule), OpenError::Value(_)));
    let only_sealed = |text: &str| text.replace("\"version\"", "\"mac_only_encrypted\":true,\"version\"");
    assert_eq!(changed(&only_sealed), OpenError::Mac, "what counted does not stop to");
}

#[test]
fn what_is_sealed_in_one_document_opens_in_no_other() {
    let (overlay, other) = (sealed(SECRET), sealed(JSON));
    let [mine, theirs] = [&overlay, &other].map(|overlay| cipher(text_of(overlay).expect("it is sealed"), "password"));

    let pasted = with_text(overlay.clone(), |text| text.replace(&mine, &theirs));
    assert_eq!(refused(&pasted), OpenError::Value("stringData.password".to_owned()));

    // Its own name and namespace are all that it goes under.
    for (field, value) in [("namespace", "other"), ("name", "admin")] {
        let mut moved = overlay.clone();
        moved["metadata"][field] = value.into();
        assert!(matches!(refused(&moved), OpenError::Shape(_)));
        let mut renamed = with_text(moved, |text| {
            text.replace(&format!("\"{field}\":\""), &format!("\"{field}\":\"{value}\",\"x\":\""))
        });
        renamed["metadata"][field] = value.into();
        assert_eq!(refused(&renamed), OpenError::Mac, "its header is sealed, too");
    }
}

#[test]
fn what_a_render_cannot_send_is_an_error_of_its_file() {
    let refused = |text: &str| {
        let error = render(text).expect_err("it is refused");
        assert_eq!((error.code(), error.hint().is_some()), ("object_sealed", true), "{error}");
        error.to_string()
    };

    assert!(refused(ALL).contains("`apiVersion` is missing or sealed"));
    assert!(refused(&format!("{SECRET}---\n{}", SECRET.replace("name: db", "name: other"))).contains("one of several"));
    let listed =
        format!("apiVersion: v1\nkind: List\nitems: []\n{}", &SECRET[SECRET.find("sops:").expect("it has it")..]);
    assert!(refused(&listed).contains("only Secrets are opened"), "{}", refused(&listed));
    assert!(refused(&SECRET.replace("kind: Secret", "kind: ConfigMap")).contains("only Secrets"));
    assert!(refused(&SECRET.replace("version: 3.11.0", "version: 4.0.0")).contains("SOPS 4.0.0"));
    assert!(refused(&SECRET.replace("    age:", "    unknown:")).contains("`age`"));
}

#[test]
fn variables_do_not_reach_what_is_sealed() {
    let text = SECRET.replace("for people", "for ${people}");
    let overlay = sealed(&text);

    assert!(text_of(&overlay).expect("it is sealed").contains("for ${people}"));
    assert_eq!(overlay["metadata"]["annotations"]["note"], "for ${people}");
}

#[test]
fn what_an_api_server_would_refuse_is_refused_by_its_field() {
    let told = |text: &str| refused(&sealed(text)).to_string();

    assert_eq!(told(NUMBER), "`stringData.zeta` has to be a text: put it into quotes before it is sealed");
    assert_eq!(told(NO_BASE64), "`data.token` has to be base64, or to stand in `stringData`");
}

/// A larger one than any Secret could be, and one that wants to be compiled into more than there is.
#[test]
fn bombs_cost_no_more_than_their_bounds() {
    let overlay = sealed(SECRET);

    let nested =
        with_text(overlay.clone(), |text| text.replacen('{', &format!("{{\"x\":{}", "[".repeat(1_000_000)), 1));
    assert!(matches!(refused(&nested), OpenError::Shape(_)));
    let pattern = with_text(overlay.clone(), |text| text.replace("^(data|stringData)$", "((((a{99}){99}){99}){99})"));
    assert_eq!(refused(&pattern), OpenError::Rule("encrypted_regex"));
    let recipients = with_text(overlay, |text| {
        let one = r#"{"recipient":"x","enc":"y"}"#;
        text.replace("\"age\":[", &format!("\"age\":[{}", format!("{one},").repeat(1_000)))
    });
    assert!(matches!(refused(&recipients), OpenError::Shape(_)));
}

proptest! {
    /// Whatever stands there instead, it is an error, and no panic; what opens is what was sealed.
    #[test]
    fn no_byte_can_be_changed(at in 0_usize..1_600, byte in 0x20_u8..0x7f) {
        let plain = render(PLAIN).expect("renders");
        let mut overlay = sealed(SECRET);
        let mut text = text_of(&overlay).expect("it is sealed").as_bytes().to_vec();
        let at = at.min(text.len() - 1);
        text[at] = byte;
        overlay["metadata"]["annotations"][SEALED_ANNOTATION] = String::from_utf8(text).expect("is text").into();

        if let Ok(object) = opened(&overlay, &key("one")) {
            // The names of what is empty are not covered.
            let held = |object: &Value| object["data"].as_object().map(|data| {
                data.values().filter(|value| *value != "").cloned().collect::<Vec<_>>()
            });
            prop_assert_eq!(held(&object), held(&plain));
        }
    }
}
