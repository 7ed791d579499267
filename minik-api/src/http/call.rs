//! One request about a resource, with everything its verb needs.

use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::error::ApiError;
use crate::identity::Identity;
use crate::resource::decode::FieldValidation;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::managed::Writer;
use crate::resource::{KindInfo, Registered};

use super::negotiate::{Accepted, text};
use super::request::{Options, Target, Verb, key, segment};
use super::state::SharedState;

/// The longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;

/// A request after routing, negotiation and authorization.
pub struct Call {
    /// The server.
    pub state: SharedState,
    /// What it does.
    pub verb: Verb,
    /// What it is about.
    pub target: Target<'static>,
    /// Query parameters.
    pub options: Options,
    /// How to answer.
    pub accept: Accepted,
    /// Who asks.
    pub identity: Identity,
    /// The request's headers.
    pub headers: HeaderMap,
}

impl Call {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &'static Registered {
        self.target.kind
    }

    /// The kind's names.
    #[must_use]
    pub fn info(&self) -> &'static KindInfo {
        &self.target.kind.info
    }

    /// Where the object named in the path is stored.
    #[must_use]
    pub fn key(&self) -> String {
        key(self.info(), &self.target.namespace, &self.target.name)
    }

    /// 404 about the object named in the path.
    #[must_use]
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(self.info(), &self.target.name)
    }

    /// What the query of a write asks for. `apply` says that the write is a server-side apply.
    ///
    /// # Errors
    /// Any option that makes no sense.
    pub fn write_options(&self, apply: bool) -> Result<WriteOptions, ApiError> {
        let mut errors = FieldErrors::new();
        let options = &self.options;
        let manager = options.get("fieldManager").unwrap_or_default();
        match options.get("force") {
            _ if apply && manager.is_empty() => {
                errors.push(FieldError::required("fieldManager", "is required for apply patch"));
            }
            Some(_) if !apply && self.verb == Verb::Patch => {
                errors.push(FieldError::forbidden(
                    "force",
                    "may not be specified for non-apply patch",
                ));
            }
            _ => {}
        }
        errors.extend(check_manager(manager));
        let dry_run = dry_run(options.all("dryRun"), &mut errors);
        let validation = match options.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", other, &supported));
                FieldValidation::Warn
            }
        };
        if !errors.is_empty() {
            return Err(self.invalid_options(errors));
        }
        Ok(WriteOptions {
            dry_run,
            validation,
            force: options.flag("force"),
            manager: if manager.is_empty() {
                self.user_agent()
            } else {
                manager.to_owned()
            },
        })
    }

    /// 422 about the options of this request.
    fn invalid_options(&self, errors: FieldErrors) -> ApiError {
        let kind = match self.verb {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Patch => "PatchOptions",
            Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
            Verb::Get | Verb::List | Verb::Watch => "ListOptions",
        };
        invalid_options(kind, errors)
    }

    /// The program that asks, as it calls itself before the first slash.
    fn user_agent(&self) -> String {
        let agent = text(&self.headers, header::USER_AGENT);
        let program = agent.split('/').next().unwrap_or_default();
        let printable: String = program
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_MANAGER)
            .collect();
        if printable.is_empty() {
            "unknown".to_owned()
        } else {
            printable
        }
    }

    /// The writer of a write with these options.
    #[must_use]
    pub fn writer<'a>(&'a self, options: &'a WriteOptions) -> Writer<'a> {
        Writer {
            info: self.info(),
            name: &options.manager,
            subresource: self.target.subresource.map_or("", segment),
            now: now(),
        }
    }
}

/// What the query of a write asks for.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Nothing is to be stored.
    pub dry_run: bool,
    /// What to do about unknown fields.
    pub validation: FieldValidation,
    /// An apply takes what others own.
    pub force: bool,
    /// Who owns what is written.
    pub manager: String,
}

fn check_manager(name: &str) -> Option<FieldError> {
    if name.len() > LONGEST_MANAGER {
        return Some(FieldError::too_long("fieldManager", LONGEST_MANAGER));
    }
    let (at, c) = name.char_indices().find(|(_, c)| c.is_control())?;
    let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
    Some(FieldError::invalid("fieldManager", name, detail))
}

/// Whether `directives` ask for a dry run; a directive other than `All` is an error.
pub fn dry_run<'v>(directives: impl Iterator<Item = &'v str>, errors: &mut FieldErrors) -> bool {
    let given: Vec<&str> = directives.filter(|directive| !directive.is_empty()).collect();
    if given.iter().any(|directive| *directive != "All") {
        errors.push(FieldError::not_supported("dryRun", given.clone(), &["All"]));
    }
    !given.is_empty()
}

/// 422 about options of the given kind.
#[must_use]
pub fn invalid_options(kind: &str, errors: FieldErrors) -> ApiError {
    ApiError::Invalid {
        kind: kind.to_owned(),
        group: "meta.k8s.io".to_owned(),
        name: String::new(),
        errors,
    }
}

/// Now, to the second, as object metadata records it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
