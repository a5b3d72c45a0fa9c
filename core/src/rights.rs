//! Which rights the agent of a cluster needs for what the cluster's targets hold, and no more: from objects to roles.
//!
//! What an agent asks an API server for stands in its Kubernetes client. It watches each kind in all namespaces, by one
//! label, so `list` and `watch` are for the whole cluster; it reads and writes where the objects are. `update` is for its own
//! Secrets alone: all else is applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::account::Account;
use crate::apply::{APPLY_ANNOTATION, ONCE};
use crate::object::is_built_in_group;
use crate::reconcile::is_protected;
use crate::{Name, ObjectKey};

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTOSCALING: &str = "autoscaling";
/// The agent's ServiceAccount, its own Role and the binding of that, as its manifest has them.
const AGENT: &str = "bellwether-agent";

/// Plurals of resources by their groups.
type Resources = BTreeMap<String, BTreeSet<String>>;

/// What targets hold, as far as rights follow from it.
#[derive(Debug, Default)]
pub struct Holdings {
    keys: BTreeSet<ObjectKey>,
    /// By group and kind: plural, and whether it has namespaces.
    defined: BTreeMap<(String, String), (String, bool)>,
    bound: BTreeSet<Bound>,
    /// That targets ask to be made where they are absent.
    own_namespaces: BTreeSet<Name>,
    /// Roles that are made where they are absent, and never changed.
    once: BTreeSet<ObjectKey>,
    /// What targets hold whose objects the agent asks for as somebody else.
    accounts: BTreeMap<Account, Holdings>,
}

/// A role that a binding refers to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    /// Of the binding.
    namespace: Option<String>,
    resource: &'static str,
    name: String,
}

/// Roles and their bindings, as Kubernetes has them, and what they do not say by themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Rights {
    pub objects: Vec<Value>,
    pub notes: Vec<String>,
}

impl Holdings {
    /// An object that a target has there.
    pub fn add(&mut self, key: &ObjectKey) {
        self.keys.insert(key.clone());
    }

    /// Of targets whose objects are that account's to write; `None`: the agent's. To be called before anything is read.
    pub fn of(&mut self, account: Option<Account>) -> &mut Self {
        match account {
            Some(account) => self.accounts.entry(account).or_default(),
            None => self,
        }
    }

    /// The namespace of a target that asks for it to be made (`createNamespace`).
    pub fn add_own_namespace(&mut self, namespace: &Name) {
        self.own_namespaces.insert(namespace.clone());
    }

    /// Whether more follows from the object than from its key.
    pub fn is_read(key: &ObjectKey) -> bool {
        matches!(
            (key.group(), key.kind.as_str()),
            (RBAC, "Role" | "ClusterRole" | "RoleBinding" | "ClusterRoleBinding")
                | ("apiextensions.k8s.io", "CustomResourceDefinition")
        )
    }

    /// A role, a binding, or a definition: of the targets or of the cluster. Others say nothing.
    pub fn read(&mut self, object: &Value) {
        for held in self.accounts.values_mut() {
            held.read(object);
        }
        let Some(key) = ObjectKey::of(object).filter(Self::is_read) else { return };
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if key.group() == RBAC && !self.keys.contains(&key) {
            return;
        }
        if key.group() == RBAC && key.kind.ends_with("Role") {
            let is_once = object["metadata"]["annotations"][APPLY_ANNOTATION] == ONCE;
            self.once.extend(is_once.then_some(key));
        } else if key.group() == RBAC {
            let resource = if text("/roleRef/kind").as_deref() == Some("Role") { "roles" } else { "clusterroles" };
            self.bound.extend(text("/roleRef/name").map(|name| Bound { namespace: key.namespace, resource, name }));
        } else if let (Some(group), Some(kind), Some(plural)) =
            (text("/spec/group"), text("/spec/names/kind"), text("/spec/names/plural"))
        {
            let is_namespaced = text("/spec/scope").as_deref() != Some("Cluster");
            self.defined.insert((group, kind), (plural, is_namespaced));
        }
    }

    /// Groups of which some kind is not known by a definition yet.
    pub fn groups_undefined(&self) -> BTreeSet<&str> {
        self.all_keys().filter(|key| self.is_guessed(key)).map(ObjectKey::group).collect()
    }

