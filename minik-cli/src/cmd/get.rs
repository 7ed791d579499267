//! `minik get`

use std::io::Write;

use anyhow::bail;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::Cluster;
use crate::client::resource::{Resource, Resources};
use crate::client::table::{Style, Table, print};
use crate::client::{self, yaml};

/// What kubectl asks for when it prints for people.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Show objects.
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    cluster: Cluster,
    /// TYPE [NAME…], TYPE,TYPE or TYPE/NAME…
    #[arg(required = true)]
    what: Vec<String>,
    #[command(flatten)]
    namespace: Namespace,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// wide, yaml, json or name
    #[arg(short, long)]
    output: Option<Output>,
    /// Print no header line
    #[arg(long)]
    no_headers: bool,
}

/// Which namespace a command is about.
#[derive(Debug, Args)]
pub struct Namespace {
    /// Namespace
    #[arg(short = 'n', long, default_value = "default")]
    pub namespace: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Wide,
    Yaml,
    Json,
    Name,
}

impl Get {
    pub fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.get())
    }

    async fn get(self) -> anyhow::Result<()> {
        let client = client::connect(&self.cluster.name)?;
        let resources = Resources::discover(&client).await?;
        let wanted = targets(&resources, &self.what)?;
        match self.output {
            None | Some(Output::Wide) => self.tables(&client, &wanted).await,
            Some(output) => self.objects(&client, &wanted, output).await,
        }
    }

    fn path(&self, resource: &Resource, name: Option<&str>) -> String {
        let namespace = (!self.all_namespaces).then_some(self.namespace.namespace.as_str());
        let path = resource.path(namespace, name);
        let query = self
            .selector
            .as_deref()
            .filter(|_| name.is_none())
            .map(|selector| format!("?labelSelector={}", super::percent_encode(selector)));
        path + &query.unwrap_or_default()
    }

    async fn tables(&self, client: &kube::Client, wanted: &[(&Resource, Option<String>)]) -> anyhow::Result<()> {
        let several = wanted.iter().any(|(resource, _)| *resource != wanted[0].0);
        let mut blocks: Vec<(&Resource, Table)> = Vec::new();
        for (resource, name) in wanted {
            let request = client::request(Method::GET, &self.path(resource, name.as_deref()), TABLE, Vec::new())?;
            let table: Table = serde_json::from_slice(&client::call(client, request).await?)?;
            match blocks.last_mut() {
                // Names of one kind are one table.
                Some((last, so_far)) if last == resource => so_far.rows.extend(table.rows),
                _ => blocks.push((resource, table)),
            }
        }
        let mut printed = Vec::new();
        for (resource, table) in &blocks {
            let label = resource.label();
            let style = Style {
                wide: self.output == Some(Output::Wide),
                no_headers: self.no_headers,
                with_namespace: self.all_namespaces && resource.namespaced,
                kind: several.then_some(&*label),
            };
            let text = print(table, style);
            if !text.is_empty() {
                printed.push(text);
            }
        }
        if printed.is_empty() {
            if self.all_namespaces || !blocks.iter().any(|(resource, _)| resource.namespaced) {
                eprintln!("No resources found");
            } else {
                eprintln!("No resources found in {} namespace.", self.namespace.namespace);
            }
        }
        std::io::stdout().write_all(printed.join("\n").as_bytes())?;
        Ok(())
    }

    async fn objects(
        &self,
        client: &kube::Client,
        wanted: &[(&Resource, Option<String>)],
        output: Output,
    ) -> anyhow::Result<()> {
        let mut items: Vec<Value> = Vec::new();
        for (resource, name) in wanted {
            let path = self.path(resource, name.as_deref());
            let request = client::request(Method::GET, &path, "application/json", Vec::new())?;
            let mut answer: Value = serde_json::from_slice(&client::call(client, request).await?)?;
            match answer.get_mut("items").map(Value::take) {
                Some(Value::Array(list)) => items.extend(list.into_iter().map(|item| typed(item, resource))),
                _ => items.push(answer),
            }
        }
        items.iter_mut().for_each(hide_managed_fields);
        let text = match output {
            Output::Name => items.iter().map(|item| object_name(item) + "\n").collect(),
            _ => {
                let single = matches!(wanted, [(_, Some(_))]);
                let value = match items.pop() {
                    Some(only) if single => only,
                    last => {
                        items.extend(last);
                        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
                    }
                };
                if output == Output::Yaml {
                    yaml::to_string(&value)?
                } else {
                    pretty(&value)?
                }
            }
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

/// kubectl indents JSON by four.
fn pretty(value: &Value) -> anyhow::Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

/// Items of a list do not say what they are.
fn typed(mut item: Value, resource: &Resource) -> Value {
    item["apiVersion"] = json!(resource.api_version());
    item["kind"] = json!(resource.kind);
    item
}

fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

/// `deployment.apps/web`
pub fn object_name(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["apiVersion"]
        .as_str()
        .and_then(|version| version.split_once('/'))
    {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// What `TYPE NAME…`, `TYPE,TYPE` and `TYPE/NAME…` mean: kinds, each with a name or all of them.
pub fn targets<'a>(resources: &'a Resources, words: &[String]) -> anyhow::Result<Vec<(&'a Resource, Option<String>)>> {
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((kind, name)) => Ok((single(resources, kind)?, Some(name.to_owned()))),
                None => bail!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'minik get resource/<resource_name>' instead of 'minik get resource resource/<resource_name>'"),
            })
            .collect();
    }
    let Some((kinds, names)) = words.split_first() else {
        return Ok(Vec::new());
    };
    let mut wanted = Vec::new();
    for kind in kinds.split(',') {
        for resource in resources.named(kind)? {
            if names.is_empty() {
                wanted.push((resource, None));
            }
            wanted.extend(names.iter().map(|name| (resource, Some(name.clone()))));
        }
    }
    Ok(wanted)
}

fn single<'a>(resources: &'a Resources, kind: &str) -> anyhow::Result<&'a Resource> {
    match resources.named(kind)?.as_slice() {
        [only] => Ok(only),
        _ => bail!("{kind:?} is more than one resource type, and cannot have names"),
    }
}
