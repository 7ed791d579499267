//! Reads manifests: files, directories, standard input; YAML or JSON, several documents each, `List`s unfolded.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One object, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// As given: file name, or `STDIN`.
    pub source: String,
    /// Object.
    pub object: Value,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// kubectl's words for a file that is not there.
    #[error("the path {0:?} does not exist")]
    Missing(PathBuf),
    /// `open`, `read`
    #[error("read {source_name}")]
    Read {
        /// File.
        source_name: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Neither YAML nor JSON.
    #[error("error parsing {source_name}: error converting YAML to JSON")]
    Parse {
        /// File.
        source_name: String,
        /// Cause.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// kubectl's words for an object without a kind.
    #[error("error validating {source_name:?}: error validating data: {field} not set")]
    Unset {
        /// File.
        source_name: String,
        /// `kind` or `apiVersion`
        field: &'static str,
    },
    /// No document with anything in it.
    #[error("no objects passed to apply")]
    Nothing,
}

impl Manifest {
    /// A string field by JSON pointer, empty if it is not there.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads everything that `-f` named, in order.
///
/// # Errors
/// [`ManifestError`]: the first; nothing should be done if there is one.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let source_name = "STDIN".to_owned();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|source| ManifestError::Read {
                    source_name: source_name.clone(),
                    source,
                })?;
            manifests.extend(parse(&source_name, &text)?);
            continue;
        }
        for file in files(path)? {
            let source_name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|source| ManifestError::Read {
                source_name: source_name.clone(),
                source,
            })?;
            manifests.extend(parse(&source_name, &text)?);
        }
    }
    if manifests.is_empty() {
        Err(ManifestError::Nothing)
    } else {
        Ok(manifests)
    }
}

/// The file itself, or the manifests in a directory by name, as kubectl without `-R`.
fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    if !path.exists() {
        return Err(ManifestError::Missing(path.to_owned()));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| ManifestError::Read {
        source_name: path.display().to_string(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_manifest = file
            .extension()
            .is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
        if is_manifest && file.is_file() {
            files.push(file);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The objects of one text. Pure.
///
/// # Errors
/// [`ManifestError::Parse`], [`ManifestError::Unset`]
pub fn parse(source_name: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|source| ManifestError::Parse {
        source_name: source_name.to_owned(),
        source: Box::new(source),
    })?;
    let mut manifests = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match document {
            Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    manifests.extend(items);
                }
            }
            object => manifests.push(object),
        }
    }
    manifests.into_iter().map(|object| check(source_name, object)).collect()
}

fn check(source_name: &str, object: Value) -> Result<Manifest, ManifestError> {
    for field in ["apiVersion", "kind"] {
        if object[field].as_str().is_none_or(str::is_empty) {
            return Err(ManifestError::Unset {
                source_name: source_name.to_owned(),
                field,
            });
        }
    }
    Ok(Manifest {
        source: source_name.to_owned(),
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_unfolded() {
        let text = "# comment\n---\nkind: A\napiVersion: v1\n---\n---\nkind: List\napiVersion: v1\nitems:\n- {kind: B, apiVersion: v1}\n- {kind: C, apiVersion: v1}\n";
        let kinds: Vec<String> = parse("x", text)
            .unwrap()
            .iter()
            .map(|manifest| manifest.text("/kind").to_owned())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
    }

    #[test]
    fn what_is_no_object_is_named() {
        assert!(matches!(
            parse("x", "kind: [").unwrap_err(),
            ManifestError::Parse { .. }
        ));
        let error = parse("x.yaml", "apiVersion: v1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "error validating \"x.yaml\": error validating data: kind not set"
        );
        assert!(matches!(
            parse("x", "text").unwrap_err(),
            ManifestError::Unset {
                field: "apiVersion",
                ..
            }
        ));
    }

    #[test]
    fn a_directory_gives_its_manifests_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yaml", "{kind: B, apiVersion: v1}"),
            ("a.json", "{\"kind\": \"A\", \"apiVersion\": \"v1\"}"),
            ("README.md", "no"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let found = read(&[directory.path().to_owned()]).unwrap();
        assert_eq!(found.iter().map(|it| it.text("/kind")).collect::<Vec<_>>(), ["A", "B"]);
        assert!(matches!(
            read(&["/nonexistent/x".into()]),
            Err(ManifestError::Missing(_))
        ));
    }
}
