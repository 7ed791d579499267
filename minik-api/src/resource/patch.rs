//! Patches as pure functions over JSON: JSON patch (RFC 6902), merge patch (RFC 7396) and Kubernetes'
//! strategic merge patch, guided by the schema's merge keys.
