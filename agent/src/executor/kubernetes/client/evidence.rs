//! Whether a kind that discovery does not list can have objects all the same.
//!
//! Asks those that know: the definitions, which stand in storage before and after they are published, and the list of who
//! serves which group, this API server among them.

use std::collections::BTreeSet;

use bellwether_core::ObjectKey;
use serde_json::Value;

use super::ClusterError;
use super::request::Requests;

pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Whether a definition of this group and kind is stored. Names are listed and not bodies, which are large; a definition's
/// name ends with its group.
pub(super) async fn is_defined(requests: &Requests, key: &ObjectKey) -> Result<bool, ClusterError> {
    let definitions: Vec<Value> = requests.list_metadata(DEFINITIONS).await?.items()?;
    let names = definitions.iter().filter_map(|item| item["metadata"]["name"].as_str());
    for name in names.filter(|name| name.split_once('.').is_some_and(|(_, group)| group == key.group())) {
        let definition = match requests.get(&format!("{DEFINITIONS}/{name}")).await {
            Ok(answer) => answer.decode::<Value>()?,
            Err(ClusterError::NotFound) => continue,
            Err(error) => return Err(error),
        };
        if definition["spec"]["names"]["kind"] == key.kind.as_str() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an API server is registered for this group: another one, or this very one, whose own groups and those that have a
/// definition stand there too. So a reading that lacks them is not believed.
pub(super) async fn is_registered(requests: &Requests, group: &str) -> Result<bool, ClusterError> {
    let services: Vec<Value> = requests.get(API_SERVICES).await?.items()?;
    Ok(services.iter().any(|item| item["spec"]["group"].as_str().unwrap_or_default() == group))
}

/// Groups that another API server serves, as one version of them or as each.
pub(super) async fn served_elsewhere(requests: &Requests) -> Result<BTreeSet<String>, ClusterError> {
    Ok(elsewhere(&requests.get(API_SERVICES).await?.items()?))
}

/// What an API server serves by itself names no service.
fn elsewhere(services: &[Value]) -> BTreeSet<String> {
    let others = services.iter().filter(|item| !item["spec"]["service"].is_null());
    others.map(|item| item["spec"]["group"].as_str().unwrap_or_default().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_that_names_a_service_is_served_elsewhere() {
        let own = json!({"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}});
        let service = json!({"name": "metrics-server", "namespace": "kube-system"});
        let others = json!({"spec": {"group": "metrics.k8s.io", "version": "v1beta1", "service": service}});

        assert_eq!(elsewhere(&[own, others]), BTreeSet::from(["metrics.k8s.io".to_owned()]));
    }
}
