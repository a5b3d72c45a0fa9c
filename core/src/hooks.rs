//! What Helm and Argo CD call hooks: objects that are made at a time of their own beside what is installed, and that may ask
//! to be deleted once they have run.
//!
//! Reads their annotations, and nothing else. Here a hook is made once, at the first of the times that it names, and again
//! when its content changes: nobody tells an agent that a change is one of a release. Which phase that is, is told in
//! [`crate::apply`].

use serde_json::Value;

use crate::health::{self, Ending};

/// Helm's: the times at which an object is made that is no part of a release.
pub const HELM_HOOK: &str = "helm.sh/hook";
/// Helm's order of the hooks of one time: a whole number, 0 when there is none.
const HELM_WEIGHT: &str = "helm.sh/hook-weight";
/// Helm's: what becomes of a hook that ran, or that ran before.
const HELM_DELETE_POLICY: &str = "helm.sh/hook-delete-policy";
/// Argo CD's: the same. An object that has one with a word of Argo CD's is no hook of Helm.
pub const ARGO_HOOK: &str = "argocd.argoproj.io/hook";
const ARGO_DELETE_POLICY: &str = "argocd.argoproj.io/hook-delete-policy";
/// Argo CD's order, of hooks too.
pub const SYNC_WAVE: &str = "argocd.argoproj.io/sync-wave";

/// On an object of a bundle, by whoever rendered it: [`UPGRADE`] is a hook that runs when the target has had another bundle
/// in the cluster. Agents that do not know it refuse the object, which is better than to run it at an installation.
pub const HOOK_ANNOTATION: &str = "bellwether.dev/hook";
/// All that [`HOOK_ANNOTATION`] may say.
pub const UPGRADE: &str = "upgrade";

/// Of what Argo CD knows, what makes a hook one of its own.
const ARGO_TIMES: [&str; 7] = ["PreSync", "Sync", "PostSync", "SyncFail", "PreDelete", "PostDelete", "Skip"];

/// When a hook is made, in the order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// Before everything else that is installed.
    Before(i32),
    /// With it.
    Amid(i32),
    /// When all of it is well.
    After(i32),
    /// It says that it is not to be applied.
    Skipped,
    /// A target has none of its times: it is deleted, rolled back or tested, or its change failed.
    Never,
}

/// What becomes of a hook that ran, or that ran before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletePolicy {
    /// The one before is deleted before it is made: so do both tools unless it says something else.
    pub before_creation: bool,
    pub succeeded: bool,
    pub failed: bool,
}

/// When the object is made; `None`: it is no hook.
pub fn time<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> Option<Time> {
    if let Some(times) = argos(&annotation) {
        return Some(argos_time(times, &annotation));
    }
    let helms = annotation(HELM_HOOK).map(|times| helms_time(times, &annotation));
    // A word that Argo CD does not know is made by nobody: it is mistyped, as a rule.
    helms.or(annotation(ARGO_HOOK).map(|_| Time::Never))
}

/// Whether Helm makes the hook only when it upgrades.
pub fn is_of_upgrades<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> bool {
    has_helms(annotation, &["pre-upgrade", "post-upgrade"], &["pre-install", "post-install", "crd-install"])
}

/// Whether Helm makes the hook only when it installs.
pub fn is_of_installations<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> bool {
    has_helms(annotation, &["pre-install", "post-install"], &["pre-upgrade", "post-upgrade"])
}

/// It is a hook of Helm, of one of these times and none of those.
fn has_helms<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>, some: &[&str], none: &[&str]) -> bool {
    let Some(times) = annotation(HELM_HOOK).filter(|_| argos(&annotation).is_none()) else { return false };
    let has = |searched: &[&str]| words(times).any(|word| searched.contains(&word));
    has(some) && !has(none)
}

/// Its times as Argo CD has them, if it knows one of them.
fn argos<'a>(annotation: &impl Fn(&'static str) -> Option<&'a str>) -> Option<&'a str> {
    annotation(ARGO_HOOK).filter(|times| words(times).any(|word| ARGO_TIMES.contains(&word)))
}

fn argos_time<'a>(times: &str, annotation: &impl Fn(&'static str) -> Option<&'a str>) -> Time {
    let has = |searched: &str| words(times).any(|word| word == searched);
    let weight = annotation(SYNC_WAVE).and_then(number).or_else(|| annotation(HELM_WEIGHT).and_then(number));
    let weight = weight.unwrap_or_default();
    let of_times = [
        ("PreSync", Time::Before(weight)),
        ("Sync", Time::Amid(weight)),
        ("PostSync", Time::After(weight)),
        ("SyncFail", Time::Never),
        ("PreDelete", Time::Never),
        ("PostDelete", Time::Never),
    ];
    // Beside another time, Argo CD takes no notice of it.
    of_times.into_iter().find(|(name, _)| has(name)).map_or(Time::Skipped, |(_, time)| time)
}

