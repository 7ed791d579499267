//! `minik apply`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use http::{Method, header};
use serde_json::{Value, json};

use super::Cluster;
use super::get::{Namespace, object_name};
use crate::client::apply::{annotated, patch};
use crate::client::manifest::{self, Manifest};
use crate::client::resource::{Resource, ResourceError, Resources};
use crate::client::{self};
use crate::errors::{self, Exit, Rejected};

/// The same manager as kubectl, which the objects are shared with; unknown fields are refused.
const OPTIONS: &str = "?fieldManager=kubectl-client-side-apply&fieldValidation=Strict";

/// Make objects as manifests describe them.
#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    cluster: Cluster,
    /// File, directory, or - for standard input; may be given again
    #[arg(short = 'f', long, required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    namespace: Namespace,
}

impl Apply {
    pub fn run(self) -> anyhow::Result<()> {
        let manifests = manifest::read(&self.filename)?;
        super::runtime()?.block_on(self.apply(manifests))
    }

    /// Goes on after a refusal, as kubectl does, and fails in the end.
    async fn apply(self, manifests: Vec<Manifest>) -> anyhow::Result<()> {
        let client = client::connect(&self.cluster.name)?;
        let resources = Resources::discover(&client).await?;
        let mut failed = false;
        for manifest in manifests {
            match self.apply_one(&client, &resources, &manifest).await {
                Ok(did) => writeln!(std::io::stdout(), "{} {did}", object_name(&manifest.object))?,
                Err(error) => {
                    let (text, _) = errors::report(&error);
                    eprintln!("{}", text.unwrap_or_default());
                    failed = true;
                }
            }
        }
        if failed { Err(Exit(1).into()) } else { Ok(()) }
    }

    async fn apply_one(
        &self,
        client: &kube::Client,
        resources: &Resources,
        manifest: &Manifest,
    ) -> anyhow::Result<&'static str> {
        let resource = resource_of(resources, manifest)?;
        let mut object = manifest.object.clone();
        let namespace = super::namespace_of(manifest, resource, &self.namespace.namespace)?;
        if resource.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let wanted = annotated(&object);
        let name = manifest.text("/metadata/name");
        let path = resource.path(Some(&namespace), Some(name));
        let request = client::request(Method::GET, &path, "application/json", Vec::new())?;
        let current: Value = match client::call(client, request).await {
            Ok(body) => serde_json::from_slice(&body)?,
            Err(error) if Rejected::is_not_found(&error) => {
                let path = resource.path(Some(&namespace), None) + OPTIONS;
                return send(client, Method::POST, &path, "application/json", &wanted)
                    .await
                    .map(|_| "created")
                    .map_err(|error| {
                        Rejected::while_doing(error, format!("error when creating {:?}", manifest.source))
                    });
            }
            Err(error) => return Err(error),
        };
        let Some(patch) = patch(&current, &wanted) else {
            return Ok("unchanged");
        };
        let patched = send(
            client,
            Method::PATCH,
            &(path + OPTIONS),
            "application/merge-patch+json",
            &patch,
        )
        .await
        .map_err(|error| Rejected::while_doing(error, format!("error when applying patch to {:?}", manifest.source)))?;
        let same = patched["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"];
        Ok(if same { "unchanged" } else { "configured" })
    }
}

async fn send(client: &kube::Client, method: Method, path: &str, media: &str, body: &Value) -> anyhow::Result<Value> {
    let mut request = client::request(method, path, "application/json", serde_json::to_vec(body)?)?;
    request.headers_mut().insert(header::CONTENT_TYPE, media.parse()?);
    Ok(serde_json::from_slice(&client::call(client, request).await?)?)
}

/// The served kind of a manifest.
pub fn resource_of<'a>(resources: &'a Resources, manifest: &Manifest) -> Result<&'a Resource, ResourceError> {
    let (api_version, kind) = (manifest.text("/apiVersion"), manifest.text("/kind"));
    resources
        .of_kind(api_version, kind)
        .ok_or_else(|| ResourceError::UnknownKind {
            name: manifest.text("/metadata/name").to_owned(),
            namespace: manifest.text("/metadata/namespace").to_owned(),
            source_name: manifest.source.clone(),
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
        })
}
