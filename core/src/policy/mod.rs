//! What a cluster's owner allows its agent, whatever the hub says: from a document to decisions about single requests.
//!
//! The hub says whose a target is. So a rule for one project keeps honest projects apart, and what all rules allow together,
//! with `default`, is what a hub that was taken may have. Decides; reads no file and counts by the time that it is given.

mod deletions;
mod pattern;

use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::account::Account;
use crate::{Name, ObjectKey};

pub use deletions::{Deletions, Ticket};
use pattern::{KindPattern, Pattern};

/// The fact by which the hub is told of a cluster's policy, in a few words.
pub const FACT: &str = "agent.policy";

/// As much as a ConfigMap holds.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;

/// Rules, and patterns of one list of a rule: each object that is written is compared with them.
const ENTRIES_MAX: usize = 1_000;

/// What hubs of earlier versions, which tell no project, have.
const ONLY_PROJECT: &str = "default";

/// Before the reason of whatever is refused.
const REFUSED: &str = "refused by the cluster's policy: ";

/// The document, in the words that people write.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: ApiVersion,
    kind: Kind,
    /// Of projects that no rule names.
    default: Effect,
    #[serde(default, deserialize_with = "bounded")]
    projects: Vec<Rule>,
    /// In the whole cluster.
    #[serde(default)]
    prune_max_per_hour: Option<PerHour>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum ApiVersion {
    #[serde(rename = "bellwether.dev/v1")]
    V1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    AgentPolicy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Effect {
    #[default]
    Allow,
    Deny,
}

/// How much may be deleted within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
struct PerHour(u32);

/// What the projects may that it names. The first that names a project is the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    name: Pattern,
    /// Any, when left out. Also those of the accounts that are acted as.
    #[serde(default, deserialize_with = "some")]
    namespaces: Vec<Pattern>,
    #[serde(default)]
    cluster_scoped: ClusterScoped,
    #[serde(default)]
    kinds: Kinds,
    /// Their targets have to act as one of these; when left out, they may act as the agent too.
    #[serde(default, deserialize_with = "some")]
    service_accounts: Vec<Pattern>,
    #[serde(default)]
    prune: Effect,
    #[serde(default)]
    prune_max_per_hour: Option<PerHour>,
    #[serde(default)]
    dry_run: Effect,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kinds {
    /// Any, when left out.
    #[serde(default, deserialize_with = "some")]
    allow: Vec<KindPattern>,
    /// Also of what is allowed.
    #[serde(default, deserialize_with = "bounded")]
    deny: Vec<KindPattern>,
}

/// What is in no namespace: none of it, all, or these kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ClusterScoped {
    Any(bool),
    Kinds(Vec<KindPattern>),
}

impl Default for ClusterScoped {
    fn default() -> Self {
        Self::Any(false)
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// To apply, adopt or replace it, or to let go of it.
    Write,
    /// To ask what an apply would change.
    DryRun,
    Delete,
}

/// About one object.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub verb: Verb,
    /// Whose the target is, as the hub says.
    pub project: Option<&'a Name>,
    pub key: &'a ObjectKey,
    /// Whether its kind has namespaces, as the API server says: what is written of a namespace proves nothing.
    pub is_namespaced: bool,
    /// Whom the agent acts as; `None`: itself.
    pub account: Option<&'a Account>,
}

/// That something is not done, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub until: Until,
}

/// How long something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The policy or the assignment changes.
    Changed,
    /// The policy can be read.
    Readable,
    /// So long from now, as far as is known.
    After(Duration),
}

/// What the agent goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// The cluster's owner has said nothing.
    #[default]
    Unsaid,
    Policy(Box<Policy>),
    /// There is a policy, and nobody knows what it says: nothing is allowed. With the reason.
    Unreadable(String),
}

impl Policy {
    /// Why it is not done; `None`: it may be.
    pub fn refusal(&self, ask: &Ask<'_>) -> Option<Refusal> {
        let project = project_of(ask.project);
        let Some((index, rule)) = self.rule_of(project) else {
            let why = format!("no rule names the project \"{project}\", and default is deny");
            return (self.default == Effect::Deny).then(|| Refusal::by_rule(&why));
        };
        rule.objection(ask).map(|(field, why)| Refusal::by_rule(&format!("projects[{index}].{field} {why}")))
    }

