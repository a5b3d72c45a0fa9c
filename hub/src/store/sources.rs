//! Other repos that targets are rendered from.

use std::collections::BTreeSet;

use bellwether_core::render::Source;
use bellwether_core::signature::Verified;
use bellwether_core::source::{GitRef, full_name};
use bellwether_core::{Name, RepoId, TargetId};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, StoreError};

/// Another repo that a render read, and where that was. Rows hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadSource {
    /// As it was asked for.
    pub(crate) source: Source,
    pub(crate) repo: RepoId,
    pub(crate) name: Name,
    /// Full name.
    #[serde(rename = "ref")]
    pub(crate) reference: String,
    pub(crate) commit: String,
    /// By which keys it was signed, when it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<Verified>,
}

impl ReadSource {
    /// The same files; who signed them may have been found out between.
    pub(crate) fn has_same_files(&self, other: &Self) -> bool {
        let without = |one: &Self| Self { verified: None, ..one.clone() };
        without(self) == without(other)
    }
}

/// A ref of another repo that a target minds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Minded {
    pub(crate) repo: RepoId,
    pub(crate) reference: GitRef,
}

/// Of a render's inputs, as its repo has them: its own ones, or those of a source.
pub(crate) fn inputs_of(inputs: &[String], sources: &[ReadSource], source: Option<&ReadSource>) -> BTreeSet<String> {
    let below = |input: &str, source: &ReadSource| {
        let rest = input.strip_prefix(&source.source.mount())?;
        match rest {
            "" | "/" | "/." => Some(rest.to_owned()),
            rest => rest.strip_prefix('/').map(str::to_owned),
        }
    };
    match source {
        Some(source) => inputs.iter().filter_map(|input| below(input, source)).collect(),
        None => {
            let is_own = |input: &&String| !sources.iter().any(|source| below(input, source).is_some());
            inputs.iter().filter(is_own).cloned().collect()
        }
    }
}

/// From now on the target minds these and no others.
pub(crate) async fn mark(db: &mut Connection, target: TargetId, minded: &BTreeSet<Minded>) -> Result<(), StoreError> {
    let repos: Vec<Uuid> = minded.iter().map(|one| one.repo.as_uuid()).collect();
    let names: Vec<String> = minded.iter().map(|one| full_name(&one.reference)).collect();
    let references: Vec<_> = minded.iter().map(|one| Json(&one.reference)).collect();
    sqlx::query!(
        r#"
        delete from target_sources s
         where target_id = $1
           and not exists (
               select from unnest($2::uuid[], $3::text[]) as k (repo_id, ref)
                where k.repo_id = s.repo_id and k.ref = s.ref
               )
        "#,
        target.as_uuid(),
        &repos,
        &names,
    )
    .execute(&mut *db)
    .await?;
    if minded.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into target_sources (target_id, repo_id, ref, reference)
        select $1, k.repo_id, k.ref, k.reference
          from unnest($2::uuid[], $3::text[], $4::jsonb[]) as k (repo_id, ref, reference)
            on conflict do nothing
        "#,
        target.as_uuid(),
        &repos,
        &names,
        &references as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Targets of a project that cannot be rendered because a source of theirs is no repo, or not one of the project's.
pub(crate) async fn list_lacking(
    db: &mut Connection,
    project: bellwether_core::ProjectId,
) -> Result<Vec<Uuid>, StoreError> {
    let targets = sqlx::query_scalar!(
        r#"
        select c.target_id
          from render_conditions c
          join targets t using (target_id)
         where t.project_id = $1 and starts_with(c.condition ->> 'code', 'source_')
        "#,
        project.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_read_of_a_source_is_told_apart_from_what_the_repo_has_itself() {
        let repo = "0193f0a0-0000-7000-8000-00000000000a";
        let source = |name: &str| {
            let source = json!({"repo": {"repo": name, "ref": {"branch": "main"}}});
            let read = json!({"source": source, "repo": repo, "name": name, "ref": "refs/heads/main", "commit": "c"});
            serde_json::from_value::<ReadSource>(read).expect("a source")
        };
        let sources = [source("env"), source("base")];
        let inputs = ["a.yaml", "b/", "env@main:/c.yaml", "env@main:/", "env@main:/d/.", "env@main:x", "base@main:/."];
        let inputs = inputs.map(str::to_owned);
        let of = |source| inputs_of(&inputs, &sources, source).into_iter().collect::<Vec<_>>();

        assert_eq!(of(None), ["a.yaml", "b/", "env@main:x"]);
        assert_eq!(of(Some(&sources[0])), ["/", "c.yaml", "d/."]);
        assert_eq!(of(Some(&sources[1])), ["/."]);
    }
}
