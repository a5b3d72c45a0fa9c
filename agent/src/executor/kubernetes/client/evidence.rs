//! Whether a kind that discovery does not list can have objects all the same.
//!
//! Asks those that know: the definitions, which stand in storage before and after they are published, and the list of the
//! API servers that others run beside this one.

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

/// Whether another API server is registered for this group.
pub(super) async fn is_served_elsewhere(requests: &Requests, group: &str) -> Result<bool, ClusterError> {
    let services: Vec<Value> = requests.get(API_SERVICES).await?.items()?;
    Ok(services.iter().any(|item| item["spec"]["group"] == group && item["spec"]["service"].is_object()))
}
