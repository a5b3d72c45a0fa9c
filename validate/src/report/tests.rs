use serde_json::{Value, json as object};

use super::*;

fn report() -> Report {
    let named = |kind: &str, name: &str| Named {
        api_version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: Some("shop".to_owned()),
        name: name.to_owned(),
    };
    let finding = |severity, object: Option<Named>, line| Finding {
        severity,
        code: "field_unknown".to_owned(),
        message: "is no <known> \"field\" & more".to_owned(),
        hint: Some("did you mean `data`?".to_owned()),
        file: "a folder/a.yaml".to_owned(),
        line,
        document: Some(2),
        object,
        field: Some("dta".to_owned()),
        versions: vec!["1.33".to_owned()],
        target: "a folder".to_owned(),
    };
    let file = "a folder/a.yaml".to_owned();
    Report {
        versions: vec!["1.33".to_owned(), "1.37".to_owned()],
        targets: vec![TargetReport {
            name: "a folder".to_owned(),
            kind: "plain",
            cases: vec![
                (file.clone(), named("ConfigMap", "a")),
                (file.clone(), named("ConfigMap", "b")),
                (file.clone(), named("Widget", "c")),
            ],
        }],
        findings: vec![
            finding(Severity::Error, Some(named("ConfigMap", "a")), Some(7)),
            finding(Severity::Warning, Some(named("ConfigMap", "b")), None),
            finding(Severity::Error, None, None),
        ],
        skipped: vec![Skipped { file, object: Some(named("Widget", "c")), reason: "no schema".to_owned() }],
        told: Vec::new(),
    }
}

#[test]
fn json_has_the_counts_and_every_finding() {
    let json = json(&report());

    assert_eq!(json["summary"], object!({"targets": 1, "objects": 3, "errors": 2, "warnings": 1, "skipped": 1}));
    assert_eq!(json["findings"][0]["line"], 7);
    assert_eq!(json["findings"][0]["object"]["name"], "a");
    assert_eq!(json["findings"][0]["field"], "dta");
    assert_eq!(json["findings"][1]["severity"], "warning");
    assert_eq!(json["findings"][1].get("line"), None);
}

/// What `sarif-schema-2.1.0.json` requires of the parts that are written, and GitHub's code scanning above it.
#[test]
fn sarif_has_the_shape_of_its_schema() {
    let sarif = sarif(&report());

    let text = |value: &Value| value.as_str().map_or_else(|| panic!("{value} is no text"), ToOwned::to_owned);
    assert_eq!(sarif["version"], "2.1.0");
    assert!(text(&sarif["$schema"]).starts_with("https://"));
    let [run] = sarif["runs"].as_array().expect("a list").as_slice() else { panic!("one run") };
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let driver = &run["tool"]["driver"];
    assert!(!text(&driver["name"]).is_empty() && !text(&driver["version"]).is_empty());
    let rules = driver["rules"].as_array().expect("a list");
    for rule in rules {
        assert!(!text(&rule["id"]).is_empty() && !text(&rule["shortDescription"]["text"]).is_empty());
    }
    let results = run["results"].as_array().expect("a list");
    assert_eq!(results.len(), 3);
    for result in results {
        assert!(["none", "note", "warning", "error"].contains(&text(&result["level"]).as_str()));
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("a number")).expect("it is small");
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(!text(&result["message"]["text"]).is_empty());
        let [location] = result["locations"].as_array().expect("a list").as_slice() else { panic!("one location") };
        let physical = &location["physicalLocation"];
        assert_eq!(physical["artifactLocation"]["uri"], "a%20folder/a.yaml");
        assert!(physical["region"]["startLine"].as_u64().is_some_and(|line| line >= 1));
    }
    assert_eq!(results[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "ConfigMap shop/a dta");
}

#[test]
fn junit_counts_what_it_holds() {
    insta::assert_snapshot!(junit(&report()), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="bellwether validate" tests="4" failures="2" errors="0">
      <testsuite name="a folder" tests="4" failures="2" errors="0" skipped="1">
        <testcase name="ConfigMap shop/a" classname="a folder/a.yaml">
          <failure message="dta is no &lt;known&gt; &quot;field&quot; &amp; more (Kubernetes 1.33)" type="field_unknown">a folder/a.yaml:7: dta is no &lt;known&gt; &quot;field&quot; &amp; more (Kubernetes 1.33)&#10;did you mean `data`?</failure>
        </testcase>
        <testcase name="ConfigMap shop/b" classname="a folder/a.yaml">
          <system-out>a folder/a.yaml: dta is no &lt;known&gt; &quot;field&quot; &amp; more (Kubernetes 1.33)&#10;did you mean `data`?</system-out>
        </testcase>
        <testcase name="Widget shop/c" classname="a folder/a.yaml">
          <skipped message="no schema"/>
        </testcase>
        <testcase name="a folder/a.yaml" classname="a folder/a.yaml">
          <failure message="dta is no &lt;known&gt; &quot;field&quot; &amp; more (Kubernetes 1.33)" type="field_unknown">a folder/a.yaml: dta is no &lt;known&gt; &quot;field&quot; &amp; more (Kubernetes 1.33)&#10;did you mean `data`?</failure>
        </testcase>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn nothing_found_is_still_a_document() {
    assert_eq!(json(&Report::default())["findings"], object!([]));
    assert_eq!(sarif(&Report::default())["runs"][0]["results"], object!([]));
    assert!(junit(&Report::default()).ends_with("</testsuites>\n"));
}
