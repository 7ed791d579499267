//! Stand-ins for web servers that are not installed: enough of nginx and httpd for the lessons, and honest
//! about the rest.
//!
//! Runs inside a container, as its first process. Serves plain HTTP; reads the configuration that the real
//! program would read.

mod conf;
mod serve;
mod syntax;
mod variables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conf::{Conf, Server, Settings};

/// Which program to stand in for, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandIn {
    /// nginx with its main configuration file.
    Nginx(PathBuf),
    /// httpd with its documents.
    Httpd(PathBuf),
}

impl StandIn {
    /// Reads `nginx [-c FILE] [-g …]` or `httpd […]`.
    ///
    /// # Errors
    /// The text to print for what is neither.
    pub fn parse(args: &[String]) -> Result<Self, String> {
        match args.split_first() {
            Some((name, rest)) if name == "nginx" => {
                let file = rest.iter().position(|arg| arg == "-c").and_then(|at| rest.get(at + 1));
                Ok(Self::Nginx(
                    file.map_or_else(|| "/etc/nginx/nginx.conf".into(), PathBuf::from),
                ))
            }
            Some((name, _)) if name == "httpd" => Ok(Self::Httpd("/usr/local/apache2/htdocs".into())),
            _ => Err(format!("no stand-in for {args:?}; there are: nginx, httpd")),
        }
    }
}

/// Runs a stand-in until it is told to stop. Starts a runtime of its own.
#[must_use]
pub fn run(args: &[String]) -> ExitCode {
    let result = StandIn::parse(args).and_then(|program| {
        let conf = match &program {
            StandIn::Nginx(file) => conf::load(file).map_err(|error| format!("nginx: [emerg] {error}"))?,
            StandIn::Httpd(documents) => documents_on_80(documents),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("start runtime: {error}"))?;
        runtime.block_on(serve::serve(conf)).map_err(|error| error.to_string())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn documents_on_80(documents: &Path) -> Conf {
    let settings = Settings {
        root: documents.to_owned(),
        default_type: "text/html".to_owned(),
        ..Settings::default()
    };
    Conf {
        servers: vec![Server {
            ports: vec![(80, true)],
            settings,
            ..Server::default()
        }],
    }
}
