//! The hashes by which revisions of a Pod template are told apart, in the form that Kubernetes writes them:
//! a 32-bit FNV hash in decimal, each digit spelt as a letter that cannot make a word. Pure.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// Letters that cannot spell a word, as Kubernetes chooses them for generated names.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const OFFSET: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// The hash of a template, after so many collisions.
///
/// Kubernetes hashes Go's own dump of the template, so its value for an equal template is another
/// one; no client may depend on it. Here the input is the template's JSON, whose keys are ordered.
///
/// # Errors
/// A template that does not serialise.
pub fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> Result<String, serde_json::Error> {
    let mut hash = fnv1a(OFFSET, &serde_json::to_vec(template)?);
    if let Some(collisions) = collisions {
        hash = fnv1a(hash, &collisions.to_le_bytes());
    }
    Ok(spelt(hash))
}

/// The hash of a ControllerRevision's `data`, after so many collisions.
pub fn revision_hash(data: &[u8], collisions: i32) -> String {
    let hash = fnv1(fnv1(OFFSET, data), collisions.to_string().as_bytes());
    spelt(hash)
}

fn spelt(hash: u32) -> String {
    let digits = hash.to_string();
    let letters = digits
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]));
    letters.collect()
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

fn fnv1(start: u32, bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(start, |hash, byte| hash.wrapping_mul(PRIME) ^ u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use std::collections::BTreeMap;

    #[test]
    fn the_hash_uses_only_safe_letters_and_changes_with_template_and_collisions() {
        let a = PodTemplateSpec::default();
        let labels = BTreeMap::from([("app".to_string(), "web".to_string())]);
        let b = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                ..ObjectMeta::default()
            }),
            ..PodTemplateSpec::default()
        };
        let hash = template_hash(&a, None).unwrap();
        assert!(
            (1..=10).contains(&hash.len()) && hash.bytes().all(|letter| SAFE.contains(&letter)),
            "{hash}"
        );
        assert_eq!(hash, template_hash(&a, None).unwrap());
        assert_ne!(hash, template_hash(&b, None).unwrap());
        assert_ne!(hash, template_hash(&a, Some(1)).unwrap());
        assert_ne!(revision_hash(b"{}", 0), revision_hash(b"{}", 1));
    }

    /// Vectors published with the FNV reference code.
    #[test]
    fn fnv_matches_its_published_vectors() {
        assert_eq!(fnv1a(OFFSET, b""), 0x811c_9dc5);
        assert_eq!(fnv1a(OFFSET, b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(OFFSET, b"foobar"), 0xbf9c_f968);
        assert_eq!(fnv1(OFFSET, b"a"), 0x050c_5d7e);
        assert_eq!(fnv1(OFFSET, b"foobar"), 0x31f0_b262);
    }
}
