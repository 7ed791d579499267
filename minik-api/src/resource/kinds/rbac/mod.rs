//! rbac.authorization.k8s.io/v1: what may be done (Role, ClusterRole), and who may do it (RoleBinding,
//! ClusterRoleBinding). `crate::authz` evaluates them.

pub(super) mod binding;
pub(super) mod role;

use crate::resource::KindInfo;

/// What the four kinds have in common.
const RBAC: KindInfo = KindInfo {
    group: GROUP,
    ..super::CORE
};

const GROUP: &str = "rbac.authorization.k8s.io";
