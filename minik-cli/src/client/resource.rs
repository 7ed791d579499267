//! From what people type (`svc`, `deployments.apps`, `pod/web`, `all`) to what the server serves, by its own
//! discovery. Pure but for [`Resources::discover`].

use kube::Client;
use kube::core::discovery::v2::APIGroupDiscoveryList;

use crate::errors::Rejected;

/// A served kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// `Service`
    pub kind: String,
    /// `services`
    pub plural: String,
    /// `service`
    pub singular: String,
    /// `["svc"]`
    pub short_names: Vec<String>,
    /// `["all"]`
    pub categories: Vec<String>,
    /// Whether objects lie in a namespace.
    pub namespaced: bool,
}

/// What the server serves, in its order.
#[derive(Debug, Clone)]
pub struct Resources(Vec<Resource>);

/// No such kind.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// kubectl's words.
    #[error("the server doesn't have a resource type {0:?}")]
    UnknownType(String),
    /// kubectl's words, for a manifest.
    #[error(
        "resource mapping not found for name: {name:?} namespace: {namespace:?} from {source_name:?}: no matches for \
         kind {kind:?} in version {api_version:?}\nensure CRDs are installed first"
    )]
    UnknownKind {
        /// `metadata.name`
        name: String,
        /// `metadata.namespace`
        namespace: String,
        /// File.
        source_name: String,
        /// `kind`
        kind: String,
        /// `apiVersion`
        api_version: String,
    },
}

impl Resource {
    /// `v1` or `apps/v1`
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `service` or `deployment.apps`: how output names objects.
    #[must_use]
    pub fn label(&self) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            kind
        } else {
            format!("{kind}.{}", self.group)
        }
    }

    /// Path of the kind in a namespace (`None` is all of them), or of one object.
    #[must_use]
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            "/api".to_owned()
        } else {
            format!("/apis/{}", self.group)
        };
        let namespace = namespace
            .filter(|_| self.namespaced)
            .map(|it| format!("/namespaces/{it}"))
            .unwrap_or_default();
        let name = name.map(|it| format!("/{it}")).unwrap_or_default();
        format!("{root}/{}{namespace}/{}{name}", self.version, self.plural)
    }

    fn answers_to(&self, word: &str) -> bool {
        let is = |name: &str| name == word || (word.strip_prefix(name) == Some(&*format!(".{}", self.group)));
        is(&self.plural)
            || is(&self.singular)
            || self.short_names.iter().any(|name| is(name))
            || is(&self.kind.to_lowercase())
    }
}

impl Resources {
    /// Asks the server, in two requests as kubectl does.
    ///
    /// # Errors
    /// The request's.
    pub async fn discover(client: &Client) -> Result<Self, anyhow::Error> {
        let core = client
            .list_core_api_versions_aggregated()
            .await
            .map_err(Rejected::from_kube)?;
        let groups = client.list_api_groups_aggregated().await.map_err(Rejected::from_kube)?;
        Ok(Self([core, groups].into_iter().flat_map(flatten).collect()))
    }

    /// All of them, in the order of discovery.
    pub fn all(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter()
    }

    /// The kinds that a word names: one, or those of a category.
    ///
    /// # Errors
    /// [`ResourceError::UnknownType`]
    pub fn named(&self, word: &str) -> Result<Vec<&Resource>, ResourceError> {
        let lower = word.to_lowercase();
        if let Some(one) = self.0.iter().find(|resource| resource.answers_to(&lower)) {
            return Ok(vec![one]);
        }
        let category: Vec<_> = self
            .0
            .iter()
            .filter(|resource| resource.categories.contains(&lower))
            .collect();
        if category.is_empty() {
            Err(ResourceError::UnknownType(word.to_owned()))
        } else {
            Ok(category)
        }
    }

    /// The kind of a manifest.
    #[must_use]
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        self.0
            .iter()
            .find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }
}

fn flatten(list: APIGroupDiscoveryList) -> Vec<Resource> {
    let mut resources = Vec::new();
    for group in list.items {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        for version in group.versions {
            let version_name = version.version.unwrap_or_default();
            for resource in version.resources {
                resources.push(Resource {
                    group: name.clone(),
                    version: version_name.clone(),
                    kind: resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default(),
                    plural: resource.resource.unwrap_or_default(),
                    singular: resource.singular_resource.unwrap_or_default(),
                    short_names: resource.short_names,
                    categories: resource.categories,
                    namespaced: resource.scope.as_deref() == Some("Namespaced"),
                });
            }
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, kind: &str, plural: &str, short: &[&str], categories: &[&str]) -> Resource {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Resource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            short_names: owned(short),
            categories: owned(categories),
            namespaced: kind != "Node",
        }
    }

    fn served() -> Resources {
        Resources(vec![
            resource("", "Node", "nodes", &["no"], &[]),
            resource("", "Service", "services", &["svc"], &["all"]),
            resource("apps", "Deployment", "deployments", &["deploy"], &["all"]),
        ])
    }

    #[test]
    fn people_have_many_words_for_a_kind() {
        for word in ["svc", "service", "services", "Service"] {
            assert_eq!(served().named(word).unwrap()[0].kind, "Service", "{word}");
        }
        for word in ["deploy", "deployment.apps", "deployments.apps", "deploy.apps"] {
            assert_eq!(served().named(word).unwrap()[0].kind, "Deployment", "{word}");
        }
        assert_eq!(served().named("all").unwrap().len(), 2);
        for word in ["nope", "services.apps", "svcs", ""] {
            assert_eq!(served().named(word), Err(ResourceError::UnknownType(word.to_owned())));
        }
    }

    #[test]
    fn paths_are_the_servers() {
        let served = served();
        let [node, service, deployment] = [&served.0[0], &served.0[1], &served.0[2]];
        assert_eq!(node.path(Some("default"), Some("worker1")), "/api/v1/nodes/worker1");
        assert_eq!(service.path(None, None), "/api/v1/services");
        assert_eq!(
            deployment.path(Some("a"), Some("web")),
            "/apis/apps/v1/namespaces/a/deployments/web"
        );
        assert_eq!(deployment.label(), "deployment.apps");
    }
}
