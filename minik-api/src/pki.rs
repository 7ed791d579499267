//! The cluster's own certificate authority: made once, kept in files, used to serve and to let clients in.
//!
//! Keys are ECDSA P-256. Files are written whole or not at all, mode 0600. Nothing here listens or
//! decides who may do what; a client certificate only says a name (`CN`) and groups (`O`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::account_tokens::{AccountKey, TokenError};
use crate::identity::{CREDENTIAL, Identity};

/// Lifetime of everything that is issued, ten years. A lab is thrown away long before.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How far in the past certificates begin: a machine's clock that is set right, or wrong, by hours must not lock anybody out.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

/// What a server certificate is good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// Names: `kubernetes.default.svc`, `localhost` …
    pub dns: Vec<String>,
    /// Addresses: the first of the Service range, the nodes', 127.0.0.1.
    pub ips: Vec<IpAddr>,
}

impl ServerNames {
    /// The names every Kubernetes API server answers to, in a cluster with this DNS domain.
    #[must_use]
    pub fn standard(cluster_domain: &str, ips: Vec<IpAddr>) -> Self {
        let mut dns: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "control-plane",
        ]
        .map(str::to_owned)
        .into();
        dns.push(format!("kubernetes.default.svc.{cluster_domain}"));
        Self { dns, ips }
    }
}

/// What can go wrong with keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read.
    #[error("reading {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("writing {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key or certificate could not be made, or a stored one is damaged.
    #[error("making a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
    /// More than one group that the name does not imply: a subject holds one organization here.
    #[error("a certificate for {subject} cannot carry more than one group of its own")]
    TooManyGroups {
        /// For whom.
        subject: String,
    },
    /// The key of service account tokens could not be made.
    #[error("making the key of service account tokens")]
    AccountKey(#[source] TokenError),
    /// A stored certificate or key is no PEM.
    #[error("reading a certificate or key")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// TLS refused the key or certificate.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// The verifier of client certificates could not be set up.
    #[error("setting up the verification of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The key.
    pub key_pem: String,
}

/// A cluster's authority and its server certificate.
pub struct ClusterPki {
    ca: Issued,
    server: Issued,
}

impl ClusterPki {
    /// Reads `ca.crt`, `ca.key`, `apiserver.crt` and `apiserver.key` in `dir`, making what is not there.
    /// The server certificate is made anew when `names` are not those it was made for.
    ///
    /// # Errors
    /// The directory cannot be read or written, or its contents are damaged.
    pub fn load_or_create(dir: &Path, names: &ServerNames) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Write {
            path: dir.to_owned(),
            source,
        })?;
        let ca = match load(dir, "ca")? {
            Some(ca) => ca,
            None => {
                let ca = make_ca()?;
                store(dir, "ca", &ca)?;
                ca
            }
        };
        let wanted = names_text(names);
        let names_path = dir.join("apiserver.names");
        let made_for = fs::read_to_string(&names_path).ok();
        let server = match load(dir, "apiserver")? {
            Some(server) if made_for.as_ref() == Some(&wanted) => server,
            _ => {
                let server = make_server(&ca, names)?;
                store(dir, "apiserver", &server)?;
                write_atomically(&names_path, wanted.as_bytes())?;
                server
            }
        };
        Ok(Self { ca, server })
    }

    /// The key that signs service account tokens, `sa.key` in `dir`; made when it is not there.
    ///
    /// # Errors
    /// The file cannot be read or written, or no key can be made.
    pub fn account_key(dir: &Path) -> Result<AccountKey, PkiError> {
        let path = dir.join("sa.key");
        match fs::read_to_string(&path) {
            Ok(pem) => Ok(AccountKey::from_pem(pem)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = AccountKey::generate().map_err(PkiError::AccountKey)?;
                write_atomically(&path, key.pem().as_bytes())?;
                Ok(key)
            }
            Err(source) => Err(PkiError::Read { path, source }),
        }
    }

    /// The authority's certificate, for kubeconfigs.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca.cert_pem
    }

    /// Issues a client certificate for user `cn` in the groups `orgs`. Groups that the name implies
    /// ([`identity`] adds them) are not written down, and there can be one other.
    ///
    /// # Errors
    /// There are more, or the authority's key is damaged.
    pub fn issue_client(&self, cn: &str, orgs: &[&str]) -> Result<Issued, PkiError> {
        let implied = implied_groups(cn);
        let mut own = orgs
            .iter()
            .copied()
            .filter(|org| !implied.iter().any(|group| group == org));
        let org = own.next();
        if own.next().is_some() {
            return Err(PkiError::TooManyGroups { subject: cn.to_owned() });
        }
        let mut params = params(cn, org);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(params, &self.ca, cn)
    }

    /// TLS for serving: HTTP/2 and HTTP/1.1, client certificates welcome but not required.
    ///
    /// # Errors
    /// A key or certificate is damaged.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(PkiError::Pem);
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.ca.cert_pem)?).map_err(PkiError::Tls)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(PkiError::Verifier)?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key_pem.as_bytes()).map_err(PkiError::Pem)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(PkiError::Tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate(&self.server.cert_pem)?], key)
            .map_err(PkiError::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Who a verified client certificate says is asking: `CN` is the user, every `O` a group. None when it
/// names no user.
#[must_use]
pub fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = subject.iter_organization().filter_map(|name| name.as_str().ok());
    let mut groups: Vec<String> = organizations.map(str::to_owned).collect();
    groups.extend(implied_groups(&user));
    let credential = format!("X509SHA256={}", HEXLOWER.encode(&Sha256::digest(certificate)));
    Some(Identity {
        user,
        groups,
        extra: BTreeMap::from([(CREDENTIAL.to_owned(), vec![credential])]),
        ..Identity::default()
    })
}

