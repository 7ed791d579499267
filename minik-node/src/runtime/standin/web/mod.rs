//! Web servers that are not installed: nginx by its configuration, httpd by its documents.
//!
//! Reads the files that the real program would read and serves plain HTTP. What of a configuration is not known is
//! refused by file and line.

mod conf;
mod serve;
mod syntax;
mod variables;

use std::path::{Path, PathBuf};

use conf::{Conf, Server, Settings};
pub use syntax::ConfError;

use super::StandInError;

/// Serves as `nginx [-c FILE] [-g …]` until it is asked to stop.
pub async fn nginx(args: &[String]) -> Result<(), StandInError> {
    let file = args.iter().position(|arg| arg == "-c").and_then(|at| args.get(at + 1));
    let file = file.map_or_else(|| "/etc/nginx/nginx.conf".into(), PathBuf::from);
    serve::serve(conf::load(&file)?).await
}

/// Serves the documents of `httpd` until it is asked to stop.
pub async fn httpd() -> Result<(), StandInError> {
    serve::serve(documents_on_80(Path::new("/usr/local/apache2/htdocs"))).await
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
