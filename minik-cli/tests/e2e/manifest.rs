//! Manifests that several tests apply.

/// Deployment `web`: two nginx Pods, labelled `app: web`.
pub const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: nginx, image: nginx}]}
";

/// Pod `tools`, to ask from.
pub const TOOLS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tools}
spec: {containers: [{name: tools, image: tools, command: [sleep, infinity]}]}
";
