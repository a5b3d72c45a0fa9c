//! Hubs of two versions run side by side while one takes the other's place, on the newer one's schema. So a migration only
//! adds: what takes something away, or asks for more than before, says in a comment right before it why no hub of the
//! version before is hurt, `-- contract: …`. This test reads the migrations and holds that.

use std::collections::BTreeSet;
use std::path::Path;

/// Everything before it came before the first release, when all hubs were stopped for an upgrade.
const HELD_FROM: u32 = 50;

#[test]
fn each_migration_only_adds_or_says_why_no_hub_of_before_is_hurt() {
    let faults: Vec<_> = migrations()
        .into_iter()
        .filter(|(number, _, _)| *number >= HELD_FROM)
        .flat_map(|(_, name, text)| faults(&text).into_iter().map(move |fault| format!("{name}: {fault}")))
        .collect();

    assert!(
        faults.is_empty(),
        "expand first, contract a release later; or say why with `-- contract: …`:\n{}",
        faults.join("\n")
    );
}

#[test]
fn what_would_hurt_a_hub_of_before_is_found_in_the_migrations_that_did() {
    let hurt: BTreeSet<_> = migrations()
        .into_iter()
        .filter(|(number, _, text)| *number < HELD_FROM && !faults(text).is_empty())
        .map(|(number, _, _)| number)
        .collect();

    // Renamed: tables and columns in 17, a column in 26. Dropped: columns in 26, rules and indexes in the others. Rows of
    // reports deleted, and a rule that makes more of them impossible, in 20.
    assert_eq!(hurt, [11, 12, 17, 19, 20, 24, 25, 26, 36].into());
}

#[test]
fn what_takes_away_or_asks_for_more_is_a_fault_unless_it_says_why_not() {
    for statement in [
        "alter table targets drop column spec",
        "alter table targets add column a text, drop constraint b",
        "drop table targets",
        "drop index targets_name_idx",
        "ALTER TABLE targets\n    RENAME COLUMN spec TO recipe",
        "alter table targets add column a text not null",
        "alter table targets alter column a set not null",
        "alter table targets alter a drop not null",
        "alter table targets alter column a type bigint",
        "alter table targets alter column a set data type bigint",
        "alter table targets add constraint a check (spec <> '{}')",
        "alter table targets add check (spec <> '{}')",
        "alter table targets add unique (spec)",
        "create unique index a on targets (spec)",
        "create trigger a before insert on targets execute function b()",
        "delete from targets",
        "truncate targets",
        "alter table targets set schema elsewhere",
        "revoke insert on targets from bellwether_hub",
        "do $$ begin drop table targets; end $$",
    ] {
        let one = faults(&format!("create table others (a text not null);\n{statement};"));
        assert_eq!(one.len(), 1, "{statement}: {one:?}");
        let said = faults(&format!("-- What it is for.\n-- contract: nobody reads it since 0.2.\n{statement};"));
        assert!(said.is_empty(), "{statement}: {said:?}");
        let without = faults(&format!("-- contract:\n{statement};"));
        assert_eq!(without.len(), 1, "a reason is needed: {statement}");
        let elsewhere = faults(&format!("-- contract: another.\ndrop table others;\n{statement};"));
        assert_eq!(elsewhere.len(), 1, "a reason is for one statement: {statement}");
    }
}

#[test]
fn what_only_adds_is_no_fault() {
    for statement in [
        "create table a (b text not null, constraint c unique (b))",
        "create table a (b text); create unique index on a (b); alter table a add constraint c check (b <> ''); drop table a",
        "alter table targets add column a text",
        "alter table targets add column a text not null default ''",
        "alter table targets\n    add column a boolean not null generated always as (spec is null) stored,\n    add column b text",
        "alter table targets add column a bigint not null default 7 references repos, add column b text check (b <> '')",
        "create index a on targets (spec)",
        "create or replace view presences as select 1",
        "update targets set ref = 'drop table targets; rename'",
        "insert into a select * from b where c is not null",
        "comment on column a.b is 'rename; it''s not null: drop it'",
        "-- drop table targets;\nselect 1",
        "/* drop table targets; */ select 1",
    ] {
        let faults = faults(&format!("{statement};"));
        assert!(faults.is_empty(), "{statement}: {faults:?}");
    }
}

/// Numbers, names and texts, in their order.
fn migrations() -> Vec<(u32, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("the migrations can be listed")
        .map(|entry| {
            let path = entry.expect("one").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let number = name.get(..4).and_then(|number| number.parse().ok()).expect("four digits are its number");
            (number, name, std::fs::read_to_string(&path).expect("it can be read"))
        })
        .collect();
    all.sort();
    all
}

