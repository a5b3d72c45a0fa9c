use std::collections::BTreeMap;

use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters};

use super::*;

fn values(pairs: &[(&str, &str)]) -> Values {
    let name = "berlin".parse().expect("is a name");
    let labels = BTreeMap::from([("region".to_owned(), "eu".to_owned()), ("a.b/c".to_owned(), "x".to_owned())]);
    let values = pairs.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
    let set = ParameterSet { clusters: None, values };
    Parameters::resolve(&[set], ClusterFacts::new(&name, &labels))
}

fn budget(bytes: usize) -> Budget {
    Budget { bytes, steps: STEPS_MAX }
}

fn fill(text: &str) -> String {
    let template = Template::parse(text, Fills::All).expect("is well-formed");
    template.map_or(text.to_owned(), |template| {
        template.fill(&values(&[("a", "1"), ("b", "2"), ("empty", "")]), &mut budget(100)).expect("is set")
    })
}

#[test]
fn references_follow_flux() {
    for (text, expected) in [
        ("${a}-${b}", "1-2"),
        ("${x:-y}", "y"),
        ("${x:=y z}", "y z"),
        ("${a:-y}", "1"),
        ("${empty:-y}", "y"),
        ("[${empty}]", "[]"),
        ("${x:-}", ""),
        ("${x:-${a}}", "1"),
        ("${x:-a${y:-b}c}d", "abcd"),
        ("$${a}", "${a}"),
        ("$$${a}", "$${a}"),
        ("${cluster.name}/${cluster.labels.region}", "berlin/eu"),
        ("${cluster.labels.a.b/c}", "x"),
        ("${cluster.labels.a.b/c/x/y}", "y"),
        ("${cluster.labels.region//u/x} ${cluster.labels.region/#e/x}", "ex xu"),
    ] {
        assert_eq!(fill(text), expected, "{text}");
    }
}

#[test]
fn a_literal_text_is_itself_when_it_was_filled_in() {
    for text in [
        "",
        "a",
        "$",
        "${",
        "${a}",
        "$${a}",
        "$$${a}",
        "${a${b}",
        "${a:-${b}}",
        "${1} ${} ${/x}",
        "${cluster.name}",
        "$${cluster.name} ${a}",
        "${cluster.name:-${a}} $${b}",
        "${#cluster.name} ${cluster.name^^} ${#a} ${a//b/c}",
        "${cluster.labels.a.b/c} ${cluster.} ${cluster",
        "é${a}é$",
    ] {
        for fills in [Fills::Nothing, Fills::ClustersOwn, Fills::All] {
            let literal = literal(text, fills);
            let template = Template::parse(&literal, fills).expect("is well-formed");
            let filled =
                template.map(|template| template.fill(&values(&[]), &mut budget(100)).expect("nothing is asked for"));
            assert_eq!(filled.unwrap_or_else(|| literal.clone()), text, "{fills:?} of {literal}");
        }
    }
}

#[test]
fn what_is_no_reference_is_left_alone() {
    for text in ["$a", "$(a)", "${1}", "${}", "${ a }", "${-a}", "a$", "$$", "${", "{a}", "${é}", "${/a}", "}"] {
        assert_eq!(fill(text), text);
    }
}

#[test]
fn a_valid_name_in_another_form_is_malformed() {
    for text in ["${a", "${a^^^}", "${a:x}", "${a:+b}", "${a }", "${a:-b", "${a/x}", "x ${a#}", "${#a[@]}", "${a:1:}"] {
        let malformed = Template::parse(text, Fills::All).expect_err(text);
        assert_eq!((malformed.name, malformed.offset), ("a", text.find('$').expect("has one")), "{text}");
    }
}

#[test]
fn names_in_defaults_are_referenced_too() {
    let template = Template::parse("${x:-${y}} $${z} ${w//${v}/${u}}", Fills::All)
        .expect("is well-formed")
        .expect("has references");

    assert_eq!(template.names(), ["x", "y", "w", "v", "u"]);
}

