//! Where a volume's content comes from: the paths, disks, file systems and drivers that a Pod's volume and a
//! PersistentVolume name alike. Each is checked as 1.36 checks it, whether or not a node of minik mounts it. Pure.
//!
//! The API has two structs of most sources, which differ in how they refer to secrets; both are read here as the JSON
//! that they are written as.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::{names, paths};

/// Who has the source.
#[derive(Clone, Copy)]
pub(super) enum Owner<'n> {
    /// A volume of a Pod, which keeps its secrets in the Pod's namespace.
    Pod(&'n str),
    /// A PersistentVolume of this name.
    PersistentVolume(&'n str),
}

/// Texts and lists that a source can't be without, where that is nearly all there is to say of it.
const REQUIRED: [(&str, &[&str]); 15] = [
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];
const HOST_PATHS: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const CACHING: [&str; 3] = ["None", "ReadOnly", "ReadWrite"];
const AZURE_DISKS: [&str; 3] = ["Dedicated", "Managed", "Shared"];
const MANAGED_DISK: &str =
    "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB_DISK: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
const LONGEST_DRIVER: usize = 63;
const LONGEST_TENANT: usize = 64;
/// Letters of `<volume name>:<iscsi.targetPortal>`.
const LONGEST_PORTAL: usize = 64;

/// The names that iSCSI gives (RFC 3720 section 3.2.6.3): how each kind begins, and what it is like.
static INITIATORS: LazyLock<[(&str, Regex); 3]> = LazyLock::new(|| {
    let kind = |prefix, pattern| (prefix, Regex::new(pattern).expect("a pattern of this file"));
    [
        kind("iqn", r"^iqn\.\d{4}-\d{2}\.([[:alnum:]\-.]+)(:[^,;*&$|\s]+)$"),
        kind("eui", r"^eui.[[:alnum:]]{16}$"),
        kind("naa", r"^naa.[[:alnum:]]{32}$"),
    ]
});

/// One source under check.
struct Source<'s> {
    /// Its path in the object.
    field: String,
    given: &'s Value,
    owner: Owner<'s>,
}

/// Checks the source `kind` under `parent`, as JSON.
pub(super) fn validate(parent: &str, kind: &str, given: &Value, owner: Owner<'_>) -> FieldErrors {
    // What 1.36 calls it is not always its field.
    let called = match kind {
        "gcePersistentDisk" => "persistentDisk",
        kind => kind,
    };
    let source = Source {
        field: format!("{parent}.{called}"),
        given,
        owner,
    };
    let required = REQUIRED.iter().find(|(name, _)| *name == kind);
    let mut errors: FieldErrors = required
        .into_iter()
        .flat_map(|(_, children)| *children)
        .filter_map(|child| source.required(child, ""))
        .collect();
    errors.extend(source.rules(kind));
    errors
}

