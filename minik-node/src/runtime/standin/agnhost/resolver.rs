//! `agnhost dns-suffix` and `agnhost dns-server-list`: what `/etc/resolv.conf` says.

use std::io;

use super::files;
use crate::runtime::standin::{StandInError, say};

/// Prints what follows `keyword`, joined by commas.
pub fn print(keyword: &str) -> Result<(), StandInError> {
    let values = values(&files::text("/etc/resolv.conf")?, keyword).join(",");
    say(&mut io::stdout(), &format!("{values}\n"));
    Ok(())
}

/// The last `search` counts, every `nameserver` does.
fn values(resolv_conf: &str, keyword: &str) -> Vec<String> {
    let mut values = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some(keyword) {
            if keyword == "search" {
                values.clear();
            }
            values.extend(words.map(str::to_owned));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolvers_lines_are_read_as_the_resolver_reads_them() {
        let text = "nameserver 10.96.0.10\nnameserver 1.1.1.1\nsearch a\nsearch b.c d\n";
        assert_eq!(values(text, "nameserver"), ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(values(text, "search"), ["b.c", "d"]);
    }
}
