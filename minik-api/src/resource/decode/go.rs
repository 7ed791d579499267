//! Names that Go's decoder prints: its types, and the packages of Kubernetes' internal types.

use super::tree::Tree;
use crate::resource::schema::{Schema, Type};

/// Fields whose type is a named string, which Go prints by its name.
const NAMED: &[(&str, &str, &str)] = &[
    ("ServiceSpec", "type", "v1.ServiceType"),
    ("ServiceSpec", "sessionAffinity", "v1.ServiceAffinity"),
    (
        "ServiceSpec",
        "externalTrafficPolicy",
        "v1.ServiceExternalTrafficPolicy",
    ),
    (
        "ServiceSpec",
        "internalTrafficPolicy",
        "v1.ServiceInternalTrafficPolicy",
    ),
    ("ServiceSpec", "ipFamilyPolicy", "v1.IPFamilyPolicy"),
    ("ServiceSpec", "ipFamilies", "v1.IPFamily"),
    ("ServicePort", "protocol", "v1.Protocol"),
    ("ContainerPort", "protocol", "v1.Protocol"),
    ("EndpointPort", "protocol", "v1.Protocol"),
    ("EndpointSlice", "addressType", "v1.AddressType"),
    ("PodSpec", "restartPolicy", "v1.RestartPolicy"),
    ("PodSpec", "dnsPolicy", "v1.DNSPolicy"),
    ("PodStatus", "phase", "v1.PodPhase"),
    ("PodStatus", "qosClass", "v1.PodQOSClass"),
    ("PodCondition", "type", "v1.PodConditionType"),
    ("PodCondition", "status", "v1.ConditionStatus"),
    ("NodeCondition", "type", "v1.NodeConditionType"),
    ("NodeCondition", "status", "v1.ConditionStatus"),
    ("NodeAddress", "type", "v1.NodeAddressType"),
    ("Container", "imagePullPolicy", "v1.PullPolicy"),
    ("Container", "terminationMessagePolicy", "v1.TerminationMessagePolicy"),
    ("HTTPGetAction", "scheme", "v1.URIScheme"),
    ("Toleration", "operator", "v1.TolerationOperator"),
    ("Toleration", "effect", "v1.TaintEffect"),
    ("Taint", "effect", "v1.TaintEffect"),
    ("Secret", "type", "v1.SecretType"),
    ("NamespaceStatus", "phase", "v1.NamespacePhase"),
    ("DeploymentStrategy", "type", "v1.DeploymentStrategyType"),
    ("LabelSelectorRequirement", "operator", "v1.LabelSelectorOperator"),
    ("ObjectMeta", "uid", "types.UID"),
    ("OwnerReference", "uid", "types.UID"),
    ("ObjectReference", "uid", "types.UID"),
];

/// The Go name of the string type of a field (or of the elements of a list of strings).
pub(super) fn string_type(definition: &str, field: &str) -> &'static str {
    NAMED
        .iter()
        .find(|(d, f, _)| *d == definition && *f == field)
        .map_or("string", |(_, _, name)| name)
}

/// A type as Go prints it in `… of type T`.
pub(super) fn type_name(ty: &Type, schema: &Schema, named: &str) -> String {
    match ty {
        Type::Struct(id) => schema.get(*id).go_type().to_owned(),
        Type::String => named.to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Float64 => "float64".to_owned(),
        Type::Bytes => "[]uint8".to_owned(),
        Type::Time => "v1.Time".to_owned(),
        Type::MicroTime => "v1.MicroTime".to_owned(),
        Type::IntOrString => "intstr.IntOrString".to_owned(),
        Type::Quantity => "resource.Quantity".to_owned(),
        Type::Any => "interface {}".to_owned(),
        Type::List(item) => format!("[]{}", type_name(item, schema, named)),
        Type::Map(value) if **value == Type::Quantity => "v1.ResourceList".to_owned(),
        Type::Map(value) => format!("map[string]{}", type_name(value, schema, named)),
    }
}

/// The Go package of the internal types of an API group.
pub(super) fn internal_package(group: &str) -> &str {
    match group {
        "" => "core",
        _ => group.split('.').next().unwrap_or(group),
    }
}

/// What apimachinery's converter says of a value where another type belongs.
pub(super) fn conversion_error(tree: &Tree, ty: &Type) -> String {
    let found = match tree {
        Tree::Null => "invalid",
        Tree::Bool(_) => "bool",
        Tree::Number(number) if number.is_f64() => "float64",
        Tree::Number(_) => "int64",
        Tree::String(_) => "string",
        Tree::List(_) => "slice",
        Tree::Object(_) => "map",
    };
    match ty {
        Type::Struct(_) => format!("cannot restore struct from: {found}"),
        Type::Map(_) => format!("cannot restore map from {found}"),
        Type::List(_) | Type::Bytes => format!("cannot restore slice from {found}"),
        Type::Bool => "unrecognized type: bool".to_owned(),
        Type::Int32 => "unrecognized type: int32".to_owned(),
        Type::Int64 => "unrecognized type: int64".to_owned(),
        Type::Float64 => "unrecognized type: float64".to_owned(),
        _ => "unrecognized type: string".to_owned(),
    }
}
