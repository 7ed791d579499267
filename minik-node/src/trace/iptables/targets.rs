//! What a rule does, out of `-j` and its options.

use std::net::Ipv4Addr;

use super::option::Opt;
use super::options::{number, parse};
use super::rule::{SourcePort, Target};

/// A built-in target, or a jump to a chain of the same table.
pub(super) fn target(name: &str, options: &[Opt<'_>], chain: &dyn Fn(&str) -> Option<usize>) -> Result<Target, String> {
    if let Some(index) = chain(name) {
        return Ok(Target::Jump(index));
    }
    let unsupported = |option: &str| Target::Unsupported(format!("target {name} {option}").trim_end().to_owned());
    Ok(match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "LOG" => Target::Continue,
        "REJECT" => match options {
            [] => Target::Reject("icmp-port-unreachable".to_owned()),
            [with] if with.name == "--reject-with" => Target::Reject(with.value()?.to_owned()),
            _ => unsupported("with other options"),
        },
        "MARK" => match options {
            [mark] => marking(mark)?.unwrap_or_else(|| unsupported(mark.name)),
            _ => unsupported("with other options"),
        },
        "DNAT" | "SNAT" => match options {
            [to, rest @ ..]
                if rest.iter().all(chooses_port) && ["--to-destination", "--to-source"].contains(&to.name) =>
            {
                match end(to.value()?)? {
                    None => unsupported("to a range"),
                    Some((address, port)) if name == "DNAT" => Target::Dnat { address, port },
                    Some((address, port)) => Target::Snat {
                        address,
                        port: source_port(port, rest),
                    },
                }
            }
            _ => unsupported("with other options"),
        },
        "MASQUERADE" | "REDIRECT" => {
            let (to, rest): (Vec<Opt<'_>>, Vec<Opt<'_>>) =
                options.iter().cloned().partition(|option| option.name == "--to-ports");
            let port = to.first().map(|option| option.value().map(str::to_owned)).transpose()?;
            match port {
                _ if !rest.iter().all(chooses_port) => unsupported("with other options"),
                Some(port) if port.contains('-') => unsupported("to a range of ports"),
                port => {
                    let port = port.map(|port| parse(&port)).transpose()?;
                    if name == "REDIRECT" {
                        Target::Redirect { port }
                    } else {
                        Target::Masquerade {
                            port: source_port(port, &rest),
                        }
                    }
                }
            }
        }
        _ => unsupported(""),
    })
}

/// Options that say how a port is chosen, not whether.
fn chooses_port(option: &Opt<'_>) -> bool {
    ["--random", "--random-fully", "--persistent"].contains(&option.name)
}

fn source_port(port: Option<u16>, options: &[Opt<'_>]) -> SourcePort {
    match port {
        Some(port) => SourcePort::Fixed(port),
        None if options.iter().any(|option| option.name.starts_with("--random")) => SourcePort::Chosen,
        None => SourcePort::Kept,
    }
}

/// Every form of `MARK` comes down to `(mark & !mask) ^ value`.
fn marking(option: &Opt<'_>) -> Result<Option<Target>, String> {
    let (value, mask) = option
        .value()?
        .split_once('/')
        .unwrap_or((option.value()?, "0xffffffff"));
    let (value, mask) = (number(value)?, number(mask)?);
    Ok(match option.name {
        "--set-xmark" => Some((value, mask)),
        "--set-mark" => Some((value, mask | value)),
        "--and-mark" => Some((0, !value)),
        "--or-mark" => Some((value, value)),
        "--xor-mark" => Some((value, 0)),
        _ => None,
    }
    .map(|(value, mask)| Target::Mark { value, mask }))
}

/// Address and port, each as far as given.
type End = (Option<Ipv4Addr>, Option<u16>);

/// `10.0.0.1:80`, `10.0.0.1`, `:80`; `None` for ranges of either.
fn end(text: &str) -> Result<Option<End>, String> {
    if text.contains('-') {
        return Ok(None);
    }
    let (address, port) = text.split_once(':').unwrap_or((text, ""));
    let given = |text: &str| !text.is_empty();
    Ok(Some((
        given(address).then(|| parse(address)).transpose()?,
        given(port).then(|| parse(port)).transpose()?,
    )))
}
