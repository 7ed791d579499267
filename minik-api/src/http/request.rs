//! A request's target and options, read from its method, path and query. Pure: says what is asked for,
//! not whether it exists as an object or may be done.

use axum::extract::Query;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::error::ApiError;
use crate::resource::protobuf::Expected;
use crate::resource::{KindInfo, Registered, Registry, Subresource};

use super::custom_kinds;

/// What a path under `/api` or `/apis` points to.
#[derive(Clone)]
pub struct Target<'r> {
    /// The kind.
    pub kind: &'r Registered,
    /// The namespace in the path; empty for cluster-scoped kinds and for all namespaces.
    pub namespace: String,
    /// The object; empty for a collection.
    pub name: String,
    /// Its part.
    pub subresource: Option<Subresource>,
}

/// What a path points to.
pub enum Route<'r> {
    /// An object, a collection or a subresource.
    Resource(Target<'r>),
    /// Anything else: discovery, health, schema.
    Path(Vec<String>),
}

/// What the API server calls a request's verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET of an object.
    Get,
    /// GET of a collection.
    List,
    /// GET of a collection with `watch`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of an object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

impl Verb {
    /// As authorization and discovery spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// The verb of `method` on `target`.
    ///
    /// # Errors
    /// The method has no meaning there.
    pub fn of(method: &Method, target: &Target<'_>, options: &Options) -> Result<Self, ApiError> {
        let one = !target.name.is_empty();
        Ok(match *method {
            Method::GET | Method::HEAD if one => Self::Get,
            Method::GET | Method::HEAD if options.flag("watch") => Self::Watch,
            Method::GET | Method::HEAD => Self::List,
            Method::POST if !one || target.subresource.is_some() => Self::Create,
            Method::PUT if one => Self::Update,
            Method::PATCH if one => Self::Patch,
            Method::DELETE if one => Self::Delete,
            Method::DELETE => Self::DeleteCollection,
            _ => return Err(ApiError::MethodNotAllowed),
        })
    }
}

/// The path segment of a subresource.
#[must_use]
pub fn segment(subresource: Subresource) -> &'static str {
    match subresource {
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::Binding => "binding",
        Subresource::Log => "log",
        Subresource::Exec => "exec",
        Subresource::Finalize => "finalize",
        Subresource::Attach => "attach",
        Subresource::PortForward => "portforward",
        Subresource::Proxy => "proxy",
        Subresource::Eviction => "eviction",
        Subresource::EphemeralContainers => "ephemeralcontainers",
        Subresource::Resize => "resize",
        Subresource::Token => "token",
    }
}

impl<'r> Route<'r> {
    /// Reads `path`.
    ///
    /// # Errors
    /// The path is under a served group and version, and names nothing there; or it is not UTF-8.
    pub fn parse(registry: &'r Registry, path: &str) -> Result<Self, ApiError> {
        let segments = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| {
                percent_decode_str(segment)
                    .decode_utf8()
                    .map(std::borrow::Cow::into_owned)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_unparsable| ApiError::NoSuchPath)?;
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            path if path == custom_kinds::PATH => return Ok(Self::Path(segments)),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(Self::Path(segments)),
        };
        if !registry
            .iter()
            .any(|kind| kind.info.group == group && kind.info.version == version)
        {
            return Err(ApiError::NoSuchPath);
        }
        let find = |plural: &str| registry.by_plural(group, version, plural);
        let (kind, namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if find(plural).is_some_and(|k| k.info.namespaced) => {
                (find(plural), *namespace, rest)
            }
            [plural, rest @ ..] => (find(plural), "", rest),
            [] => (None, "", rest),
        };
        let kind = kind.ok_or(ApiError::NoSuchResource)?;
        let (name, subresource) = match rest {
            [] => ("", None),
            [name] => (*name, None),
            [name, part] => {
                let known = kind.info.subresources.iter().copied().find(|s| segment(*s) == *part);
                (*name, Some(known.ok_or(ApiError::NoSuchResource)?))
            }
            // What follows is a path of whoever is behind the proxy.
            [name, "proxy", ..] if kind.info.subresources.contains(&Subresource::Proxy) => {
                (*name, Some(Subresource::Proxy))
            }
            _ => return Err(ApiError::NoSuchResource),
        };
        if kind.info.namespaced && namespace.is_empty() && !name.is_empty() {
            return Err(ApiError::NoSuchResource);
        }
        Ok(Self::Resource(Target {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource,
        }))
    }
}

/// The kind of object that a request about `target` carries.
#[must_use]
pub fn expected(target: &Target<'_>, verb: Verb) -> Expected {
    let (api_version, kind) = match (verb, target.subresource) {
        (Verb::Delete | Verb::DeleteCollection, _) => ("v1".to_owned(), "DeleteOptions"),
        (_, Some(Subresource::Scale)) => ("autoscaling/v1".to_owned(), "Scale"),
        (_, Some(Subresource::Binding)) => ("v1".to_owned(), "Binding"),
        (_, Some(Subresource::Eviction)) => ("policy/v1".to_owned(), "Eviction"),
        (_, Some(Subresource::Token)) => ("authentication.k8s.io/v1".to_owned(), "TokenRequest"),
        _ => (target.kind.info.api_version(), target.kind.info.kind),
    };
    Expected { api_version, kind }
}

/// Where an object of a kind is stored.
#[must_use]
pub fn key(info: &KindInfo, namespace: &str, name: &str) -> String {
    format!("{}{name}", prefix(info, namespace))
}

/// Where the objects of a kind in a namespace (all namespaces if empty) are stored.
#[must_use]
pub fn prefix(info: &KindInfo, namespace: &str) -> String {
    let group = match info.stored_in() {
        "" => "core",
        group => group,
    };
    if namespace.is_empty() {
        format!("{group}/{}/", info.plural)
    } else {
        format!("{group}/{}/{namespace}/", info.plural)
    }
}

/// A request's query parameters.
#[derive(Debug, Clone, Default)]
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Reads the query of `uri`.
    ///
    /// # Errors
    /// It is not form-encoded text.
    pub fn parse(uri: &Uri) -> Result<Self, ApiError> {
        Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::BadRequest(error.to_string()))
    }

    /// The first value of `name`, unless it is empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self
            .0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether `name` is set; as the API server, anything but `false` and `0` sets it.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.all(name)
            .next()
            .is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// The whole number in `name`.
    ///
    /// # Errors
    /// It is there and is none.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, ApiError> {
        self.get(name).map(str::parse).transpose().map_err(|_malformed| {
            let value = self.get(name).unwrap_or_default();
            ApiError::BadRequest(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
        })
    }
}