/// What hurts an earlier version of the hub, of tables that the migration does not make itself.
fn faults(text: &str) -> Vec<String> {
    let statements = statements(text);
    let made: Vec<_> = statements.iter().filter_map(|one| made_by(&one.words)).collect();
    let is_of_before = |one: &&Statement| table_of(&one.words).is_none_or(|table| !made.contains(&table));
    let unsaid = statements.iter().filter(|one| !one.has_reason).filter(is_of_before);
    unsaid.filter_map(|one| Some(format!("{}: {}", fault_of(&one.words)?, one.words.join(" ")))).collect()
}

fn made_by(words: &[String]) -> Option<&str> {
    let is_table = words.first()? == "create" && words.get(1)? == "table";
    words.get(2).filter(|_| is_table).map(String::as_str)
}

/// Which table a statement changes; `None`: it is not said in the usual place.
fn table_of(words: &[String]) -> Option<&str> {
    let word = |at: usize| words.get(at).map(String::as_str);
    match (word(0)?, word(1)?) {
        ("alter" | "drop", "table") | ("delete", "from") => word(2),
        ("truncate", table) => Some(table),
        ("create", "index" | "unique" | "trigger") => word(words.iter().position(|word| word == "on")? + 1),
        _ => None,
    }
}

fn fault_of(words: &[String]) -> Option<&'static str> {
    let has = |phrase: &[&str]| words.windows(phrase.len()).any(|some| some.iter().eq(phrase));
    let starts = |phrase: &[&str]| words.iter().map(String::as_str).take(phrase.len()).eq(phrase.iter().copied());
    if has(&["drop"]) || starts(&["truncate"]) || starts(&["delete", "from"]) || starts(&["revoke"]) {
        return Some("it takes away");
    }
    if has(&["rename"]) || has(&["set", "schema"]) {
        return Some("it renames");
    }
    if starts(&["create", "unique", "index"]) || starts(&["create", "trigger"]) || starts(&["create", "rule"]) {
        return Some("it asks for more");
    }
    if !starts(&["alter"]) {
        return None;
    }
    let is_fault = clauses(words).any(|clause| {
        let first = |words: &[&str]| clause.iter().map(String::as_str).take(words.len()).eq(words.iter().copied());
        let any = |phrase: &[&str]| clause.windows(phrase.len()).any(|some| some.iter().eq(phrase));
        let asks = any(&["not", "null"]) && !any(&["default"]) && !any(&["generated"]);
        let changes = any(&["type"]) || any(&["set", "not", "null"]);
        let rules = ["constraint", "check", "unique", "primary", "foreign", "exclude"];
        first(&["alter"]) && changes || first(&["add"]) && asks || rules.iter().any(|rule| first(&["add", rule]))
    });
    is_fault.then_some("it asks for more")
}

/// What one statement does to a table, one after the other.
fn clauses(words: &[String]) -> impl Iterator<Item = &[String]> {
    let mut depth = 0;
    let after_the_table = words.get(3..).unwrap_or_default();
    after_the_table.split(move |word| {
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        word == "," && depth == 0
    })
}

struct Statement {
    /// In lower case, each sign by itself; texts are left out, but for bodies of functions.
    words: Vec<String>,
    /// The comment right before it says why nobody is hurt.
    has_reason: bool,
}

fn statements(text: &str) -> Vec<Statement> {
    let (mut all, mut words, mut word, mut has_reason) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let mut length = sign.len_utf8();
        if sign.is_alphanumeric() || sign == '_' || sign == '.' {
            word.extend(sign.to_lowercase());
        } else {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            if rest.starts_with("--") {
                length = rest.find('\n').unwrap_or(rest.len());
                let reason = rest[2..length].trim().strip_prefix("contract:");
                has_reason |= words.is_empty() && reason.is_some_and(|reason| !reason.trim().is_empty());
            } else if rest.starts_with("/*") {
                length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            } else if sign == '\'' {
                length = 1 + rest[1..].find('\'').map_or(rest.len() - 1, |end| end + 1);
            } else if sign == ';' && words.iter().filter(|word| *word == "$").count().is_multiple_of(4) {
                all.push(Statement { words: std::mem::take(&mut words), has_reason });
                has_reason = false;
            } else if !sign.is_whitespace() {
                words.push(sign.to_string());
            }
        }
        rest = &rest[length..];
    }
    all
}