    /// For the agent that is installed in this namespace.
    pub fn rights(&self, namespace: &str) -> Rights {
        let mut places = self.places();
        let mut everywhere = Resources::new();
        for held in std::iter::once(self).chain(self.accounts.values()) {
            for handled in held.places().into_values() {
                for (group, plurals) in handled.applied {
                    everywhere.entry(group).or_default().extend(plurals);
                }
            }
        }
        let of_cluster = format!("{AGENT}-{namespace}");
        let mut rules = of_agent();
        rules.extend(rules_of(&everywhere, &["list", "watch"]));
        rules.extend(places.remove(&None).iter().flat_map(Handled::rules));
        rules.extend(self.escalation(None));
        let agent = (namespace, AGENT);
        let mut objects = pair("Cluster", (&of_cluster, None), agent, &rules).to_vec();
        objects.extend(pair("", (AGENT, Some(namespace)), agent, &of_journal()));
        objects.extend(self.in_namespaces(&places, &of_cluster, agent));
        for (account, held) in &self.accounts {
            objects.extend(held.of_account(account, &of_cluster, agent));
        }
        Rights { objects, notes: self.notes(&everywhere, places.keys().flatten().copied()) }
    }

    /// What is handled where; what is cluster-scoped at `None`.
    fn places(&self) -> BTreeMap<Option<&str>, Handled> {
        let mut places: BTreeMap<Option<&str>, Handled> = BTreeMap::new();
        for key in &self.keys {
            let (plural, place) = self.placed(key);
            let handled = places.entry(place).or_default();
            let deleted = (!is_protected(key)).then_some(&mut handled.deleted);
            for resources in [&mut handled.applied].into_iter().chain(deleted) {
                resources.entry(key.group().to_owned()).or_default().insert(plural.clone());
            }
        }
        places
    }

    /// A role in each namespace, for whom writes there.
    fn in_namespaces(&self, places: &BTreeMap<Option<&str>, Handled>, name: &str, subject: (&str, &str)) -> Vec<Value> {
        let mut objects = Vec::new();
        for (place, handled) in places.iter().filter_map(|(place, handled)| Some(((*place)?, handled))) {
            let mut rules = handled.rules();
            rules.extend(self.neighbours(place));
            rules.extend(self.escalation(Some(place)));
            objects.extend(pair("", (name, Some(place)), subject, &rules).map(of_targets));
        }
        objects
    }

