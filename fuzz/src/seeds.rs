//! `seeds FOLDER`: writes inputs for every target to begin with, made from the examples of every kind, one folder a
//! target. libFuzzer goes on from there.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use libfuzzer_sys as _; // what counts covered code needs its symbols
use minik_api::resource::KindInfo;
use minik_api::resource::protobuf::from_json;
use minik_fuzz::examples::examples;
use minik_fuzz::{BORDER, REGISTRY, number};
use serde_json::Value;

/// Texts of the grammars that are no objects.
const TEXTS: [(&str, &[&str]); 4] = [
    ("selector", &["app=web", "app in (a, b),!c", "a notin (b)", "n>5", "metadata.name!=web,spec.nodeName=a"]),
    ("text", &["100m", "64Mi", "1e-3", "*/5 0-12/2 1,15 * MON-FRI", "@every 1h30m", "@daily"]),
    ("rules", &[include_str!("../../minik-node/testdata/kube-proxy/policies.rules")]),
    ("spdy", &["\u{1}\u{80}\u{3}\0\u{6}\0\0\0\u{4}\0\0\0\u{1}", "\u{7}\0\0\0\u{1}\u{1}\0\0\u{2}ab"]),
];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: seeds FOLDER"))?);
    for (at, (name, body)) in examples().into_iter().enumerate() {
        let Some((kind, info)) = number(name).zip(REGISTRY.iter().map(|kind| &kind.info).find(|info| info.kind == name))
        else {
            continue;
        };
        for (target, input) in inputs(kind, info, body) {
            write(&root, target, &format!("{name}-{at}"), &input)?;
        }
    }
    for (target, texts) in TEXTS {
        for (at, text) in texts.iter().enumerate() {
            // A frame of SPDY is bytes, each a character below 256 here.
            let bytes: Vec<u8> = match target {
                "spdy" => text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect(),
                _ => text.as_bytes().to_vec(),
            };
            write(&root, target, &at.to_string(), &bytes)?;
        }
    }
    Ok(())
}

/// What each target that reads objects takes for this one.
fn inputs(kind: u8, info: &KindInfo, mut body: Value) -> Vec<(&'static str, Vec<u8>)> {
    info.stamp(&mut body);
    let json = body.to_string();
    let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
    let pair = |patch: &[u8]| [&[kind], json.as_bytes(), &[BORDER], patch].concat();
    let metadata = br#"{"metadata":{"labels":{"a":"b"},"$retainKeys":["labels"]}}"#;
    let operations = br#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"test","path":"/kind","value":"x"}]"#;
    let protobuf = from_json(&body).unwrap_or_default();
    vec![
        ("body", with(&[kind, 0], json.as_bytes())),
        ("body", with(&[kind, 1], json.as_bytes())),
        ("objects", with(&[kind], json.as_bytes())),
        ("protobuf", with(&[kind], &protobuf)),
        ("patch", pair(metadata)),
        ("patch", pair(operations)),
        ("patch", pair(json.as_bytes())),
        ("apply", pair(json.as_bytes())),
    ]
}

/// A file that no other input of the target has.
fn write(root: &Path, target: &str, name: &str, input: &[u8]) -> io::Result<()> {
    let folder = root.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}-{}", input.len())), input)
}