    fn rule_of(&self, project: &str) -> Option<(usize, &Rule)> {
        self.projects.iter().enumerate().find(|(_, rule)| rule.name.covers(project))
    }

    /// Of the rule that names a project: which it is, how much may be deleted by it in an hour, and the field that says so.
    fn per_hour_of(&self, project: &str) -> Option<(usize, u32, String)> {
        let (index, rule) = self.rule_of(project)?;
        rule.prune_max_per_hour.map(|PerHour(max)| (index, max, format!("projects[{index}].pruneMaxPerHour")))
    }

    /// Why an object with `metadata.ownerReferences` is not written: the garbage collector deletes it with its owner, and
    /// neither asks this policy nor is counted.
    pub fn refusal_of_owned(&self, project: Option<&Name>) -> Option<Refusal> {
        let project = project_of(project);
        let rule = self.rule_of(project);
        let denies =
            rule.filter(|(_, rule)| rule.prune == Effect::Deny).map(|(index, _)| format!("projects[{index}].prune"));
        let counts = || self.per_hour_of(project).map(|(_, _, field)| field);
        let counts_all = || self.prune_max_per_hour.map(|_| "pruneMaxPerHour".to_owned());
        let field = denies.or_else(counts).or_else(counts_all)?;
        let why = "bounds what is deleted, and what has metadata.ownerReferences is deleted with its owner";
        Some(Refusal::by_rule(&format!("{field} {why}")))
    }

    /// In a few words, without what it holds: `2 projects, default deny`.
    pub fn summary(&self) -> String {
        let projects = match self.projects.len() {
            1 => "1 project".to_owned(),
            count => format!("{count} projects"),
        };
        format!("{projects}, default {}", if self.default == Effect::Allow { "allow" } else { "deny" })
    }
}

impl Rule {
    /// The field that does not allow it, and what it says.
    fn objection(&self, ask: &Ask<'_>) -> Option<(&'static str, String)> {
        let key = ask.key;
        if let Some(objection) = self.objection_to_place(ask) {
            return Some(objection);
        }
        if self.kinds.deny.iter().any(|pattern| pattern.covers(key)) {
            return Some(("kinds.deny", format!("denies {}", kind_of(key))));
        }
        if !self.kinds.allow.is_empty() && !self.kinds.allow.iter().any(|pattern| pattern.covers(key)) {
            return Some(("kinds.allow", format!("does not allow {}", kind_of(key))));
        }
        if let Some(objection) = self.objection_to_account(ask.account) {
            return Some(objection);
        }
        match ask.verb {
            Verb::Delete if self.prune == Effect::Deny => Some(("prune", "denies that anything is deleted".to_owned())),
            Verb::DryRun if self.dry_run == Effect::Deny => Some(("dryRun", "denies dry runs".to_owned())),
            Verb::Write | Verb::Delete | Verb::DryRun => None,
        }
    }

    fn objection_to_place(&self, ask: &Ask<'_>) -> Option<(&'static str, String)> {
        let key = ask.key;
        let of_namespaces =
            |name: &str| (!self.has_namespace(name)).then(|| ("namespaces", format!("does not allow \"{name}\"")));
        if ask.is_namespaced {
            // Without a namespace it is refused by whoever looks for its path.
            return of_namespaces(key.namespace.as_deref().unwrap_or_default());
        }
        let is_allowed = match &self.cluster_scoped {
            ClusterScoped::Any(is_allowed) => *is_allowed,
            ClusterScoped::Kinds(kinds) => kinds.iter().any(|pattern| pattern.covers(key)),
        };
        if !is_allowed {
            return Some(("clusterScoped", format!("does not allow {}", kind_of(key))));
        }
        // What is done to a namespace is done to all that is in it.
        if is_namespace(key) { of_namespaces(&key.name) } else { None }
    }

    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|pattern| pattern.covers(name))
    }

    /// Of which namespace the account is, the hub says, and so whose rights are used.
    fn objection_to_account(&self, account: Option<&Account>) -> Option<(&'static str, String)> {
        if let Some(account) = account.filter(|account| !self.has_namespace(account.namespace.as_str())) {
            return Some(("namespaces", format!("does not allow that of the ServiceAccount {account}")));
        }
        let is_allowed = |account: &Account| self.service_accounts.iter().any(|it| it.covers(account.name.as_str()));
        if self.service_accounts.is_empty() || account.is_some_and(is_allowed) {
            return None;
        }
        let names: Vec<_> = self.service_accounts.iter().map(Pattern::as_str).take(3).collect();
        let more = if self.service_accounts.len() > names.len() { ", …" } else { "" };
        let asked = format!("{}{more}", names.join(", "));
        let why = match account {
            Some(account) => format!("does not allow \"{}\": sync.serviceAccount has to be {asked}", account.name),
            None => format!("asks for a target with sync.serviceAccount: {asked}"),
        };
        Some(("serviceAccounts", why))
    }
}

