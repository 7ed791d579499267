//! An object on its way into storage: encoded once, with a hole where its resourceVersion goes. The
//! revision is known only when the single writer takes the change, and encoding is too slow for there.

use bytes::Bytes;
use serde_json::Value;

/// An encoded JSON object without `apiVersion` and `kind` (the key says which kind it is, and list items
/// go out without them), `metadata` first and `metadata.resourceVersion` still open.
#[derive(Debug, Clone)]
pub struct Document {
    /// From the closing quote on.
    tail: Vec<u8>,
}

impl Document {
    /// What every encoded document starts with.
    const HEAD: &[u8] = br#"{"metadata":{"resourceVersion":""#;

    /// Encodes `object`. A resourceVersion in it is dropped.
    ///
    /// # Errors
    /// `object` is not a JSON object, or `metadata` is there and is none.
    pub fn encode(object: &Value) -> Result<Self, serde_json::Error> {
        let fields: &serde_json::Map<String, Value> = match object {
            Value::Object(fields) => fields,
            _ => return Err(serde::de::Error::custom("an object was expected")),
        };
        let mut tail = vec![b'"'];
        match fields.get("metadata") {
            Some(Value::Object(metadata)) => append(&mut tail, metadata, &["resourceVersion"])?,
            None => {}
            Some(_) => return Err(serde::de::Error::custom("metadata must be an object")),
        }
        tail.push(b'}');
        append(&mut tail, fields, &["apiVersion", "kind", "metadata"])?;
        tail.push(b'}');
        Ok(Self { tail })
    }

    /// The finished bytes at `revision`.
    #[must_use]
    pub fn stamp(&self, revision: u64) -> Bytes {
        let revision = revision.to_string();
        let mut out = Vec::with_capacity(Self::HEAD.len() + revision.len() + self.tail.len());
        out.extend_from_slice(Self::HEAD);
        out.extend_from_slice(revision.as_bytes());
        out.extend_from_slice(&self.tail);
        out.into()
    }

    /// The stored `bytes` with another revision: the last state of an object that left a selection carries
    /// the revision at which it left.
    #[must_use]
    pub fn restamp(bytes: &[u8], revision: u64) -> Bytes {
        let rest = bytes.strip_prefix(Self::HEAD).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or(rest.len());
        Self {
            tail: rest[end..].to_vec(),
        }
        .stamp(revision)
    }

    /// Whether the stored `bytes` are this document at `revision`, so that writing it would change nothing.
    #[must_use]
    pub fn is(&self, bytes: &[u8], revision: u64) -> bool {
        self.stamp(revision) == bytes
    }
}

fn append(
    out: &mut Vec<u8>,
    fields: &serde_json::Map<String, Value>,
    except: &[&str],
) -> Result<(), serde_json::Error> {
    for (name, value) in fields.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
        out.push(b',');
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        serde_json::to_writer(&mut *out, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_lands_in_metadata_and_type_names_stay_out() {
        let document = Document::encode(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "resourceVersion": "3"},
            "spec": {"ports": []},
        }))
        .expect("encodes");
        let stored: Value = serde_json::from_slice(&document.stamp(42)).expect("is JSON");
        assert_eq!(
            stored,
            json!({"metadata": {"name": "web", "resourceVersion": "42"}, "spec": {"ports": []}})
        );
        assert_eq!(Document::restamp(&document.stamp(9), 42), document.stamp(42));
        assert!(document.is(&document.stamp(42), 42));
        assert!(!document.is(&document.stamp(42), 43));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(Document::encode(&json!([])).is_err());
        assert!(Document::encode(&json!({"metadata": "x"})).is_err());
    }
}
