//! `minik delete`

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use http::Method;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use serde_json::Value;

use super::Cluster;
use super::apply::resource_of;
use super::get::{Namespace, targets};
use crate::client::resource::{Resource, Resources};
use crate::client::{self, manifest};
use crate::errors::Exit;

/// Delete objects, and wait until they are gone.
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    cluster: Cluster,
    /// TYPE NAME…, or TYPE/NAME…
    #[arg(required_unless_present = "filename")]
    what: Vec<String>,
    /// File, directory, or - for standard input; may be given again
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with = "what")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    namespace: Namespace,
}

impl Delete {
    pub fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.delete())
    }

    async fn delete(self) -> anyhow::Result<()> {
        let client = client::connect(&self.cluster.name)?;
        let resources = Resources::discover(&client).await?;
        let mut failed = false;
        let mut going = Vec::new();
        for (resource, namespace, name) in self.objects(&resources)? {
            match delete_one(&client, resource, &namespace, &name).await {
                Ok(uid) => {
                    let place = if resource.namespaced {
                        format!(" from {namespace} namespace")
                    } else {
                        String::new()
                    };
                    writeln!(std::io::stdout(), "{} {name:?} deleted{place}", resource.label())?;
                    going.push((resource, namespace, name, uid));
                }
                Err(error) => {
                    eprintln!("{}", crate::errors::report(&error).0.unwrap_or_default());
                    failed = true;
                }
            }
        }
        for (resource, namespace, name, uid) in going {
            await_condition(api(&client, resource, &namespace), &name, is_deleted(&uid)).await?;
        }
        if failed { Err(Exit(1).into()) } else { Ok(()) }
    }

    fn objects<'a>(&self, resources: &'a Resources) -> anyhow::Result<Vec<(&'a Resource, String, String)>> {
        if self.filename.is_empty() {
            return targets(resources, &self.what)?
                .into_iter()
                .map(|(resource, name)| match name {
                    Some(name) => Ok((resource, self.namespace.namespace.clone(), name)),
                    None => bail!("resource(s) were provided, but no name was specified"),
                })
                .collect();
        }
        manifest::read(&self.filename)?
            .iter()
            .map(|manifest| {
                let resource = resource_of(resources, manifest)?;
                let namespace = super::namespace_of(manifest, resource, &self.namespace.namespace)?;
                Ok((resource, namespace, manifest.text("/metadata/name").to_owned()))
            })
            .collect()
    }
}

/// Returns the object's uid: another may take its name before it is looked for.
async fn delete_one(client: &kube::Client, resource: &Resource, namespace: &str, name: &str) -> anyhow::Result<String> {
    let path = resource.path(Some(namespace), Some(name));
    let request = client::request(Method::DELETE, &path, "application/json", Vec::new())?;
    let answer: Value = serde_json::from_slice(&client::call(client, request).await?)?;
    // The object while it is going, a Status when it has gone.
    let uid = answer
        .pointer("/details/uid")
        .or_else(|| answer.pointer("/metadata/uid"));
    Ok(uid.and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn api(client: &kube::Client, resource: &Resource, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(&resource.group, &resource.version, &resource.kind);
    let kind = ApiResource::from_gvk_with_plural(&kind, &resource.plural);
    if resource.namespaced {
        Api::namespaced_with(client.clone(), namespace, &kind)
    } else {
        Api::all_with(client.clone(), &kind)
    }
}