    /// That the agent may act as it, and what it needs itself.
    fn of_account(&self, account: &Account, of_cluster: &str, agent: (&str, &str)) -> Vec<Value> {
        let (namespace, subject) = (account.namespace.as_str(), (account.namespace.as_str(), account.name.as_str()));
        // A dot stands in none of these names, so that no two accounts have one name of a role.
        let of_account = format!("{}.{}", account.namespace, account.name);
        let (acting, name) = (format!("{of_cluster}-as-{of_account}"), format!("{of_cluster}-of-{of_account}"));
        let may_act = json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [account.name],
            "verbs": ["impersonate"]});
        let mut objects = pair("", (&acting, Some(namespace)), agent, &[may_act]).map(of_targets).to_vec();
        let mut places = self.places();
        let mut rules: Vec<_> = places.remove(&None).iter().flat_map(Handled::rules).collect();
        rules.extend(self.escalation(None));
        if !rules.is_empty() {
            objects.extend(pair("Cluster", (&name, None), subject, &rules).map(of_targets));
        }
        objects.extend(self.in_namespaces(&places, &name, subject));
        objects
    }

    fn all_keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.keys.iter().chain(self.accounts.values().flat_map(|held| &held.keys))
    }

    /// The plural of its kind, and the namespace that it is in.
    fn placed<'a>(&'a self, key: &'a ObjectKey) -> (String, Option<&'a str>) {
        let defined = self.defined.get(&(key.group().to_owned(), key.kind.clone()));
        let (plural, is_namespaced) = defined.cloned().unwrap_or_else(|| (guessed_plural(&key.kind), true));
        (plural, key.namespace.as_deref().filter(|_| is_namespaced))
    }

    fn is_guessed(&self, key: &ObjectKey) -> bool {
        !is_built_in_group(key.group()) && !self.defined.contains_key(&(key.group().to_owned(), key.kind.clone()))
    }

    /// Nobody gives rights that he lacks, by making a role or by binding one, unless he may do just that; these roles by name.
    fn escalation(&self, place: Option<&str>) -> Vec<Value> {
        let (kind, made) = if place.is_some() { ("Role", "roles") } else { ("ClusterRole", "clusterroles") };
        let bound = |resource: &str| {
            let there = self.bound.iter().filter(move |it| it.namespace.as_deref() == place && it.resource == resource);
            there.map(|bound| bound.name.clone()).collect::<BTreeSet<_>>()
        };
        let of_kind = self.keys.iter().filter(|key| key.group() == RBAC && key.kind == kind);
        let roles = of_kind.filter(|key| key.namespace.as_deref() == place).map(|key| key.name.clone()).collect();
        let asked = [
            (made, "escalate", roles),
            ("clusterroles", "bind", bound("clusterroles")),
            ("roles", "bind", bound("roles")),
        ];
        let named = asked.into_iter().filter(|(.., names)| !names.is_empty());
        named
            .map(|(resource, verb, names): (_, _, BTreeSet<String>)| {
                json!({"apiGroups": [RBAC], "resources": [resource], "resourceNames": names, "verbs": [verb]})
            })
            .collect()
    }

    /// What the agent asks about beside the objects: whether an autoscaler has set the replicas of one, and whether the Pods
    /// of a Job that is to be made anew have begun.
    fn neighbours(&self, place: &str) -> Vec<Value> {
        let there = || self.keys.iter().filter(|key| key.namespace.as_deref() == Some(place));
        let scales = |key: &ObjectKey| {
            key.group() == "apps" || key.kind == "ReplicationController" || !is_built_in_group(key.group())
        };
        let mut rules = Vec::new();
        if there().any(scales) {
            rules.push(rule(AUTOSCALING, ["horizontalpodautoscalers"], &["list"]));
        }
        if there().any(|key| (key.group(), key.kind.as_str()) == ("batch", "Job")) {
            rules.push(rule("", ["pods"], &["list"]));
        }
        rules
    }

    fn notes<'a>(&self, everywhere: &Resources, places: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut notes = Vec::new();
        if everywhere.get("").is_some_and(|core| core.contains("secrets")) {
            let note = "The targets hold Secrets. A watch has no right of its own for one label, so whoever may `list` them, as the \
                        agent has to, may read every Secret of the cluster.";
            notes.push(note.to_owned());
        }
        if !self.bound.is_empty() || self.keys.iter().any(|key| key.group() == RBAC && key.kind.ends_with("Role")) {
            let note = "The targets hold roles, or bind some: the agent may give by these, which are named, whatever rights Git says \
                        (`escalate`, `bind`). Whoever may push there, or holds the hub, has them.";
            notes.push(note.to_owned());
        }
        let guessed: BTreeSet<_> = self.all_keys().filter(|key| self.is_guessed(key)).collect();
        let guessed: BTreeSet<_> =
            guessed.into_iter().map(|key| format!("{}.{}", guessed_plural(&key.kind), key.group())).collect();
        if !guessed.is_empty() {
            let names = guessed.into_iter().collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "No definition of these is known, so their names are guessed, and that they have namespaces: {names}."
            ));
        }
        let made: BTreeSet<_> =
            self.keys.iter().filter(|key| key.api_version == "v1" && key.kind == "Namespace").collect();
        let made = places.filter(|place| made.iter().any(|key| key.name == *place)).collect::<Vec<_>>().join(", ");
        if !made.is_empty() {
            notes.push(format!(
                "The targets make these namespaces: where one is not there yet, apply this again once it is: {made}."
            ));
        }
        if !self.accounts.is_empty() {
            let names: Vec<_> = self.accounts.keys().map(ToString::to_string).collect();
            notes.push(format!(
                "The agent acts as these ServiceAccounts, which have to be there, and whose roles are among these: {}.",
                names.join(", ")
            ));
        }
        notes.extend(self.namespaces_not_made(everywhere));
        notes.extend(self.roles_not_made());
        if self.keys.iter().any(is_admission_policy) {
            let note = "The targets hold admission policies. One with parameters (`paramKind`) is written only by who may `get` that kind \
                        in the whole cluster, and its binding by who may `get` the parameters: add that.";
            notes.push(note.to_owned());
        }
        notes
    }

    /// What is applied once is made by a request that names nothing, so no rule for a name lets it through.
    fn roles_not_made(&self) -> Option<String> {
        let names: Vec<_> = self.once.iter().map(ToString::to_string).collect();
        (!names.is_empty()).then(|| {
            format!(
                "With these rights the agent cannot make roles that are applied once, as `escalate` is here for roles by name, and what \
                 makes them has none: make them first, or give `escalate` without names: {}.",
                names.join(", ")
            )
        })
    }

    /// A right to make one namespace cannot be told from that to make any, so it is given where the targets hold some, and not
    /// for this.
    fn namespaces_not_made(&self, everywhere: &Resources) -> Option<String> {
        let may_make = everywhere.get("").is_some_and(|core| core.contains("namespaces"));
        let names: Vec<_> = self.own_namespaces.iter().map(Name::as_str).collect();
        if may_make || names.is_empty() {
            return None;
        }
        let is_one = names.len() == 1;
        let (those, targets) = if is_one {
            ("namespace", "its target asks: make it")
        } else {
            ("namespaces", "their targets ask: make them")
        };
        Some(format!("With these rights the agent cannot make the {those} {}, as {targets} first.", names.join(", ")))
    }
}

