//! How many Pods a rollout may have too many or too few. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::share::{Round, share};

/// The bounds of a rollout, in Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pods wanted.
    pub replicas: i32,
    /// Pods that may exist beyond `replicas`.
    pub surge: i32,
    /// Pods that may be missing from `replicas`.
    pub unavailable: i32,
}

impl Limits {
    /// The bounds of this Deployment: percentages of replicas, surge rounded up and unavailability
    /// down; when both come out as nothing, one Pod may be missing, or no rollout could begin.
    /// Under Recreate both are nothing.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
            return Self {
                replicas,
                surge: 0,
                unavailable: 0,
            };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|r| r.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = share(surge, replicas, Round::Up);
        let unavailable = share(unavailable, replicas, Round::Down);
        if surge == 0 && unavailable == 0 {
            return Self {
                replicas,
                surge,
                unavailable: 1.min(replicas),
            };
        }
        Self {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// The most Pods that may exist.
    pub fn most(&self) -> i32 {
        self.replicas + self.surge
    }

    /// The fewest Pods that must be available.
    pub fn fewest(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};

    fn limits(replicas: i32, surge: &str, unavailable: &str) -> (i32, i32) {
        let value = |text: &str| match text.parse() {
            Ok(number) => IntOrString::Int(number),
            Err(_) => IntOrString::String(text.into()),
        };
        let rolling = RollingUpdateDeployment {
            max_surge: Some(value(surge)),
            max_unavailable: Some(value(unavailable)),
        };
        let strategy = DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(rolling),
        };
        let spec = DeploymentSpec {
            replicas: Some(replicas),
            strategy: Some(strategy),
            ..DeploymentSpec::default()
        };
        let limits = Limits::of(&Deployment {
            spec: Some(spec),
            ..Deployment::default()
        });
        (limits.surge, limits.unavailable)
    }

    /// Surge is rounded up and unavailability down (documentation of DeploymentSpec).
    #[test]
    fn percentages_round_as_documented() {
        assert_eq!(limits(2, "25%", "25%"), (1, 0));
        assert_eq!(limits(3, "25%", "25%"), (1, 0));
        assert_eq!(limits(4, "25%", "25%"), (1, 1));
        assert_eq!(limits(10, "25%", "25%"), (3, 2));
        assert_eq!(limits(10, "0%", "0%"), (0, 1));
        assert_eq!(limits(0, "25%", "25%"), (0, 0));
        assert_eq!(limits(2, "100%", "0"), (2, 0));
        assert_eq!(limits(2, "0", "5"), (0, 2));
    }
}
