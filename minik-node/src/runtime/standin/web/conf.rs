//! The part of nginx's configuration that the stand-in understands. What it does not, it refuses by file and
//! line, as nginx does: a lab that needs more needs the real nginx.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::syntax::{ConfError, Directive, parse};
use super::variables::check;

/// Directives that change nothing which a client of the lessons could see.
const WITHOUT_EFFECT: [&str; 17] = [
    "charset",
    "daemon",
    "error_log",
    "error_page",
    "gzip",
    "keepalive_timeout",
    "log_format",
    "pid",
    "sendfile",
    "server_tokens",
    "tcp_nodelay",
    "tcp_nopush",
    "types_hash_max_size",
    "user",
    "worker_connections",
    "worker_processes",
    "multi_accept",
];
/// Files that one configuration may include, all told.
const MAX_FILES: usize = 256;

/// A whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conf {
    /// In order.
    pub servers: Vec<Server>,
}

/// One `server`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Ports it listens on, and whether it is the default there.
    pub ports: Vec<(u16, bool)>,
    /// Its names.
    pub names: Vec<String>,
    /// Its own settings.
    pub settings: Settings,
    /// In order.
    pub locations: Vec<Location>,
}

/// One `location`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Location {
    /// Whether the path must be equal.
    pub exact: bool,
    /// Path or prefix.
    pub path: String,
    /// Its own settings over the server's.
    pub settings: Settings,
}

/// What is inherited inwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `return CODE [TEXT]`
    pub answer: Option<(u16, String)>,
    /// `root`
    pub root: PathBuf,
    /// `index`
    pub index: Vec<String>,
    /// `default_type`
    pub default_type: String,
    /// Whether requests are logged.
    pub access_log: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer: None,
            root: "/usr/share/nginx/html".into(),
            index: vec!["index.html".to_owned()],
            default_type: "text/plain".to_owned(),
            access_log: true,
        }
    }
}

/// Reads a configuration from its main file.
pub fn load(path: &Path) -> Result<Conf, ConfError> {
    let mut files = 0;
    let directives = read(path, &mut files)?;
    let mut conf = Conf::default();
    for directive in directives {
        match (directive.name.as_str(), &directive.block) {
            ("events", Some(block)) => block.iter().try_for_each(ignore)?,
            ("http", Some(block)) => http(block, &mut conf)?,
            _ => ignore(&directive)?,
        }
    }
    Ok(conf)
}

/// Parses a file with what it includes in the place of each `include`.
fn read(path: &Path, files: &mut usize) -> Result<Vec<Directive>, ConfError> {
    let place = super::syntax::Place {
        file: path.to_owned(),
        line: 1,
    };
    *files += 1;
    if *files > MAX_FILES {
        return Err(ConfError {
            message: "too many included files".to_owned(),
            place,
        });
    }
    let text = fs::read_to_string(path).map_err(|error| ConfError {
        message: format!("open() {path:?} failed ({error})"),
        place,
    })?;
    include(parse(&text, path)?, path, files)
}

fn include(directives: Vec<Directive>, from: &Path, files: &mut usize) -> Result<Vec<Directive>, ConfError> {
    let mut all = Vec::new();
    for mut directive in directives {
        if directive.name == "include" {
            let pattern = arg(&directive)?;
            let base = from.parent().unwrap_or(Path::new("/"));
            for file in matching(&base.join(pattern)) {
                all.extend(read(&file, files)?);
            }
        } else {
            if let Some(block) = directive.block.take() {
                directive.block = Some(include(block, from, files)?);
            }
            all.push(directive);
        }
    }
    Ok(all)
}

