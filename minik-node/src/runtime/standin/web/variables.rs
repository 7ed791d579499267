//! nginx's variables in the text of a `return`. Pure.

/// Names that the stand-in knows, beside `http_…`.
const KNOWN: [&str; 13] = [
    "args",
    "host",
    "hostname",
    "http_host",
    "remote_addr",
    "remote_port",
    "request_method",
    "request_uri",
    "scheme",
    "server_addr",
    "server_port",
    "time_iso8601",
    "uri",
];

/// Finds the first name that is not known.
pub fn check(text: &str) -> Result<(), String> {
    let mut unknown = None;
    replace(text, |name| {
        if !KNOWN.contains(&name) && !name.starts_with("http_") {
            unknown.get_or_insert_with(|| name.to_owned());
        }
        String::new()
    });
    unknown.map_or(Ok(()), Err)
}

/// Replaces `$name` and `${name}`.
pub fn replace(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = after
                .find(|char: char| !char.is_ascii_alphanumeric() && char != '_')
                .unwrap_or(after.len());
            after.split_at(end)
        });
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&value(name));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_nginx_ends_them() {
        assert_eq!(replace("$a:${a}b $ $$a-", |name| name.to_uppercase()), "A:Ab $ $A-");
        assert_eq!(check("$host $http_user_agent"), Ok(()));
        assert_eq!(check("$host $nope"), Err("nope".to_owned()));
    }
}
