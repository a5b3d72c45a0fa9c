//! Whom an agent acts as when it asks for a target's objects: itself, or a ServiceAccount of the target's own namespace.

use std::fmt;

use crate::Name;
use crate::session::Assignment;

/// A ServiceAccount of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    pub namespace: Name,
    pub name: Name,
}

impl Account {
    /// As an API server calls it. Whoever acts as it is in the groups of all ServiceAccounts, and of those of its namespace:
    /// API servers see to that by themselves where no group is named.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// `shop/deployer`
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// For whom the API server takes the requests about an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ActsAs {
    #[default]
    Agent,
    Account(Account),
    /// A ServiceAccount is asked for, and nobody says of which namespace: then for nobody.
    Nobody,
}

impl ActsAs {
    /// About the objects of this assignment.
    pub fn of(assignment: &Assignment) -> Self {
        Self::named(assignment.options.service_account.as_ref(), assignment.namespace.as_ref())
    }

    /// The ServiceAccount of that name in that namespace; itself where none is named.
    pub fn named(service_account: Option<&Name>, namespace: Option<&Name>) -> Self {
        match (service_account, namespace) {
            (None, _) => Self::Agent,
            (Some(name), Some(namespace)) => {
                Self::Account(Account { namespace: namespace.clone(), name: name.clone() })
            }
            (Some(_), None) => Self::Nobody,
        }
    }

    /// The ServiceAccount, if there is one.
    pub fn account(&self) -> Option<&Account> {
        if let Self::Account(account) = self { Some(account) } else { None }
    }
}
