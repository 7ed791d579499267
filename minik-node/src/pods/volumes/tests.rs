//! Volumes on a real file system, without a kernel's mounts: kinds, refusals, ownership, sizes.

use super::*;
use serde_json::{Value, json};

fn lay(dir: &std::path::Path, volume: Value, claimed: Option<Value>) -> Result<Laid, String> {
    let mut volume = volume;
    volume["name"] = json!("v");
    let pod =
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": [], "volumes": [volume]}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let persistent = |spec| serde_json::from_value(json!({"metadata": {"name": "pv1"}, "spec": spec})).unwrap();
    let claimed = claimed.map(|spec| ("v".to_owned(), Ok(Arc::new(persistent(spec)))));
    let layout = Layout {
        pod: &pod,
        directories: &Directories {
            run: dir.join("run"),
            state: dir.join("state"),
        },
        ingredients: &Ingredients::default(),
        claimed: &claimed.into_iter().collect(),
        now: Timestamp::now(),
    };
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    layout.lay(volume).map_err(|error| crate::pods::context::chain(&error))
}

#[test]
fn a_kind_that_is_not_offered_is_refused_as_by_a_node_without_its_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let process = "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: ";
    for (volume, claimed, expected) in [
        (json!({"nfs": {"server": "s", "path": "/"}}), None, format!("{process}failed to get Plugin from volumeSpec for volume \"v\" err=no volume plugin matched")),
        (json!({"csi": {"driver": "d.io"}}), None, "MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name d.io not found in the list of registered CSI drivers".to_owned()),
        (json!({"image": {"reference": "r"}}), None, "MountVolume.SetUp failed for volume \"v\" : image volumes are not supported by minik: its images are not pulled".to_owned()),
        (json!({"emptyDir": {"medium": "HugePages"}}), None, "MountVolume.SetUp failed for volume \"v\" : unknown storage medium \"HugePages\"".to_owned()),
        (json!({"configMap": {"name": "none"}}), None, "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found".to_owned()),
        (json!({"hostPath": {"path": "/proc/none", "type": "Directory"}}), None, "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: /proc/none is not a directory".to_owned()),
        (claim.clone(), None, format!("{process}error processing PVC shop/c: failed to fetch PVC from API server: persistentvolumeclaims \"c\" not found")),
        (claim.clone(), Some(json!({"nfs": {"server": "s", "path": "/"}})), format!("{process}failed to get Plugin from volumeSpec for volume \"pv1\" err=no volume plugin matched")),
        (claim, Some(json!({"local": {"path": "/proc/none"}})), "MountVolume.SetUp failed for volume \"pv1\" : path \"/proc/none\" does not exist".to_owned()),
    ] {
        assert_eq!(lay(dir.path(), volume.clone(), claimed), Err(expected), "{volume}");
    }
}

#[test]
fn a_claim_stands_for_its_volumes_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pv");
    let claim = json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
    let host = json!({"hostPath": {"path": path, "type": "DirectoryOrCreate"}});
    let laid = lay(dir.path(), claim, Some(host)).unwrap();
    assert!(path.is_dir());
    assert_eq!(
        laid,
        Laid {
            source: path,
            read_only: true,
            in_memory: false
        }
    );
}

#[test]
fn memory_is_bounded_by_the_smallest_of_volume_pod_and_node() {
    let node = [("memory".to_owned(), Quantity("1Gi".to_owned()))].into();
    let directories = Directories {
        run: "/run/p".into(),
        state: "/state/p".into(),
    };
    for (own, limits, expected) in [
        (json!(null), vec![json!({})], 1 << 30),
        (json!("64Mi"), vec![json!({})], 64 << 20),
        (json!("2Gi"), vec![json!({})], 1 << 30),
        (
            json!("64Mi"),
            vec![json!({"memory": "16Mi"}), json!({"memory": "16Mi"})],
            32 << 20,
        ),
    ] {
        let container = |limits| json!({"name": "c", "resources": {"limits": limits}});
        let containers: Vec<Value> = limits.into_iter().map(container).collect();
        let spec = json!({
            "securityContext": {"fsGroup": 7},
            "containers": containers,
            "volumes": [{"name": "disk", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": own}}],
        });
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let expected = Memory {
            path: "/run/p/volumes/m".into(),
            size: Some(expected),
            group: Some(7),
        };
        assert_eq!(memory(&spec, &directories, &node), [expected], "{own}");
    }
}
