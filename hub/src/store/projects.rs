//! Projects. A repo and a target belong to one, and are called what no other of the same project is; nobody finds by name
//! what another project has. A cluster is lent to one, and its name is the installation's.

use bellwether_core::{Name, ProjectId};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Connection, StoreError, name, to_sql};

/// The project that every installation has, and the only one as yet.
pub(crate) const DEFAULT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) name: Name,
}

impl Project {
    /// As a row of something in it says.
    pub(super) fn read(id: Uuid, text: &str) -> Result<Self, StoreError> {
        Ok(Self { id: ProjectId::new(id), name: name(text, "projects")? })
    }
}

pub(crate) async fn ensure(
    db: &mut Connection,
    proposed: ProjectId,
    name: Name,
    now: Timestamp,
) -> Result<Project, StoreError> {
    sqlx::query!(
        "insert into projects (project_id, name, created_at) values ($1, $2, $3) on conflict do nothing",
        proposed.as_uuid(),
        name.as_str(),
        to_sql(now),
    )
    .execute(&mut *db)
    .await?;
    let id =
        sqlx::query_scalar!("select project_id from projects where name = $1", name.as_str()).fetch_one(db).await?;
    Ok(Project { id: ProjectId::new(id), name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::Pool;

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_project_keeps_the_id_that_it_was_given_first(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let [first, second, other] = [(); 3].map(|()| ProjectId::new(clock::new_id()));
        let mut ensure = async |id, name: &str| {
            ensure(&mut db, id, name.parse().expect("a name"), clock::now()).await.expect("it is there")
        };

        let made = ensure(first, DEFAULT).await;
        let again = ensure(second, DEFAULT).await;
        let another = ensure(other, "another").await;

        assert_eq!((made.id, &again), (first, &made));
        assert_eq!(another.id, other);
    }

    #[test]
    fn a_row_whose_project_has_no_name_of_ours_cannot_be_read() {
        let read = Project::read(clock::new_id(), "Not A Name");

        assert!(matches!(read, Err(StoreError::Unreadable { table: "projects", .. })), "{read:?}");
    }
}
