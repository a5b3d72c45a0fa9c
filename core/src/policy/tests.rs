use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const TEXT: &str = r#"
apiVersion: bellwether.dev/v1
kind: AgentPolicy
default: deny
projects:
  - name: team-a
    namespaces: [team-a, "team-a-*"]
    clusterScoped: [core/Namespace]
    kinds: {deny: ["rbac.authorization.k8s.io/*"]}
    pruneMaxPerHour: 2
  - name: "team-*"
    clusterScoped: false
    serviceAccounts: [deployer]
    prune: deny
    dryRun: deny
pruneMaxPerHour: 3
"#;

fn read(text: &str) -> Result<Policy, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn policy() -> Policy {
    read(TEXT).expect("is a policy")
}

fn key(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectKey {
    let (api_version, kind, name) = (api_version.to_owned(), kind.to_owned(), name.to_owned());
    ObjectKey { api_version, kind, namespace: namespace.map(str::to_owned), name }
}

fn name(text: &str) -> Name {
    text.parse().expect("is a name")
}

/// Why not, without what all refusals begin with.
fn why(policy: &Policy, project: &str, verb: Verb, key: &ObjectKey, account: Option<&str>) -> Option<String> {
    let project = name(project);
    let account = account.map(|account| Account { namespace: name("team-a"), name: name(account) });
    let is_namespaced = matches!(key.kind.as_str(), "ConfigMap" | "Role");
    let ask = Ask { verb, project: Some(&project), key, is_namespaced, account: account.as_ref() };
    let refusal = policy.refusal(&ask)?;
    assert_eq!(refusal.until, Until::Changed);
    Some(refusal.message.strip_prefix(REFUSED).expect("says who refuses").to_owned())
}

#[test]
fn an_object_is_refused_by_the_field_that_does_not_allow_it() {
    let map = |namespace: &str| key("v1", "ConfigMap", Some(namespace), "a");
    let role = key("rbac.authorization.k8s.io/v1", "Role", Some("team-a"), "a");
    let why = |key: &ObjectKey| why(&policy(), "team-a", Verb::Write, key, None);
    let told = |words: &str| Some(words.to_owned());

    assert_eq!((why(&map("team-a")), why(&map("team-a-eu"))), (None, None));
    assert_eq!(why(&map("kube-system")), told("projects[0].namespaces does not allow \"kube-system\""));
    assert_eq!(why(&map("team-ab")), told("projects[0].namespaces does not allow \"team-ab\""));
    assert_eq!(why(&role), told("projects[0].kinds.deny denies rbac.authorization.k8s.io/Role"));
    let binding = key("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", Some("team-a"), "a");
    let words = "projects[0].clusterScoped does not allow rbac.authorization.k8s.io/ClusterRoleBinding";
    assert_eq!(why(&binding), told(words), "a namespace that is written is none");
    assert_eq!(why(&key("v1", "Namespace", None, "team-a-eu")), None);
    let of_others = key("v1", "Namespace", Some("team-a"), "kube-system");
    assert_eq!(why(&of_others), told("projects[0].namespaces does not allow \"kube-system\""));
}

#[test]
fn the_first_rule_that_names_a_project_counts_and_of_the_others_the_default() {
    let map = key("v1", "ConfigMap", Some("any"), "a");
    let why = |project, verb, account| why(&policy(), project, verb, &map, account);

    assert_eq!(why("team-b", Verb::Write, Some("deployer")), None, "it may be in any namespace");
    let asked = why("team-b", Verb::Write, None).expect("is refused");
    assert_eq!(asked, "projects[1].serviceAccounts asks for a target with sync.serviceAccount: deployer");
    let other = why("team-b", Verb::Write, Some("admin")).expect("is refused");
    assert!(other.starts_with("projects[1].serviceAccounts does not allow \"admin\""), "{other}");
    for (verb, field) in [(Verb::Delete, "prune"), (Verb::DryRun, "dryRun")] {
        let refusal = why("team-b", verb, Some("deployer")).expect("is refused");
        assert!(refusal.starts_with(&format!("projects[1].{field} denies")), "{refusal}");
    }
    let unnamed = why("shop", Verb::Write, None);
    assert_eq!(unnamed.as_deref(), Some("no rule names the project \"shop\", and default is deny"));
    let open = read(&TEXT.replace("default: deny", "default: allow")).expect("is a policy");
    assert_eq!(self::why(&open, "shop", Verb::Delete, &map, None), None);
}

#[test]
fn what_is_not_known_is_refused_with_its_name_and_line() {
    let with = |line: &str| read(&format!("apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: deny\n{line}\n"));
    assert!(with("").is_ok());

    for (line, words) in [
        ("project: []", ["project", "line 4"]),
        ("projects: [{name: a, namespace: [b]}]", ["namespace", "line 4"]),
        ("projects: [{namespaces: [b]}]", ["name", "line 4"]),
        ("projects: [{name: a, kinds: {deny: [Secret]}}]", ["GROUP/KIND", "Secret"]),
        ("projects: [{name: a, clusterScoped: [Namespace]}]", ["GROUP/KIND", "Namespace"]),
        ("projects: [{name: a, clusterScoped: some}]", ["true, false", "line 4"]),
        ("projects: [{name: a, namespaces: [\"[a-z]\"]}]", ["pattern", "[a-z]"]),
        ("projects: [{name: a, prune: never}]", ["never", "line 4"]),
        ("projects: [{name: a, namespaces: []}]", ["empty list", "line 4"]),
        ("projects: [{name: a, serviceAccounts: []}]", ["empty list", "line 4"]),
        ("projects: [{name: a, kinds: {allow: []}}]", ["empty list", "line 4"]),
        ("pruneMaxPerHour: 0", ["0", "prune: deny"]),
        ("pruneMaxPerHour: 10001", ["10001", "10000"]),
        ("default: allow", ["default", "line 4"]),
    ] {
        let refusal = with(line).expect_err(line);
        assert!(words.iter().all(|word| refusal.contains(word)), "{line}: {refusal}");
    }
    for text in
        ["", "default: deny", "kind: AgentPolicy\napiVersion: bellwether.dev/v2\ndefault: allow", "[]", "a: &a [*a]"]
    {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_allows_nothing_and_none_at_all_everything() {
    let map = key("v1", "ConfigMap", Some("any"), "a");
    let ask = Ask { verb: Verb::Write, project: None, key: &map, is_namespaced: true, account: None };

    assert_eq!(Standing::Unsaid.refusal(&ask), None);
    let refusal = Standing::Unreadable("line 3".to_owned()).refusal(&ask).expect("is refused");
    assert_eq!(refusal.until, Until::Readable);
    assert!(refusal.message.ends_with("nothing is written: line 3"), "{}", refusal.message);
    assert_eq!(Standing::Policy(Box::new(policy())).summary().as_deref(), Some("2 projects, default deny"));
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

#[test]
fn so_much_is_deleted_in_any_hour_of_a_project_and_of_all_and_the_rest_waits_for_it() {
    let (policy, mut deletions) = (policy(), Deletions::default());
    let (a, b) = (name("team-a"), name("team-b"));
    let mut take = |project: &Name, minute: i64| deletions.take(&policy, (Some(project), uid(minute)), at(minute));

    assert!(take(&a, 0).is_ok() && take(&a, 10).is_ok());
    let refusal = take(&a, 20).expect_err("two were deleted");
    assert!(refusal.message.contains("projects[0].pruneMaxPerHour lets 2"), "{}", refusal.message);
    assert_eq!(refusal.until, Until::After(Duration::from_mins(40)));
    assert!(take(&b, 20).is_ok());
    let refusal = take(&b, 30).expect_err("three were deleted in all");
    assert!(refusal.message.contains("policy: pruneMaxPerHour lets 3"), "{}", refusal.message);
    assert!(take(&a, 60).is_ok(), "the first is an hour old");
    let ticket = take(&a, 70).expect("so is the second");
    assert!(take(&a, 71).is_err());

    deletions.give_back(&ticket);
    assert!(deletions.take(&policy, (Some(&a), uid(72)), at(72)).is_ok(), "nothing was deleted then");
}

fn uid(number: i64) -> Uuid {
    Uuid::from_u128(number.unsigned_abs().into())
}

#[test]
fn all_projects_of_one_rule_delete_together_what_it_lets_be_deleted() {
    let text = "apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: deny\nprojects: [{name: \"team-*\", pruneMaxPerHour: 2}]\n";
    let (policy, mut deletions) = (read(text).expect("is a policy"), Deletions::default());
    let mut take = |project: &str, number| deletions.take(&policy, (Some(&name(project)), uid(number)), at(0));

    assert!(take("team-a", 1).is_ok() && take("team-b", 2).is_ok());
    let refusal = take("team-c", 3).expect_err("two were deleted");
    assert!(refusal.message.contains("projects[0].pruneMaxPerHour lets 2"), "{}", refusal.message);
    assert!(take("team-a", 1).is_ok(), "what may have been deleted is deleted once");
    assert!(take("team-c", 3).is_err());
}

#[test]
fn an_account_of_a_namespace_that_is_not_allowed_is_refused_whatever_its_name_is() {
    let text = TEXT.replace("kinds: {deny: [\"rbac.authorization.k8s.io/*\"]}", "serviceAccounts: [deployer]");
    let (policy, map) = (read(&text).expect("is a policy"), key("v1", "ConfigMap", Some("team-a"), "a"));
    let project = name("team-a");
    let refusal = |namespace: &str| {
        let account = Account { namespace: name(namespace), name: name("deployer") };
        let ask =
            Ask { verb: Verb::Write, project: Some(&project), key: &map, is_namespaced: true, account: Some(&account) };
        policy.refusal(&ask).map(|refusal| refusal.message)
    };

    assert_eq!((refusal("team-a"), refusal("team-a-eu")), (None, None));
    let words =
        format!("{REFUSED}projects[0].namespaces does not allow that of the ServiceAccount kube-system/deployer");
    assert_eq!(refusal("kube-system"), Some(words));
}

proptest! {
    #[test]
    fn never_more_than_so_many_are_deleted_within_an_hour(minutes in prop::collection::vec(0i64..30, 0..60)) {
        let (policy, mut deletions) = (policy(), Deletions::default());
        let (mut now, mut done) = (0, Vec::new());
        for (number, pause) in (0..).zip(minutes) {
            now += pause;
            if deletions.take(&policy, (Some(&name("team-a")), uid(number)), at(now)).is_ok() {
                done.push(now);
            }
        }
        for window in done.windows(3) {
            prop_assert!(window[2] - window[0] >= 60, "{:?}", done);
        }
    }

    #[test]
    fn nothing_outside_of_its_namespaces_is_allowed_to_a_project(namespace in "[a-z-]{1,12}", kind in "[A-Z][a-z]{0,8}") {
        let map = key("v1", &kind, Some(&namespace), "a");
        let project = name("team-a");
        let ask = Ask { verb: Verb::Write, project: Some(&project), key: &map, is_namespaced: true, account: None };
        let is_its_own = namespace == "team-a" || namespace.starts_with("team-a-");
        prop_assert_eq!(policy().refusal(&ask).is_none(), is_its_own);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
        let _ = read(&text);
    }
}