#[test]
fn of_the_cluster_only_its_own_references_are_taken_and_every_other_stays_text() {
    let own = |text: &str| {
        let template = Template::parse(text, Fills::ClustersOwn).expect("is well-formed");
        template.map_or(text.to_owned(), |template| {
            template.fill(&values(&[("a", "1")]), &mut budget(200)).expect("is set")
        })
    };

    for (text, expected) in [
        ("${cluster.name} ${HOME} ${a}", "berlin ${HOME} ${a}"),
        ("${env:MY_POD_IP}:4317 in ${cluster.name}", "${env:MY_POD_IP}:4317 in berlin"),
        ("${a^^} ${x:-y} ${cluster.labels.region}", "${a^^} ${x:-y} eu"),
        ("$${y} $${cluster.name} ${cluster.name}", "$${y} ${cluster.name} berlin"),
        ("${cluster.labels.none:-${cluster.name}}", "berlin"),
        ("$${y} ${HOME}", "$${y} ${HOME}"),
        ("${cluster.name^^} ${#cluster.name} ${#ARGS[@]} ${a#b}", "BERLIN 6 ${#ARGS[@]} ${a#b}"),
    ] {
        assert_eq!(own(text), expected, "{text}");
    }
    assert!(Template::parse("${cluster.name^^^}", Fills::ClustersOwn).is_err());
}

