//! The storage class that a volume or a claim names: the annotation from before there was a field goes before the field.
//! Pure; read where kinds are checked and printed, where a claim is admitted, and by the controllers of volumes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The annotation (`v1.BetaStorageClassAnnotation`).
pub const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The class that the annotation names.
pub fn annotated(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
}

/// The class of an object whose field says `field`; empty when it has none.
pub fn of<'o>(metadata: &'o ObjectMeta, field: Option<&'o str>) -> &'o str {
    annotated(metadata).or(field).unwrap_or_default()
}