impl Standing {
    /// Why it is not done; `None`: it may be.
    pub fn refusal(&self, ask: &Ask<'_>) -> Option<Refusal> {
        match self {
            Self::Unsaid => None,
            Self::Policy(policy) => policy.refusal(ask),
            Self::Unreadable(_) => self.unreadable(),
        }
    }

    /// Why an object with `metadata.ownerReferences` is not written: see [`Policy::refusal_of_owned`].
    pub fn refusal_of_owned(&self, project: Option<&Name>) -> Option<Refusal> {
        if let Self::Policy(policy) = self { policy.refusal_of_owned(project) } else { None }
    }

    /// Why nothing at all is done.
    pub fn unreadable(&self) -> Option<Refusal> {
        let Self::Unreadable(why) = self else { return None };
        let message = format!("{REFUSED}it cannot be read, so nothing is written: {why}");
        Some(Refusal { message, until: Until::Readable })
    }

    /// What the hub is told of it.
    pub fn summary(&self) -> Option<String> {
        match self {
            Self::Unsaid => None,
            Self::Policy(policy) => Some(policy.summary()),
            Self::Unreadable(_) => Some("unreadable: nothing is written".to_owned()),
        }
    }
}

impl Refusal {
    fn by_rule(why: &str) -> Self {
        Self { message: format!("{REFUSED}{why}"), until: Until::Changed }
    }
}

impl TryFrom<u32> for PerHour {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        let max = deletions::COUNTED_MAX;
        if (1..=max).contains(&(number as usize)) {
            return Ok(Self(number));
        }
        Err(format!("{number} is not within 1 and {max}; `prune: deny` allows none, and leaving it out any"))
    }
}

impl<'de> Deserialize<'de> for ClusterScoped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl<'de> Visitor<'de> for Word {
            type Value = ClusterScoped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or a list of kinds")
            }

            fn visit_bool<E>(self, is_allowed: bool) -> Result<ClusterScoped, E> {
                Ok(ClusterScoped::Any(is_allowed))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, kinds: A) -> Result<ClusterScoped, A::Error> {
                bounded(serde::de::value::SeqAccessDeserializer::new(kinds)).map(ClusterScoped::Kinds)
            }
        }
        deserializer.deserialize_any(Word)
    }
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.len() > ENTRIES_MAX {
        return Err(D::Error::custom(format!("{} entries are more than {ENTRIES_MAX}", list.len())));
    }
    Ok(list)
}

/// An empty list could be read as none and as any.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list: Vec<T> = bounded(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom("an empty list: leave it out to allow any, or name some"));
    }
    Ok(list)
}

fn project_of(project: Option<&Name>) -> &str {
    project.map_or(ONLY_PROJECT, Name::as_str)
}

/// Or what is one by another name.
pub fn is_namespace(key: &ObjectKey) -> bool {
    matches!((key.group(), key.kind.as_str()), ("", "Namespace") | ("project.openshift.io", "Project"))
}

fn kind_of(key: &ObjectKey) -> String {
    let group = if key.group().is_empty() { pattern::CORE_GROUP } else { key.group() };
    format!("{group}/{}", key.kind)
}

#[cfg(test)]
mod tests;