fn is_admission_policy(key: &ObjectKey) -> bool {
    let kind = key.kind.strip_suffix("Binding").unwrap_or(&key.kind);
    key.group() == "admissionregistration.k8s.io" && kind.ends_with("AdmissionPolicy")
}

/// What is in one place.
#[derive(Debug, Default)]
struct Handled {
    applied: Resources,
    /// What no agent ever deletes is not among them.
    deleted: Resources,
}

impl Handled {
    fn rules(&self) -> Vec<Value> {
        let applied = rules_of(&self.applied, &["get", "create", "patch"]);
        applied.into_iter().chain(rules_of(&self.deleted, &["delete"])).collect()
    }
}

/// What an agent reads whatever its targets hold: which cluster it is in, what is defined there, and whether a kind that is
/// not listed may come back.
fn of_agent() -> Vec<Value> {
    vec![
        json!({"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}),
        rule("apiextensions.k8s.io", ["customresourcedefinitions"], &["get", "list", "watch"]),
        rule("apiregistration.k8s.io", ["apiservices"], &["list"]),
        // What it shows of each target, to the people of the cluster.
        rule("bellwether.dev", ["assignments"], &["list", "watch", "create", "patch", "delete"]),
        rule("bellwether.dev", ["assignments/status"], &["patch"]),
        rule("events.k8s.io", ["events"], &["create"]),
    ]
}

/// Its own Secrets: its key and certificate, and its journal.
fn of_journal() -> Vec<Value> {
    vec![rule("", ["secrets"], &["get", "list", "create", "update", "patch", "delete"])]
}

fn rules_of(resources: &Resources, verbs: &[&str]) -> Vec<Value> {
    resources.iter().map(|(group, plurals)| rule(group, plurals, verbs)).collect()
}

fn rule<S: serde::Serialize>(group: &str, plurals: impl IntoIterator<Item = S>, verbs: &[&str]) -> Value {
    let plurals: Vec<_> = plurals.into_iter().collect();
    json!({"apiGroups": [group], "resources": plurals, "verbs": verbs})
}

/// A role, and its binding to that ServiceAccount.
fn pair(
    scope: &str,
    (name, place): (&str, Option<&str>),
    (namespace, account): (&str, &str),
    rules: &[Value],
) -> [Value; 2] {
    let mut metadata = json!({"name": name, "labels": {"app.kubernetes.io/name": AGENT}});
    if let Some(place) = place {
        metadata["namespace"] = place.into();
    }
    let (api_version, role) = (format!("{RBAC}/v1"), format!("{scope}Role"));
    [
        json!({"apiVersion": api_version, "kind": role, "metadata": metadata, "rules": rules}),
        json!({"apiVersion": api_version, "kind": format!("{role}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": RBAC, "kind": role, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]}),
    ]
}

/// Marked, so that it can be found where targets hold nothing any more: nobody deletes it by itself.
fn of_targets(mut object: Value) -> Value {
    object["metadata"]["labels"]["app.kubernetes.io/component"] = "targets".into();
    object
}

/// As Kubernetes names the resources of its own kinds, and most others do.
fn guessed_plural(kind: &str) -> String {
    let singular = kind.to_ascii_lowercase();
    match singular.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'i', 'o', 'u'])) {
        Some(stem) => format!("{stem}ies"),
        None if singular == "endpoints" => singular,
        None if singular.ends_with(['s', 'x']) || singular.ends_with("ch") => format!("{singular}es"),
        None => format!("{singular}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLYING: [&str; 3] = ["get", "create", "patch"];

    fn key(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectKey {
        let namespace = namespace.map(str::to_owned);
        ObjectKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, name: name.to_owned() }
    }

    fn holdings(keys: &[ObjectKey]) -> Holdings {
        let mut holdings = Holdings::default();
        for key in keys {
            holdings.add(key);
        }
        holdings
    }

    /// Rules of the role of this kind, name and namespace.
    fn rules<'a>(rights: &'a Rights, kind: &str, namespace: Option<&str>) -> Vec<&'a Value> {
        let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["namespace"].as_str() == namespace;
        let role = rights.objects.iter().find(is_it).expect("such a role");
        role["rules"].as_array().expect("rules").iter().collect()
    }

    #[test]
    fn what_is_handled_in_a_namespace_is_watched_everywhere_and_written_there_alone() {
        let held = holdings(&[
            key("v1", "ConfigMap", Some("shop"), "a"),
            key("apps/v1", "Deployment", Some("shop"), "a"),
            key("v1", "ConfigMap", Some("other"), "a"),
            key("v1", "Namespace", None, "shop"),
        ]);

        let rights = held.rights("agents");

        let of_cluster = rules(&rights, "ClusterRole", None);
        assert!(of_cluster.contains(&&rule("", ["configmaps", "namespaces"], &["list", "watch"])), "{of_cluster:#?}");
        assert!(
            of_cluster.contains(&&rule("", ["namespaces"], &APPLYING)),
            "no namespace is ever deleted: {of_cluster:#?}"
        );
        let is_own = |rule: &Value| rule["apiGroups"] == json!(["bellwether.dev"]);
        let writes = |rule: &&&Value| {
            rule["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!("patch"))) && !is_own(rule)
        };
        assert_eq!(of_cluster.iter().filter(writes).count(), 1, "{of_cluster:#?}");
        let of_shop = rules(&rights, "Role", Some("shop"));
        let scaled = rule(AUTOSCALING, ["horizontalpodautoscalers"], &["list"]);
        let maps = [rule("", ["configmaps"], &APPLYING), rule("", ["configmaps"], &["delete"])];
        let deployments = [rule("apps", ["deployments"], &APPLYING), rule("apps", ["deployments"], &["delete"])];
        assert_eq!(of_shop, [&maps[0], &deployments[0], &maps[1], &deployments[1], &scaled]);
        assert_eq!(rules(&rights, "Role", Some("other")), [&maps[0], &maps[1]]);
        assert_eq!(rules(&rights, "Role", Some("agents")), of_journal().iter().collect::<Vec<_>>());
        assert_eq!(rights.notes.len(), 1, "{:?}", rights.notes);
        assert!(rights.notes[0].ends_with(": shop."), "{:?}", rights.notes);
    }

    #[test]
    fn nothing_is_given_to_an_agent_without_targets_but_its_own() {
        let rights = Holdings::default().rights("agents");

        assert_eq!(rules(&rights, "ClusterRole", None), of_agent().iter().collect::<Vec<_>>());
        assert_eq!((rights.objects.len(), rights.notes.len()), (4, 0));
        let words = serde_json::to_string(&rights.objects).expect("JSON");
        assert!(!words.contains("escalate") && !words.contains("\"bind\"") && !words.contains('*'), "{words}");
    }

    #[test]
    fn what_is_in_the_namespaces_of_targets_is_marked_and_what_is_the_agents_own_is_not() {
        let rights = holdings(&[key("v1", "ConfigMap", Some("shop"), "a")]).rights("agents");

        for object in &rights.objects {
            let is_marked = object["metadata"]["labels"]["app.kubernetes.io/component"] == "targets";
            assert_eq!(is_marked, object["metadata"]["namespace"] == "shop", "{object:#}");
        }
        assert_eq!(rights.objects.len(), 6);
    }

    #[test]
    fn a_namespace_that_a_target_asks_for_and_the_agent_may_not_make_is_named() {
        let mut held = holdings(&[key("v1", "ConfigMap", Some("shop"), "a")]);
        held.add_own_namespace(&"shop".parse().expect("a name"));

        let narrow = held.rights("agents");
        held.add_own_namespace(&"tills".parse().expect("a name"));
        let two = held.rights("agents");
        held.add(&key("v1", "Namespace", None, "other"));
        let wide = held.rights("agents");

        let one = "With these rights the agent cannot make the namespace shop, as its target asks: make it first.";
        let both = "With these rights the agent cannot make the namespaces shop, tills, as their targets ask: make them first.";
        assert_eq!((narrow.notes, two.notes), (vec![one.to_owned()], vec![both.to_owned()]));
        assert_eq!(wide.notes, Vec::<String>::new());
    }

    #[test]
    fn what_is_written_as_an_account_is_that_accounts_right_and_the_agents_only_to_act_as_it() {
        let name = |text: &str| text.parse().expect("a name");
        let account = Account { namespace: name("shop"), name: name("deployer") };
        let mut held = holdings(&[key("v1", "Secret", Some("other"), "a")]);
        held.of(Some(account)).add(&key("v1", "ConfigMap", Some("shop"), "a"));

        let rights = held.rights("agents");

        let all = rules(&rights, "ClusterRole", None);
        let of_maps: Vec<_> = all.iter().filter(|rule| rule.to_string().contains("configmaps")).collect();
        let words = serde_json::to_string(&of_maps).expect("JSON");
        assert!(words.contains("configmaps") && !words.contains("patch"), "it watches them: {words}");
        let of = |name: &str, kind: &str| {
            let is_it = |object: &&Value| object["metadata"]["name"] == name && object["kind"] == kind;
            rights.objects.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {:#?}", rights.objects))
        };
        let acting = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["deployer"],
            "verbs": ["impersonate"]}]);
        assert_eq!(of("bellwether-agent-agents-as-shop.deployer", "Role")["rules"], acting);
        let subject = &of("bellwether-agent-agents-as-shop.deployer", "RoleBinding")["subjects"][0];
        assert_eq!((&subject["namespace"], &subject["name"]), (&json!("agents"), &json!(AGENT)));
        let of_account = &of("bellwether-agent-agents-of-shop.deployer", "Role")["rules"];
        assert_eq!(*of_account, json!([rule("", ["configmaps"], &APPLYING), rule("", ["configmaps"], &["delete"])]));
        let subject = &of("bellwether-agent-agents-of-shop.deployer", "RoleBinding")["subjects"][0];
        assert_eq!((&subject["namespace"], &subject["name"]), (&json!("shop"), &json!("deployer")));
        assert!(rights.notes.iter().any(|note| note.ends_with(": shop/deployer.")), "{:?}", rights.notes);
    }

    #[test]
    fn no_two_accounts_have_roles_of_one_name() {
        let name = |text: &str| text.parse().expect("a name");
        let mut held = Holdings::default();
        for (namespace, account) in [("shop", "deployer"), ("tills", "deployer"), ("a-b", "c"), ("a", "b-c")] {
            let of = held.of(Some(Account { namespace: name(namespace), name: name(account) }));
            of.add(&key("v1", "ConfigMap", Some("shared"), "a"));
            of.add(&key("rbac.authorization.k8s.io/v1", "ClusterRole", None, account));
            of.read(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "a"}, "spec": {"group": RBAC, "scope": "Cluster",
                "names": {"kind": "ClusterRole", "plural": "clusterroles"}}}));
        }

        let objects = held.rights("agents").objects;

        let names = objects.iter().map(|it| [&it["kind"], &it["metadata"]["namespace"], &it["metadata"]["name"]]);
        let names: BTreeSet<_> = names.map(|parts| parts.map(ToString::to_string)).collect();
        assert_eq!(names.len(), objects.len(), "{names:#?}");
        let of_shared = names.iter().filter(|[kind, place, _]| kind == "\"Role\"" && place == "\"shared\"");
        assert_eq!(of_shared.count(), 4, "{names:#?}");
        let of_cluster = names.iter().filter(|[kind, ..]| kind == "\"ClusterRole\"");
        assert_eq!(of_cluster.count(), 5, "{names:#?}");
    }

    #[test]
    fn what_no_rule_for_a_name_allows_is_said() {
        let mut held = holdings(&[
            key("rbac.authorization.k8s.io/v1", "Role", Some("shop"), "seed"),
            key("rbac.authorization.k8s.io/v1", "Role", Some("shop"), "reader"),
            key("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", None, "limits"),
        ]);
        for (name, mode) in [("seed", "once"), ("reader", "always")] {
            held.read(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": name, "namespace": "shop", "annotations": {APPLY_ANNOTATION: mode}}}));
        }

        let notes = held.rights("agents").notes;

        let of_once: Vec<_> = notes.iter().filter(|note| note.contains("applied once")).collect();
        assert!(matches!(of_once[..], [one] if one.contains("seed") && !one.contains("reader")), "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("`paramKind`")), "{notes:?}");
    }

    #[test]
    fn roles_are_made_and_bound_by_name_and_it_is_said() {
        let mut held = holdings(&[
            key("rbac.authorization.k8s.io/v1", "ClusterRole", None, "reader"),
            key("rbac.authorization.k8s.io/v1", "RoleBinding", Some("shop"), "a"),
        ]);
        held.read(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "a", "namespace": "shop"}, "roleRef": {"kind": "ClusterRole", "name": "view"}}));

        let rights = held.rights("agents");

        let named = |resource: &str, name: &str, verb: &str| json!({"apiGroups": [RBAC], "resources": [resource], "resourceNames": [name], "verbs": [verb]});
        assert!(rules(&rights, "ClusterRole", None).contains(&&named("clusterroles", "reader", "escalate")));
        assert!(rules(&rights, "Role", Some("shop")).contains(&&named("clusterroles", "view", "bind")));
        let words = serde_json::to_string(&rights.objects).expect("JSON");
        assert_eq!((words.matches("escalate").count(), words.matches("\"bind\"").count()), (1, 1));
        assert!(rights.notes.iter().any(|note| note.contains("`escalate`, `bind`")), "{:?}", rights.notes);
    }

    #[test]
    fn a_definition_says_the_name_of_a_resource_and_where_it_is_and_without_one_that_is_guessed_and_told() {
        let mut held = holdings(&[
            key("a.example.org/v1", "Mouse", Some("shop"), "a"),
            key("b.example.org/v1", "Gateway", Some("shop"), "b"),
        ]);
        assert_eq!(held.groups_undefined(), ["a.example.org", "b.example.org"].into());
        held.read(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "mice.a.example.org"},
            "spec": {"group": "a.example.org", "scope": "Cluster", "names": {"kind": "Mouse", "plural": "mice"}}}));

        let rights = held.rights("agents");

        assert!(rules(&rights, "ClusterRole", None).contains(&&rule("a.example.org", ["mice"], &APPLYING)));
        assert!(rules(&rights, "Role", Some("shop")).contains(&&rule("b.example.org", ["gateways"], &APPLYING)));
        assert_eq!(held.groups_undefined(), ["b.example.org"].into());
        assert!(rights.notes[0].ends_with(": gateways.b.example.org."), "{:?}", rights.notes);
    }

    #[test]
    fn the_names_of_resources_are_those_of_kubernetes() {
        let table = [
            ("Ingress", "ingresses"),
            ("NetworkPolicy", "networkpolicies"),
            ("Endpoints", "endpoints"),
            ("StorageClass", "storageclasses"),
        ];
        for (kind, plural) in table {
            assert_eq!(guessed_plural(kind), plural);
        }
    }
}