#[test]
fn a_whole_number_is_written_without_a_point() {
    let sets = [ParameterSet {
        clusters: None,
        values: serde_json::from_str(r#"{"thousand": 1e3, "half": 1.5, "large": 1e21}"#).expect("values"),
    }];
    let name = "berlin".parse().expect("is a name");
    let values = Parameters::resolve(&sets, ClusterFacts::new(&name, &BTreeMap::new()));

    let template = Template::parse("${thousand} ${half} ${large}", Fills::All).expect("is well-formed");

    assert_eq!(template.expect("it has references").fill(&values, &mut budget(100)).expect("is set"), "1000 1.5 1e+21");
}

#[test]
fn only_a_near_name_is_suggested() {
    let known = ["replicas", "region"];

    assert_eq!(nearest("replcas", known.into_iter()), Some("replicas"));
    assert_eq!(nearest("image", known.into_iter()), None);
}

/// What Flux's own module gave for these texts (see `flux.md`), and where something else is meant.
#[derive(serde::Deserialize)]
struct Row {
    text: String,
    gives: Option<String>,
    error: Option<String>,
}

#[test]
fn functions_give_what_flux_gives() {
    // `:+` is a default there and its opposite in a shell; a number that is none gives the whole value.
    let refused = ["${name:+1}", "${name: -3}"];
    // What Flux cannot read: an argument of text and a reference, and what is no variable here.
    let taken = ["${a:${minus", "${a:1:${b}", "${name#*${a}}"];
    // Nothing is escaped in an argument there, and a digit is a variable: see the test after this one.
    let escaped = ["${none:-$${b}}", "${none:-$${b:-${a}}}", "${a#$${b}}", "${a:-${1}}"];
    let rows: Vec<Row> = serde_json::from_str(include_str!("flux.json")).expect("rows");
    let values = values(&[
        ("a", "1"),
        ("b", "2"),
        ("empty", ""),
        ("img", "registry.example.org/team/shop:1.2.3"),
        ("name", "berlin-eu-1"),
        ("tag", "v1.10.2-rc.1"),
        ("mixed", "hELLO World"),
        ("word", "straße"),
        ("path", "/srv/www/index.html"),
        ("n", "3"),
        ("minus", "-3"),
        ("star", "a*b"),
        ("list", "a,b,a,b"),
        ("up", "ÄPFEL und Birnen"),
        ("back", r"a\b"),
        ("dots", "..."),
        ("aaa", "aaaaa"),
        ("pat", "*-"),
        ("br", "a}b"),
        ("sl", "/"),
        ("dollar", "a$b"),
        ("turkish", "İzmir"),
        ("greek", "ᾳᾀᾗᾧῃῳᾼᾲ"),
        ("capitals", "ᾈᾼΣΑΣ"),
    ]);

    let ours = |text: &str| match Template::parse(text, Fills::All) {
        Err(_) => Err("malformed"),
        Ok(None) => Ok(text.to_owned()),
        Ok(Some(template)) => template.fill(&values, &mut budget(1000)).map_err(|unfilled| match unfilled {
            Unfilled::Unset { .. } => "unset",
            _ => "other",
        }),
    };
    let differs = |row: &&Row| match (ours(&row.text), &row.gives, &row.error) {
        // Flux leaves half a character.
        (Ok(text), Some(gives), _) => text != *gives && !gives.contains('\u{fffd}'),
        (Err(told), _, Some(error)) => told != error,
        (Err("malformed"), Some(_), _) => !refused.contains(&row.text.as_str()),
        (Ok(_), _, Some(_)) => !taken.contains(&row.text.as_str()),
        _ => true,
    };
    let different: Vec<_> = rows
        .iter()
        .filter(|row| !escaped.contains(&row.text.as_str()))
        .filter(differs)
        .map(|row| (&row.text, &row.gives, &row.error, ours(&row.text)))
        .collect();

    assert!(rows.len() > 200);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn what_is_escaped_in_a_default_or_a_pattern_is_text_up_to_its_own_end() {
    let values = values(&[("x", "v"), ("y", "a${b}")]);
    let filled = |text| Template::parse(text, Fills::All).map(|one| one.expect("one").fill(&values, &mut budget(100)));

    for (text, gives) in [
        ("${x:-$${HOME}}", "v"),
        ("${none:-$${HOME}}", "${HOME}"),
        ("${none:-$${HOME:-${x}}/$${A}}-", "${HOME:-v}/${A}-"),
        ("${y%$${b}}", "a"),
        ("${x:-${y:-$${b}}}", "v"),
    ] {
        assert_eq!(filled(text), Ok(Ok(gives.to_owned())), "{text}");
    }
    for text in ["${x:-${1}}", "${x:-${}}", "${x:-${ y}}", "${x:-$${HOME}", "${x#${1}}"] {
        assert!(filled(text).is_err(), "{text}: a brace would stay behind");
    }
}

#[test]
fn what_must_be_there_is_an_error_where_it_is_empty() {
    let values = values(&[("a", "1"), ("empty", "")]);
    let filled =
        |text| Template::parse(text, Fills::All).expect("is read").expect("one").fill(&values, &mut budget(100));

    assert_eq!(filled("${a:?say which}").as_deref(), Ok("1"));
    assert_eq!(filled("-${empty:?say which}"), Err(Unfilled::Unset { name: "empty", offset: 1 }));
    assert_eq!(filled("${none:?}"), Err(Unfilled::Unset { name: "none", offset: 0 }));
}

#[test]
fn what_a_function_makes_has_the_type_that_it_is_written_as() {
    let values = values(&[("sizes", "3-12"), ("version", "1.10.2"), ("on", "TRUE")]);
    let value =
        |text| Template::parse(text, Fills::All).expect("is read").expect("one").value(&values, &mut budget(100));

    assert_eq!(value("${sizes#*-}"), Ok(Some(Value::from(12))));
    assert_eq!(value("${version%.*}"), Ok(Some(Value::from("1.10"))));
    assert_eq!(value("${on,,}"), Ok(Some(Value::from(true))));
    assert_eq!(value("v${version%.*}"), Ok(None));
}

#[test]
fn a_character_is_not_cut_apart() {
    let values = values(&[("word", "straße"), ("a", "x")]);
    let filled =
        |text| Template::parse(text, Fills::All).expect("is read").expect("one").fill(&values, &mut budget(100));

    assert!(matches!(filled("${word:0:5}"), Err(Unfilled::Misused { name: "word", .. })));
    assert!(matches!(filled("${word:${a}}"), Err(Unfilled::Misused { name: "word", .. })));
    assert_eq!(filled("${word##s*?}").as_deref(), Ok(""));
}

#[test]
fn functions_are_bounded_by_what_they_give_and_by_what_they_read() {
    let long = "a".repeat(60_000);
    let values = values(&[("x", &long), ("y", &long)]);
    let filled = |text: &str, steps| {
        let mut budget = Budget { bytes: 1_000_000, steps };
        let template = Template::parse(text, Fills::All).expect("is read").expect("it has some");
        template.fill(&values, &mut budget).map(|text| text.len()).map_err(|unfilled| format!("{unfilled:?}"))
    };

    assert_eq!(filled("${x//a/${y}}", STEPS_MAX), Err("TooLong".to_owned()));
    assert_eq!(filled("${x//a/aa}", STEPS_MAX), Ok(120_000));
    assert_eq!(filled("${x##*}", STEPS_MAX), Ok(0));
    assert!(filled(&"${x%%*}".repeat(100), 1_000_000).expect_err("it reads too much").contains("too long"));
    assert!(filled("${x#*${y}b}", STEPS_MAX).expect_err("each against each").contains("too long"));
}