fn helms_time<'a>(times: &str, annotation: &impl Fn(&'static str) -> Option<&'a str>) -> Time {
    let has = |searched: &str| words(times).any(|word| word == searched);
    let weight = annotation(HELM_WEIGHT).and_then(number).unwrap_or_default();
    // What is of an installation decides: a hook that comes after that and before an upgrade needs what is installed.
    let of_times = [
        ("pre-install", Time::Before(weight)),
        ("post-install", Time::After(weight)),
        ("pre-upgrade", Time::Before(weight)),
        ("post-upgrade", Time::After(weight)),
        // Of Helm 2: definitions, which come first by their kind.
        ("crd-install", Time::Amid(annotation(SYNC_WAVE).and_then(number).unwrap_or_default())),
    ];
    of_times.into_iter().find(|(name, _)| has(name)).map_or(Time::Never, |(_, time)| time)
}

/// What becomes of the object by the policies that both tools have; of what is no hook nothing.
pub fn delete_policy<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> DeletePolicy {
    if annotation(HELM_HOOK).is_none() && annotation(ARGO_HOOK).is_none() {
        return DeletePolicy::default();
    }
    let policies = [HELM_DELETE_POLICY, ARGO_DELETE_POLICY].map(|name| annotation(name).unwrap_or_default());
    let has = |helms: &str, argos: &str| policies.iter().any(|it| words(it).any(|word| word == helms || word == argos));
    let says_nothing = policies.iter().all(|policy| words(policy).next().is_none());
    DeletePolicy {
        before_creation: says_nothing || has("before-hook-creation", "BeforeHookCreation"),
        succeeded: has("hook-succeeded", "HookSucceeded"),
        failed: has("hook-failed", "HookFailed"),
    }
}

/// What becomes of the run that is there when another one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// It stays, and the new one is applied to it.
    Stays,
    /// It runs, and is to go before the new one is made.
    Runs,
    /// It is deleted, and the new one is made.
    Goes,
}

impl Former {
    /// What is wanted asks for the one before to go, and what is there for itself to go as it ended: it may be that its time
    /// has not come yet, or that nobody was there to delete it.
    pub fn of(wanted: &Value, there: &Value) -> Self {
        let policy = delete_policy(annotations_of(there));
        let is_made_anew = delete_policy(annotations_of(wanted)).before_creation;
        match health::ending(there) {
            _ if !is_made_anew && !policy.succeeded && !policy.failed => Self::Stays,
            None => Self::Runs,
            Some(ending) if is_made_anew || policy.covers(ending) => Self::Goes,
            Some(_) => Self::Stays,
        }
    }
}

impl DeletePolicy {
    /// Whether what ended so is to be deleted.
    pub fn covers(self, ending: Ending) -> bool {
        match ending {
            Ending::Succeeded => self.succeeded,
            Ending::Failed => self.failed,
        }
    }
}

