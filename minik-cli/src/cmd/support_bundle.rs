//! `minik support-bundle`

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tar::{Builder, Header};

use super::Cluster;
use crate::client::resource::Resources;
use crate::client::{self, call, request};
use crate::cluster::{ClusterSpec, names};
use crate::errors::{Rejected, chain};
use crate::provider::netns::{node_netns, outside_netns};
use crate::store;

/// What a namespace's tools say, for each node, the fabric and an outside world of the cluster's own.
const COMMANDS: [(&str, &[&str]); 6] = [
    ("addresses", &["ip", "-d", "address"]),
    ("routes", &["ip", "route", "show", "table", "all"]),
    ("neighbours", &["ip", "neigh"]),
    ("sockets", &["ss", "-tulpn"]),
    ("iptables", &["iptables-save", "-c"]),
    ("nftables", &["nft", "list", "ruleset"]),
];
/// What stands where a secret stood.
const REDACTED: &str = "REDACTED";

/// Write everything that helps to find out what is wrong into one file: objects with their secrets blanked out, logs,
/// rules, routes and status.
#[derive(Debug, Args)]
pub struct SupportBundle {
    #[command(flatten)]
    cluster: Cluster,
    /// Where to write it [default: minik-NAME-TIME.tar.gz here]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl SupportBundle {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let name = &self.cluster.name;
        let spec = store::load_running(name)?;
        let now = Timestamp::now();
        let stem = format!("minik-{name}-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let path = self.file.unwrap_or_else(|| PathBuf::from(format!("{stem}.tar.gz")));
        let file = fs::OpenOptions::new();
        let file = open_private(file, &path).with_context(|| format!("write {}", path.display()))?;
        let bundle = Bundle {
            archive: Builder::new(GzEncoder::new(file, Compression::default())),
            stem,
            time: u64::try_from(now.as_second()).unwrap_or(0),
            amiss: Vec::new(),
        };
        bundle
            .fill(&spec)
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("wrote {}: look through it before you pass it on", path.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// It is for its owner to say who may read it.
fn open_private(mut options: fs::OpenOptions, path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    options.write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// An archive in the making. What cannot be had is told in it, since a bundle is wanted most when things fail.
struct Bundle {
    archive: Builder<GzEncoder<File>>,
    stem: String,
    time: u64,
    amiss: Vec<String>,
}

impl Bundle {
    fn fill(mut self, spec: &ClusterSpec) -> anyhow::Result<()> {
        self.add("version", env!("CARGO_PKG_VERSION").as_bytes())?;
        self.add("cluster.json", &serde_json::to_vec_pretty(spec)?)?;
        let status = super::status::report(&spec.name).and_then(|report| Ok(serde_json::to_vec_pretty(&report)?));
        self.keep("status.json", status)?;
        let supervisor = fs::read(names::run_dir(&spec.name).join("supervisor.json"));
        self.keep("supervisor.json", supervisor.map_err(Into::into))?;
        self.folder("log", &spec.log_dir())?;
        self.networks(spec)?;
        let objects = super::runtime()?.block_on(objects(spec));
        match objects {
            Ok(objects) => {
                for (resource, list) in objects {
                    self.keep(&format!("objects/{resource}.json"), list)?;
                }
            }
            Err(error) => self.amiss.push(format!("objects: {error:#}")),
        }
        let amiss = self.amiss.join("\n");
        self.add("amiss", amiss.as_bytes())?;
        self.archive.into_inner()?.finish()?.flush()?;
        Ok(())
    }

    fn networks(&mut self, spec: &ClusterSpec) -> anyhow::Result<()> {
        let nodes = spec
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node_netns(spec, &node.name)));
        let fabric = minik_node::kernel::netns::NetNs::open(&spec.fabric_netns());
        let outside = spec.isolated.then(|| ("outside", outside_netns(spec)));
        for (place, namespace) in nodes.chain([("fabric", fabric)]).chain(outside) {
            for (what, command) in COMMANDS {
                let said = match &namespace {
                    Ok(namespace) => namespace.run(|| run(command)).map_err(anyhow::Error::from).flatten(),
                    Err(error) => Err(anyhow::anyhow!(chain(error))),
                };
                self.keep(&format!("network/{place}/{what}"), said)?;
            }
        }
        Ok(())
    }

    /// The files of a folder, none below.
    fn folder(&mut self, name: &str, folder: &Path) -> anyhow::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.amiss.push(format!("{name}: {error}"));
                return Ok(());
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let file = entry.file_name().to_string_lossy().into_owned();
            self.keep(&format!("{name}/{file}"), fs::read(entry.path()).map_err(Into::into))?;
        }
        Ok(())
    }

