//! YAML as Kubernetes tools write it: keys sorted, lists not indented below their key, no wrapping of long lines.
//! Unlike kubectl it quotes dotted numbers such as addresses, which YAML 1.1 readers may take for numbers.

use serde_json::Value;
use serde_saphyr::{SerializeError, SerializerOptions};

/// A value as one document, ending in a newline.
///
/// # Errors
/// That of the serializer; plain values have no reason for one.
pub fn to_string(value: &Value) -> Result<String, SerializeError> {
    let mut options = SerializerOptions::default();
    // Folding would turn a long certificate or annotation into several lines, unlike kubectl.
    options.folded_wrap_chars = usize::MAX;
    serde_saphyr::to_string_with_options(value, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The start of `kubectl get svc nginx-svc -o yaml`.
    #[test]
    fn reads_as_from_kubectl() {
        let value = json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "nginx-svc", "creationTimestamp": "2026-11-21T01:58:36Z", "resourceVersion": "114"},
            "spec": {"ports": [{"protocol": "TCP", "port": 80}], "ipFamilies": ["IPv4"], "none": ""},
            "status": {"loadBalancer": {}},
        });
        assert_eq!(
            to_string(&value).unwrap(),
            "apiVersion: v1\nkind: Service\nmetadata:\n  creationTimestamp: \"2026-11-21T01:58:36Z\"\n  name: nginx-svc\n  \
             resourceVersion: \"114\"\nspec:\n  ipFamilies:\n  - IPv4\n  none: \"\"\n  ports:\n  - port: 80\n    \
             protocol: TCP\nstatus:\n  loadBalancer: {}\n"
        );
    }

    #[test]
    fn several_lines_are_a_block_and_long_ones_stay_whole() {
        let long = "word ".repeat(60).trim_end().to_owned();
        let text = to_string(&json!({"a": "one\ntwo\n", "b": long})).unwrap();
        assert_eq!(text, format!("a: |\n  one\n  two\nb: {long}\n"));
    }
}