/// The annotations of an object as JSON.
pub fn annotations_of<'a>(object: &'a Value) -> impl Fn(&'static str) -> Option<&'a str> {
    let annotations = &object["metadata"]["annotations"];
    move |name| annotations.get(name)?.as_str()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

pub(crate) fn number(text: &str) -> Option<i32> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(annotations: &[(&str, &str)]) -> Value {
        let annotations: std::collections::BTreeMap<_, _> = annotations.iter().copied().collect();
        json!({"metadata": {"annotations": annotations}})
    }

    fn time_of(annotations: &[(&str, &str)]) -> Option<Time> {
        time(annotations_of(&object(annotations)))
    }

    #[test]
    fn a_hook_is_made_at_the_first_of_its_times_in_the_order_of_its_tool() {
        for (annotations, expected) in [
            (&[(ARGO_HOOK, "PreSync")][..], Time::Before(0)),
            (&[(ARGO_HOOK, " PostSync , PreSync"), (SYNC_WAVE, "-2")], Time::Before(-2)),
            (&[(ARGO_HOOK, "Sync"), (SYNC_WAVE, "3"), (HELM_WEIGHT, "4")], Time::Amid(3)),
            (&[(ARGO_HOOK, "PostSync,Skip"), (HELM_WEIGHT, "4")], Time::After(4)),
            (&[(ARGO_HOOK, "SyncFail,PostSync")], Time::After(0)),
            (&[(ARGO_HOOK, "SyncFail")], Time::Never),
            (&[(ARGO_HOOK, "PostDelete"), (HELM_HOOK, "pre-install")], Time::Never),
            (&[(ARGO_HOOK, "Skip")], Time::Skipped),
            (&[(ARGO_HOOK, "presync")], Time::Never),
            (&[(ARGO_HOOK, "soon"), (HELM_HOOK, "pre-install")], Time::Before(0)),
            (&[(HELM_HOOK, "post-install,pre-upgrade"), (HELM_WEIGHT, "2"), (SYNC_WAVE, "9")], Time::After(2)),
            (&[(HELM_HOOK, "pre-upgrade")], Time::Before(0)),
            (&[(HELM_HOOK, "test, pre-rollback")], Time::Never),
        ] {
            assert_eq!(time_of(annotations), Some(expected), "{annotations:?}");
        }
        assert_eq!(time_of(&[(SYNC_WAVE, "1")]), None);
    }

    #[test]
    fn what_an_installation_makes_too_is_not_of_upgrades_alone() {
        let is_of = |annotations: &[(&str, &str)]| is_of_upgrades(annotations_of(&object(annotations)));

        assert!(is_of(&[(HELM_HOOK, "pre-upgrade, post-rollback")]) && is_of(&[(HELM_HOOK, "post-upgrade")]));
        assert!(!is_of(&[(HELM_HOOK, "pre-install,pre-upgrade")]) && !is_of(&[(HELM_HOOK, "pre-rollback")]));
        assert!(!is_of(&[(HELM_HOOK, "pre-upgrade"), (ARGO_HOOK, "PreSync")]) && !is_of(&[]));
        let is_of = |annotations: &[(&str, &str)]| is_of_installations(annotations_of(&object(annotations)));
        assert!(is_of(&[(HELM_HOOK, "post-install, post-rollback")]) && is_of(&[(HELM_HOOK, "pre-install")]));
        assert!(!is_of(&[(HELM_HOOK, "pre-install,post-upgrade")]) && !is_of(&[(HELM_HOOK, "pre-upgrade")]));
        assert!(!is_of(&[(HELM_HOOK, "pre-install"), (ARGO_HOOK, "PreSync")]) && !is_of(&[]));
    }

    #[test]
    fn a_run_makes_room_for_another_as_that_one_asks_or_as_it_asks_itself() {
        let job = |policy: &str, ending: Option<&str>| {
            let conditions: Vec<_> = ending.map(|kind| json!({"type": kind, "status": "True"})).into_iter().collect();
            json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": conditions},
                "metadata": {"annotations": {HELM_HOOK: "pre-install", HELM_DELETE_POLICY: policy}}})
        };
        let wanted = |policy: &str| job(policy, None);
        let (succeeded, failed) = (Some("Complete"), Some("Failed"));

        for (wants, there, ending, expected) in [
            ("hook-succeeded", "hook-succeeded", succeeded, Former::Goes),
            ("hook-failed", "hook-succeeded", succeeded, Former::Goes),
            ("hook-succeeded", "hook-succeeded", failed, Former::Stays),
            ("hook-succeeded", "hook-failed", failed, Former::Goes),
            ("hook-succeeded", "hook-succeeded", None, Former::Runs),
            ("hook-succeeded", "before-hook-creation", succeeded, Former::Stays),
            ("hook-succeeded", "before-hook-creation", None, Former::Stays),
            ("before-hook-creation", "hook-succeeded", failed, Former::Goes),
            ("", "before-hook-creation", None, Former::Runs),
        ] {
            assert_eq!(Former::of(&wanted(wants), &job(there, ending)), expected, "{wants} after {there} {ending:?}");
        }
    }

    #[test]
    fn a_hook_is_made_anew_unless_it_says_something_else_and_goes_only_if_it_says_so() {
        let (helms, argos) = ((HELM_HOOK, "post-install"), (ARGO_HOOK, "PostSync"));
        let policy = |annotations: &[(&str, &str)]| {
            let DeletePolicy { before_creation, succeeded, failed } =
                delete_policy(annotations_of(&object(annotations)));
            (before_creation, succeeded, failed)
        };

        assert_eq!(policy(&[helms]), (true, false, false));
        assert_eq!(policy(&[helms, (HELM_DELETE_POLICY, "hook-succeeded")]), (false, true, false));
        let all = "before-hook-creation,hook-succeeded, hook-failed";
        assert_eq!(policy(&[helms, (HELM_DELETE_POLICY, all)]), (true, true, true));
        assert_eq!(policy(&[argos, (ARGO_DELETE_POLICY, "HookFailed")]), (false, false, true));
        assert_eq!(policy(&[argos, (ARGO_DELETE_POLICY, "BeforeHookCreation,HookSucceeded")]), (true, true, false));
        assert_eq!(policy(&[argos]), (true, false, false));
        assert_eq!(policy(&[(HELM_DELETE_POLICY, all)]), (false, false, false), "it is no hook");
    }
}