    fn keep(&mut self, name: &str, content: anyhow::Result<Vec<u8>>) -> io::Result<()> {
        match content {
            Ok(content) => self.add(name, &content),
            Err(error) => {
                self.amiss.push(format!("{name}: {error:#}"));
                Ok(())
            }
        }
    }

    fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{name}", self.stem);
        self.archive.append_data(&mut header, path, content)
    }
}

fn run(command: &[&str]) -> anyhow::Result<Vec<u8>> {
    let (program, arguments) = (command[0], &command[1..]);
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    Ok([output.stdout, output.stderr].concat())
}

type Lists = Vec<(String, anyhow::Result<Vec<u8>>)>;

/// Every kind's objects.
async fn objects(spec: &ClusterSpec) -> anyhow::Result<Lists> {
    let client = client::connect(&spec.name)?;
    let resources = Resources::discover(&client).await?;
    let mut lists = Vec::new();
    for resource in resources.all() {
        let list = list(&client, &resource.path(None, None)).await;
        // Some kinds are asked and not kept: reviews, say.
        let cannot = |error: &anyhow::Error| {
            let rejected = error.downcast_ref::<Rejected>();
            rejected.is_some_and(|rejected| rejected.status.code == 405)
        };
        if list.as_ref().is_err_and(cannot) {
            continue;
        }
        let name = match resource.group.as_str() {
            "" => resource.plural.clone(),
            group => format!("{}.{group}", resource.plural),
        };
        lists.push((name, list));
    }
    Ok(lists)
}

async fn list(client: &Client, path: &str) -> anyhow::Result<Vec<u8>> {
    let answer = call(client, request(Method::GET, path, "application/json", Vec::new())?).await?;
    let mut list: Value = serde_json::from_slice(&answer)?;
    if list["kind"] == "SecretList" {
        redact(&mut list);
    }
    Ok(serde_json::to_vec_pretty(&list)?)
}

/// Blanks out what Secrets hold, and the copies of it that `kubectl apply` and field ownership keep.
fn redact(list: &mut Value) {
    for secret in list["items"].as_array_mut().into_iter().flatten() {
        for field in ["data", "stringData"] {
            let held = secret.get_mut(field).and_then(Value::as_object_mut);
            for value in held.into_iter().flat_map(|held| held.values_mut()) {
                *value = REDACTED.into();
            }
        }
        let annotations = secret.pointer_mut("/metadata/annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_secret_leaves_the_machine() {
        let applied =
            json!({"kubectl.kubernetes.io/last-applied-configuration": "{data: {password: aHVzaA==}}", "kept": "yes"});
        let mut list = json!({"items": [
            {"metadata": {"name": "a", "annotations": applied}, "data": {"password": "aHVzaA=="}, "type": "Opaque"},
            {"metadata": {"name": "b"}},
        ]});
        redact(&mut list);
        assert_eq!(
            list,
            json!({"items": [
                {"metadata": {"name": "a", "annotations": {"kept": "yes"}}, "data": {"password": "REDACTED"}, "type": "Opaque"},
                {"metadata": {"name": "b"}},
            ]})
        );
    }
}