/// Files that a path with one `*` in its last part means, sorted; a path without one means itself.
fn matching(pattern: &Path) -> BTreeSet<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some((before, after)) = name.split_once('*') else {
        return BTreeSet::from([pattern.to_owned()]);
    };
    let entries = pattern
        .parent()
        .and_then(|dir| fs::read_dir(dir).ok())
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let fits = |name: &str| {
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
            && !name.starts_with('.')
    };
    entries
        .filter(|entry| fits(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect()
}

fn http(directives: &[Directive], conf: &mut Conf) -> Result<(), ConfError> {
    let mut settings = Settings::default();
    for directive in directives {
        match (directive.name.as_str(), &directive.block) {
            ("server", Some(_)) | ("types", Some(_)) => {}
            ("return", _) => return Err(misplaced(directive)),
            _ => setting(directive, &mut settings)?,
        }
    }
    for directive in directives.iter().filter(|directive| directive.name == "server") {
        conf.servers.push(server(directive, &settings)?);
    }
    Ok(())
}

fn server(directive: &Directive, inherited: &Settings) -> Result<Server, ConfError> {
    let mut server = Server {
        settings: inherited.clone(),
        ..Server::default()
    };
    let block = directive.block.as_deref().unwrap_or_default();
    for directive in block {
        match directive.name.as_str() {
            "listen" => server.ports.extend(listen(directive)?),
            "server_name" => server.names.extend(directive.args.iter().cloned()),
            "location" => {}
            _ => setting(directive, &mut server.settings)?,
        }
    }
    for directive in block.iter().filter(|directive| directive.name == "location") {
        server.locations.push(location(directive, &server.settings)?);
    }
    if server.ports.is_empty() {
        server.ports.push((80, false));
    }
    Ok(server)
}

fn listen(directive: &Directive) -> Result<Option<(u16, bool)>, ConfError> {
    let address = arg(directive)?;
    let mut default = false;
    for flag in &directive.args[1..] {
        match flag.as_str() {
            "default_server" => default = true,
            _ => {
                return Err(error(
                    directive,
                    format!("invalid parameter {flag:?}: the stand-in knows default_server alone"),
                ));
            }
        }
    }
    if address.starts_with('[') {
        // There is no IPv6 in a cluster; the IPv4 line beside it says all.
        return Ok(None);
    }
    let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
    match port.parse() {
        Ok(port) => Ok(Some((port, default))),
        Err(_) => Err(error(
            directive,
            format!("invalid port in {address:?} of the \"listen\" directive"),
        )),
    }
}

fn location(directive: &Directive, inherited: &Settings) -> Result<Location, ConfError> {
    let (exact, path) = match directive.args.as_slice() {
        [path] if path.starts_with('/') => (false, path),
        [modifier, path] if modifier == "=" => (true, path),
        [modifier, path] if modifier == "^~" => (false, path),
        _ => {
            return Err(error(
                directive,
                "the stand-in knows \"location /path\" and \"location = /path\" alone".to_owned(),
            ));
        }
    };
    let mut location = Location {
        exact,
        path: path.clone(),
        settings: Settings {
            answer: None,
            ..inherited.clone()
        },
    };
    for directive in directive.block.as_deref().unwrap_or_default() {
        setting(directive, &mut location.settings)?;
    }
    Ok(location)
}

fn setting(directive: &Directive, settings: &mut Settings) -> Result<(), ConfError> {
    match directive.name.as_str() {
        "return" => settings.answer = Some(answer(directive)?),
        "root" => settings.root = arg(directive)?.into(),
        "index" => settings.index.clone_from(&directive.args),
        "default_type" => arg(directive)?.clone_into(&mut settings.default_type),
        "access_log" => settings.access_log = arg(directive)? != "off",
        _ => ignore(directive)?,
    }
    Ok(())
}

fn answer(directive: &Directive) -> Result<(u16, String), ConfError> {
    let (code, text) = match directive.args.as_slice() {
        [code] => (code, ""),
        [code, text] => (code, text.as_str()),
        _ => {
            return Err(error(
                directive,
                "invalid number of arguments in \"return\" directive".to_owned(),
            ));
        }
    };
    check(text).map_err(|name| error(directive, format!("unknown {name:?} variable")))?;
    match code.parse() {
        Ok(number @ 200..=599) => Ok((number, text.to_owned())),
        _ => Err(error(directive, format!("invalid return code {code:?}"))),
    }
}

fn ignore(directive: &Directive) -> Result<(), ConfError> {
    if WITHOUT_EFFECT.contains(&directive.name.as_str()) && directive.block.is_none() {
        Ok(())
    } else {
        Err(misplaced(directive))
    }
}

fn misplaced(directive: &Directive) -> ConfError {
    error(
        directive,
        format!(
            "unknown directive {:?} (this is minik's stand-in; install nginx-light for all of nginx)",
            directive.name
        ),
    )
}

fn arg(directive: &Directive) -> Result<&str, ConfError> {
    let wrong = || {
        error(
            directive,
            format!("invalid number of arguments in {:?} directive", directive.name),
        )
    };
    directive.args.first().map(String::as_str).ok_or_else(wrong)
}

fn error(directive: &Directive, message: String) -> ConfError {
    ConfError {
        message,
        place: directive.place.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Conf, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nginx.conf");
        fs::write(&path, text).unwrap();
        load(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn the_lesson_s_server_is_understood() {
        let conf = load_text(
            "events { worker_connections 8; }\nhttp {\n default_type text/html;\n server {\n  listen 80; # all\n  server_name _;\n  \
             location / {\n   default_type text/plain;\n   return 200 'srv : $server_addr:$server_port\\nhost: $hostname\\n';\n  }\n }\n}\n",
        )
        .unwrap();
        let location = &conf.servers[0].locations[0];
        assert_eq!(conf.servers[0].ports, [(80, false)]);
        assert_eq!(location.settings.default_type, "text/plain");
        assert_eq!(
            location.settings.answer,
            Some((200, "srv : $server_addr:$server_port\nhost: $hostname\n".to_owned()))
        );
    }

    #[test]
    fn included_files_stand_where_they_are_included() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("conf.d/b.conf"), "server { listen 81; }").unwrap();
        fs::write(dir.path().join("conf.d/a.conf"), "server { listen 82 default_server; }").unwrap();
        fs::write(dir.path().join("conf.d/a.txt"), "nonsense").unwrap();
        fs::write(dir.path().join("nginx.conf"), "http { include conf.d/*.conf; }").unwrap();
        let ports: Vec<_> = load(&dir.path().join("nginx.conf"))
            .unwrap()
            .servers
            .into_iter()
            .flat_map(|server| server.ports)
            .collect();
        assert_eq!(ports, [(82, true), (81, false)]);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_line() {
        for (text, expected) in [
            (
                "http {\n server {\n  location / { proxy_pass http://x; }\n }\n}",
                "unknown directive \"proxy_pass\"",
            ),
            ("http {\n\n server { rewrite a b; } }", "nginx.conf:3"),
            ("http { server { location ~ x { } } }", "\"location /path\""),
            ("http { server { listen 443 ssl; } }", "invalid parameter \"ssl\""),
            ("http { server { listen x; } }", "invalid port in \"x\""),
            (
                "http { server { return 200 '$nonesuch'; } }",
                "unknown \"nonesuch\" variable",
            ),
            (
                "http {\n server {",
                "unexpected end of file, expecting \"}\" in nginx.conf:2",
            ),
            (
                "user a",
                "unexpected end of file, expecting \";\" or \"}\" in nginx.conf:1",
            ),
            ("}", "unexpected \"}\" in nginx.conf:1"),
            ("http { return 200; }", "unknown directive \"return\""),
        ] {
            let error = load_text(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
