//! What earlier versions wrote is read as what they meant. See `samples/README.md` for how to add a version.

#[path = "samples/v0_1/mod.rs"]
mod v0_1;
#[path = "samples/v0_2/mod.rs"]
mod v0_2;
#[path = "samples/v0_3/mod.rs"]
mod v0_3;
#[path = "samples/v0_4/mod.rs"]
mod v0_4;
#[path = "samples/v0_5/mod.rs"]
mod v0_5;
#[path = "samples/v0_6/mod.rs"]
mod v0_6;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bellwether_core::Digest;
use bellwether_core::audit::leaf_hash;
use bellwether_core::journal::{Head, Journal, Part};
use bellwether_core::session::agent::Accepted;
use bellwether_core::session::{AgentMessage, HubMessage};
use bellwether_proto::compression::{deflate_stream, inflate_stream};
use bellwether_proto::{agent_message, hub_message, v1};
use prost::Message;
use uuid::Uuid;

/// Versions whose messages have the same bytes when they are said today.
const SAME_BYTES: &[&str] = &["v0_1"];

struct Version {
    name: &'static str,
    from_agent: Vec<AgentMessage>,
    from_hub: Vec<HubMessage>,
}

fn versions() -> Vec<Version> {
    vec![
        Version { name: "v0_1", from_agent: v0_1::from_agent(), from_hub: v0_1::from_hub() },
        Version { name: "v0_2", from_agent: v0_2::from_agent(), from_hub: v0_2::from_hub() },
        Version { name: "v0_3", from_agent: v0_3::from_agent(), from_hub: v0_3::from_hub() },
        Version { name: "v0_4", from_agent: v0_4::from_agent(), from_hub: v0_4::from_hub() },
        Version { name: "v0_5", from_agent: v0_5::from_agent(), from_hub: v0_5::from_hub() },
        Version { name: "v0_6", from_agent: v0_6::from_agent(), from_hub: v0_6::from_hub() },
    ]
}

fn path(version: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(version).join(file)
}

/// The sample; where there is none and it is asked for, it becomes what would be written today.
fn sample(version: &str, file: &str, today: &[u8]) -> Vec<u8> {
    let path = path(version, file);
    if !path.exists() && std::env::var_os("BELLWETHER_WRITE_SAMPLES").is_some() {
        fs::write(&path, today).expect("the sample can be written");
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_message_of_an_earlier_version_is_read_as_what_it_meant() {
    for Version { name, from_agent, from_hub } in versions() {
        for (number, message) in (1..).zip(from_agent) {
            let today = v1::FromAgent::from(message.clone()).encode_to_vec();
            let bytes = sample(name, &format!("agent-{number}.bin"), &today);

            let heard = v1::FromAgent::decode(bytes.as_slice()).expect("it decodes");
            assert_eq!(agent_message(heard).expect("it is accepted"), message, "{name}, agent-{number}");
            assert!(!SAME_BYTES.contains(&name) || bytes == today, "{name}, agent-{number}: other bytes today");
        }
        for (number, message) in (1..).zip(from_hub) {
            let today = v1::FromHub::from(message.clone()).encode_to_vec();
            let bytes = sample(name, &format!("hub-{number}.bin"), &today);

            let heard = v1::FromHub::decode(bytes.as_slice()).expect("it decodes");
            assert_eq!(hub_message(heard).expect("it is accepted"), message, "{name}, hub-{number}");
            assert!(!SAME_BYTES.contains(&name) || bytes == today, "{name}, hub-{number}: other bytes today");
        }
    }
}

#[test]
fn every_kind_of_message_has_a_sample() {
    let source = include_str!("../agent/v1/agent.proto");
    let in_oneof = |message: &str| {
        let (_, rest) = source.split_once(&format!("message {message} {{")).expect("the message is there");
        let (_, rest) = rest.split_once("oneof message {").expect("it is one of several");
        let (kinds, _) = rest.split_once('}').expect("which end");
        kinds.lines().filter(|line| line.trim_end().ends_with(';')).count()
    };
    let newest = versions().pop().expect("there is a version");

    let from_agent: HashSet<_> = newest.from_agent.iter().map(std::mem::discriminant).collect();
    assert_eq!(from_agent.len(), in_oneof("FromAgent"));
    let from_hub: HashSet<_> = newest.from_hub.iter().map(std::mem::discriminant).collect();
    assert_eq!(from_hub.len(), in_oneof("FromHub"));
}

fn same<M: Message + Default + PartialEq + std::fmt::Debug>(file: &str, message: &M) {
    let bytes = sample("v0_1", file, &message.encode_to_vec());
    assert_eq!(&M::decode(bytes.as_slice()).expect("it decodes"), message, "{file}");
    assert_eq!(message.encode_to_vec(), bytes, "{file}");
}

#[test]
fn how_agents_enroll_and_renew_is_what_it_was() {
    same("enroll.bin", &v1::EnrollRequest { token: "bwj_token".to_owned(), csr: b"csr".to_vec() });
    same("renew.bin", &v1::RenewRequest { csr: b"csr".to_vec() });
    let (chain, roots) = (vec![b"leaf".to_vec(), b"intermediate".to_vec()], vec![b"root".to_vec()]);
    same("certificate.bin", &v1::Certificate { chain, roots });
}

/// As an agent writes it: one entry with one assignment, in one part.
fn journal_entry() -> (Head, Vec<u8>) {
    let bodies = [(Digest::of(b"object"), Arc::from(&b"object"[..]))];
    let accepted = Accepted { assignment: v0_1::assignment(), objects: BTreeMap::from(bodies) };
    let entry = Journal::default().plan(vec![accepted]);
    let bytes = deflate_stream(|to| entry.write(to)).expect("it is memory");
    (Head { boot: Uuid::from_u128(1), entry: 1, parts: 1 }, bytes)
}

#[test]
fn the_journal_of_an_earlier_agent_is_read_by_a_later_one() {
    let (head, today) = journal_entry();
    let text = sample("v0_1", "journal-head.json", &serde_json::to_vec(&head).expect("it is JSON"));
    let read: Head = serde_json::from_slice(&text).expect("it is a head");
    let bytes = sample("v0_1", "journal.zst", &today);

    let part = Part { number: 1, head: read, bytes };
    let journal = Journal::load(vec![part], |frame| inflate_stream(frame, 1 << 20)).expect("it is read");

    assert_eq!(read, head);
    let [found] = &journal.inventory()[..] else { panic!("one target") };
    assert_eq!(found.assignment, v0_1::assignment());
    assert_eq!(found.objects[&Digest::of(b"object")].as_ref(), b"object");
}

#[test]
fn a_stored_audit_entry_keeps_its_hash() {
    let example =
        br#"{"action":"cluster.registered","actor":{"kind":"token","name":"admin"},"at":"2026-11-28T00:00:00Z"}"#;
    let body = sample("v0_1", "audit-body.json", example);

    let leaf = leaf_hash(7, &body).to_string();

    assert_eq!(sample("v0_1", "audit-leaf.hex", leaf.as_bytes()), leaf.as_bytes());
}