impl Source<'_> {
    fn at(&self, child: &str) -> String {
        format!("{}.{child}", self.field)
    }

    fn text(&self, child: &str) -> &str {
        self.given[child].as_str().unwrap_or_default()
    }

    fn is_given(&self, child: &str) -> bool {
        match &self.given[child] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        }
    }

    fn required(&self, child: &str, detail: &str) -> Option<FieldError> {
        let missing = !self.is_given(child);
        missing.then(|| FieldError::required(self.at(child), detail))
    }

    fn invalid(&self, child: &str, detail: impl Into<String>) -> FieldError {
        FieldError::invalid(self.at(child), self.given[child].clone(), detail)
    }

    /// What a source has to keep beside [`REQUIRED`].
    fn rules(&self, kind: &str) -> FieldErrors {
        match kind {
            "hostPath" => self.host_path(),
            "local" => self.path(),
            "gitRepo" => paths::descending(&self.at("directory"), self.text("directory")),
            "gcePersistentDisk" | "awsElasticBlockStore" => self.partition().into_iter().collect(),
            "nfs" => self.absolute_path().into_iter().collect(),
            "glusterfs" => self.endpoints_namespace(),
            "flocker" => self.dataset(),
            "quobyte" => self.registry(),
            "iscsi" => self.iscsi(),
            "cinder" => self.secret("secretRef"),
            "fc" => self.fibre(),
            "flexVolume" => self.options(),
            "azureFile" => self.secret_namespace().into_iter().collect(),
            "azureDisk" => self.azure_disk(),
            "storageos" => self.storage_os(),
            "csi" => self.csi(),
            _ => Vec::new(),
        }
    }

    fn path(&self) -> FieldErrors {
        let missing = self.required("path", "");
        let path = || paths::no_way_up(&self.at("path"), self.text("path"));
        missing.or_else(path).into_iter().collect()
    }

    fn host_path(&self) -> FieldErrors {
        let mut errors = self.path();
        let kind = self.text("type");
        if self.is_given("path") && !HOST_PATHS.contains(&kind) {
            errors.push(FieldError::not_supported(self.at("type"), kind, &HOST_PATHS));
        }
        errors
    }

    fn partition(&self) -> Option<FieldError> {
        let wrong = self.is_outside("partition", 0..=255);
        wrong.then(|| self.invalid("partition", "must be between 1 and 255, inclusive"))
    }

    fn is_outside(&self, child: &str, range: std::ops::RangeInclusive<i64>) -> bool {
        !range.contains(&self.given[child].as_i64().unwrap_or_default())
    }

    fn lun(&self) -> Option<FieldError> {
        let wrong = self.is_outside("lun", 0..=255);
        wrong.then(|| self.invalid("lun", "must be between 0 and 255, inclusive"))
    }

    fn absolute_path(&self) -> Option<FieldError> {
        let relative = !self.text("path").starts_with('/');
        relative.then(|| FieldError::invalid(self.at("path"), self.text("path"), "must be an absolute path"))
    }

    fn endpoints_namespace(&self) -> FieldErrors {
        const CHILD: &str = "endpointsNamespace";
        match self.given[CHILD].as_str() {
            None => Vec::new(),
            Some("") => {
                let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                vec![self.invalid(CHILD, detail)]
            }
            Some(namespace) => FieldError::each(&self.at(CHILD), namespace, names::dns_label(namespace)),
        }
    }

    fn dataset(&self) -> FieldErrors {
        let mut errors = Vec::new();
        match (self.is_given("datasetName"), self.is_given("datasetUUID")) {
            (false, false) => {
                let detail = "one of datasetName and datasetUUID is required";
                errors.push(FieldError::required(self.field.as_str(), detail));
            }
            (true, true) => {
                let detail = "datasetName and datasetUUID can not be specified simultaneously";
                errors.push(FieldError::invalid(self.field.as_str(), "resource", detail));
            }
            _ => {}
        }
        if self.text("datasetName").contains('/') {
            errors.push(self.invalid("datasetName", "must not contain '/'"));
        }
        errors
    }

    fn registry(&self) -> FieldErrors {
        const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
        let mut errors = Vec::new();
        if let Some(missing) = self.required("registry", PAIRS) {
            errors.push(missing);
        } else if self.text("tenant").len() > LONGEST_TENANT {
            let detail = "must be a UUID and may not exceed a length of 64 characters";
            errors.push(FieldError::required(self.at("tenant"), detail));
        } else {
            let wrong = self.text("registry").split(',').filter(|pair| !is_host_and_port(pair));
            errors.extend(wrong.map(|_| self.invalid("registry", PAIRS)));
        }
        errors.extend(self.required("volume", ""));
        errors
    }

    fn iscsi(&self) -> FieldErrors {
        const TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        let mut errors: FieldErrors = self.required("targetPortal", "").into_iter().collect();
        let portal = self.text("targetPortal");
        let is_named = self.given["initiatorName"].is_string();
        let too_long = |name: &str| is_named && name.len() + 1 + portal.len() > LONGEST_PORTAL;
        if let Owner::PersistentVolume(name) = self.owner
            && too_long(name)
        {
            errors.push(FieldError::invalid(self.at("targetportal"), portal, TOO_LONG));
        }
        match self.required("iqn", "") {
            Some(missing) => errors.push(missing),
            None => errors.extend(self.initiator("iqn", "iqn")),
        }
        errors.extend(self.lun());
        let authenticates = ["chapAuthDiscovery", "chapAuthSession"];
        if authenticates.iter().any(|child| self.given[child] == true) {
            errors.extend(self.required("secretRef", ""));
        }
        if let Owner::PersistentVolume(_) = self.owner
            && self.is_given("secretRef")
            && self.given["secretRef"]["name"].as_str().unwrap_or_default().is_empty()
        {
            errors.push(FieldError::required(self.at("secretRef.name"), ""));
        }
        if is_named {
            errors.extend(self.initiator("initiatorName", "initiatorname"));
        }
        if let Owner::Pod(name) = self.owner
            && too_long(name)
        {
            let volume = self.field.rsplit_once('.').map_or("", |(volume, _)| volume);
            errors.push(FieldError::invalid(format!("{volume}.name"), name, TOO_LONG));
        }
        errors
    }

    /// Checks the iSCSI name in `child`, which errors call `called`.
    fn initiator(&self, child: &str, called: &str) -> Option<FieldError> {
        let name = self.text(child);
        let known = INITIATORS.iter().find(|(prefix, _)| name.starts_with(prefix));
        let detail = match (known, self.owner) {
            (Some((_, pattern)), _) if pattern.is_match(name) => return None,
            (None, Owner::Pod(_)) => "must be valid format starting with iqn, eui, or naa",
            (None, Owner::PersistentVolume(_)) | (Some(_), _) => "must be valid format",
        };
        Some(FieldError::invalid(self.at(called), name, detail))
    }

    fn fibre(&self) -> FieldErrors {
        let mut errors = Vec::new();
        match (self.is_given("targetWWNs"), self.is_given("wwids")) {
            (false, false) => {
                let detail = "must specify either targetWWNs or wwids, but not both";
                errors.push(FieldError::required(self.at("targetWWNs"), detail));
            }
            (true, true) => {
                let detail = "targetWWNs and wwids can not be specified simultaneously";
                errors.push(self.invalid("targetWWNs", detail));
            }
            _ => {}
        }
        if self.is_given("targetWWNs") {
            let missing = self.required("lun", "lun is required if targetWWNs is specified");
            errors.extend(missing.or_else(|| self.lun()));
        }
        errors
    }

    fn options(&self) -> FieldErrors {
        let options = self.given["options"].as_object();
        let reserved = options.into_iter().flatten().filter(|(key, _)| {
            let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
            let domain = format!(".{}", domain.to_lowercase());
            domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io")
        });
        let detail = "kubernetes.io and k8s.io namespaces are reserved";
        reserved
            .map(|(key, _)| FieldError::invalid(format!("{}[{key}]", self.at("options")), key.as_str(), detail))
            .collect()
    }

    fn secret_namespace(&self) -> Option<FieldError> {
        let empty = self.given["secretNamespace"] == "";
        empty.then(|| FieldError::required(self.at("secretNamespace"), ""))
    }

    fn azure_disk(&self) -> FieldErrors {
        let listed = |child: &str, supported: &[&str]| {
            let text = self.given[child].as_str().filter(|text| !supported.contains(text))?;
            Some(FieldError::not_supported(self.at(child), text, supported))
        };
        let mut errors: FieldErrors = listed("cachingMode", &CACHING).into_iter().collect();
        errors.extend(listed("kind", &AZURE_DISKS));
        let address = self.text("diskURI");
        let wanted = match self.given["kind"].as_str() {
            Some("Managed") if !address.starts_with("/subscriptions/") => Some(MANAGED_DISK),
            Some(kind) if kind != "Managed" && !address.starts_with("https://") => Some(BLOB_DISK),
            _ => None,
        };
        errors.extend(wanted.map(|form| FieldError::not_supported(self.at("diskURI"), address, &[form])));
        errors
    }

    fn storage_os(&self) -> FieldErrors {
        let mut errors: FieldErrors = self.required("volumeName", "").into_iter().collect();
        for child in ["volumeName", "volumeNamespace"] {
            let text = self.text(child);
            if !text.is_empty() {
                errors.extend(FieldError::each(&self.at(child), text, names::dns_label(text)));
            }
        }
        errors.extend(self.secret("secretRef"));
        errors
    }

    /// Checks that a reference to a secret has a name and, of a PersistentVolume, a namespace.
    fn secret(&self, child: &str) -> FieldErrors {
        let wanted: &[&str] = match self.owner {
            _ if !self.is_given(child) => &[],
            Owner::Pod(_) => &["name"],
            Owner::PersistentVolume(_) => &["name", "namespace"],
        };
        let empty = |part: &&&str| self.given[child][**part].as_str().unwrap_or_default().is_empty();
        wanted
            .iter()
            .filter(empty)
            .map(|part| FieldError::required(self.at(&format!("{child}.{part}")), ""))
            .collect()
    }

    fn csi(&self) -> FieldErrors {
        let driver = self.text("driver");
        let at = self.at("driver");
        let mut errors: FieldErrors = self.required("driver", "").into_iter().collect();
        if driver.len() > LONGEST_DRIVER {
            errors.push(FieldError::too_long(at.as_str(), LONGEST_DRIVER));
        }
        let problems = names::dns_subdomain(&driver.to_lowercase());
        errors.extend(FieldError::each(&at, driver, problems));
        match self.owner {
            Owner::Pod(_) => {
                errors.extend(self.secret("nodePublishSecretRef"));
                let name = self.given["nodePublishSecretRef"]["name"].as_str().unwrap_or_default();
                if !name.is_empty() {
                    errors.extend(FieldError::each(&self.at("name"), name, names::dns_subdomain(name)));
                }
            }
            Owner::PersistentVolume(_) => {
                errors.extend(self.required("volumeHandle", ""));
                let references = [
                    "controllerPublishSecretRef",
                    "controllerExpandSecretRef",
                    "nodePublishSecretRef",
                    "nodeExpandSecretRef",
                ];
                errors.extend(references.iter().flat_map(|child| self.csi_secret(child)));
            }
        }
        errors
    }

    fn csi_secret(&self, child: &str) -> FieldErrors {
        if !self.is_given(child) {
            return Vec::new();
        }
        let parts = [
            ("name", names::dns_subdomain as fn(&str) -> Vec<String>),
            ("namespace", names::dns_label),
        ];
        let checked = parts.into_iter().flat_map(|(part, check)| {
            let at = self.at(&format!("{child}.{part}"));
            match self.given[child][part].as_str().unwrap_or_default() {
                "" => vec![FieldError::required(at, "")],
                text => FieldError::each(&at, text, check(text)),
            }
        });
        checked.collect()
    }
}

/// Whether Go's `net.SplitHostPort` takes it: one colon before the port, and a host with colons only in brackets.
fn is_host_and_port(pair: &str) -> bool {
    let Some((host, _)) = pair.rsplit_once(':') else {
        return false;
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |text: &str| !text.contains(['[', ']']);
    inner.map_or_else(|| !host.contains(':') && plain(host), plain)
}

#[cfg(test)]
mod tests {
    use super::is_host_and_port;

    #[test]
    fn a_registry_is_pairs_of_host_and_port() {
        for sound in ["a:1", "[::1]:7861", "a:"] {
            assert!(is_host_and_port(sound), "{sound}");
        }
        for wrong in ["a", "", "::1:7861", "[::1]", "a]:1"] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }
}