/// The groups of whoever has this name: those of a service account, and that of everyone with a name.
#[must_use]
pub fn implied_groups(user: &str) -> Vec<String> {
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let mut groups = Vec::new();
    if let Some((namespace, _)) = account {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    groups.push("system:authenticated".to_owned());
    groups
}

fn params(cn: &str, org: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(org) = org {
        subject.push(DnType::OrganizationName, org);
    }
    subject.push(DnType::CommonName, cn);
    params.distinguished_name = subject;
    // Clocks of machines that are set up in a moment are not always right.
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + LIFETIME;
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    params
}

fn make_ca() -> Result<Issued, PkiError> {
    let subject = "kubernetes";
    let mut params = params(subject, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    let failed = |source| PkiError::Issue {
        subject: subject.to_owned(),
        source,
    };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Issued {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn make_server(ca: &Issued, names: &ServerNames) -> Result<Issued, PkiError> {
    let subject = "kube-apiserver";
    let mut params = params(subject, None);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in &names.dns {
        let failed = |source| PkiError::Issue {
            subject: name.clone(),
            source,
        };
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
    }
    params
        .subject_alt_names
        .extend(names.ips.iter().copied().map(SanType::IpAddress));
    sign(params, ca, subject)
}

fn sign(params: CertificateParams, ca: &Issued, subject: &str) -> Result<Issued, PkiError> {
    let failed = |source| PkiError::Issue {
        subject: subject.to_owned(),
        source,
    };
    let ca_key = KeyPair::from_pem(&ca.key_pem).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, ca_key).map_err(failed)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Issued {
        cert_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

fn names_text(names: &ServerNames) -> String {
    let ips = names.ips.iter().map(IpAddr::to_string);
    names.dns.iter().cloned().chain(ips).map(|name| name + "\n").collect()
}

/// Reads `NAME.crt` and `NAME.key`; none when either is missing.
fn load(dir: &Path, name: &str) -> Result<Option<Issued>, PkiError> {
    let read = |extension: &str| {
        let path = dir.join(format!("{name}.{extension}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PkiError::Read { path, source }),
        }
    };
    Ok(match (read("crt")?, read("key")?) {
        (Some(cert_pem), Some(key_pem)) => Some(Issued { cert_pem, key_pem }),
        _ => None,
    })
}

/// Writes the key before the certificate: a certificate is never there without its key.
fn store(dir: &Path, name: &str, issued: &Issued) -> Result<(), PkiError> {
    write_atomically(&dir.join(format!("{name}.key")), issued.key_pem.as_bytes())?;
    write_atomically(&dir.join(format!("{name}.crt")), issued.cert_pem.as_bytes())
}

fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), PkiError> {
    let write = || -> io::Result<()> {
        let draft = path.with_added_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| PkiError::Write {
        path: path.to_owned(),
        source,
    })
}
