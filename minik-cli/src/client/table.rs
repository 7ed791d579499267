//! Prints the server's Tables as kubectl does: upper-case headers, columns as wide as their widest cell and three
//! spaces, the last one included. Pure.
//!
//! kubectl's printer is Go's tabwriter with a padding of three; what it does for cells without tabs is the one rule
//! in [`render`], less than any table crate needs configuring away.

use serde::Deserialize;
use serde_json::Value;

/// `meta.k8s.io/v1` Table, what of it is printed.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Columns.
    #[serde(default)]
    pub column_definitions: Vec<Column>,
    /// Rows.
    #[serde(default)]
    pub rows: Vec<Row>,
}

/// One column.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    /// Header, before it is made upper case.
    pub name: String,
    /// Above 0: only `-o wide`.
    #[serde(default)]
    pub priority: i32,
}

/// One row.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    /// One a column.
    #[serde(default)]
    pub cells: Vec<Value>,
    /// The object, or its metadata.
    #[serde(default)]
    pub object: Value,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style<'a> {
    /// `-o wide`
    pub wide: bool,
    /// `--no-headers`
    pub no_headers: bool,
    /// `-A`: a first column with the namespace.
    pub with_namespace: bool,
    /// With several kinds, names are written `deployment.apps/NAME`.
    pub kind: Option<&'a str>,
}

/// The table as text; empty if it has no rows.
#[must_use]
pub fn print(table: &Table, style: Style<'_>) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let shown: Vec<usize> = (0..table.column_definitions.len())
        .filter(|i| style.wide || table.column_definitions[*i].priority == 0)
        .collect();
    let namespace = |text: &str| style.with_namespace.then(|| text.to_owned());
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(table.rows.len() + 1);
    if !style.no_headers {
        let headers = shown.iter().map(|i| table.column_definitions[*i].name.to_uppercase());
        lines.push(namespace("NAMESPACE").into_iter().chain(headers).collect());
    }
    for row in &table.rows {
        let cells = shown.iter().map(|i| {
            let cell = cell(row.cells.get(*i).unwrap_or(&Value::Null));
            match style.kind {
                Some(kind) if *i == 0 => format!("{kind}/{cell}"),
                _ => cell,
            }
        });
        let of = row.object["metadata"]["namespace"].as_str().unwrap_or_default();
        lines.push(namespace(of).into_iter().chain(cells).collect());
    }
    render(&lines)
}

/// A cell on one line, as kubectl prints it: what follows a line break is cut, and said to be.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.split_once(['\n', '\r', '\u{c}']) {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

/// Every cell but the last of its line is padded to its column's width and three spaces.
#[must_use]
pub fn render(lines: &[Vec<String>]) -> String {
    const PADDING: usize = 3;
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            lines
                .iter()
                .filter_map(|line| line.get(i))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if i + 1 < line.len() {
                let spaces = widths[i] + PADDING - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', spaces));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn services() -> Table {
        let columns = [
            ("Name", 0),
            ("Type", 0),
            ("Cluster-IP", 0),
            ("External-IP", 0),
            ("Port(s)", 0),
            ("Age", 0),
            ("Selector", 1),
        ]
        .map(|(name, priority)| json!({"name": name, "priority": priority}));
        let row = |cells: Value| json!({"cells": cells, "object": {"metadata": {"namespace": "default"}}});
        serde_json::from_value(json!({
            "columnDefinitions": columns,
            "rows": [
                row(json!(["kubernetes", "ClusterIP", "10.96.0.1", "<none>", "443/TCP", "26s", null])),
                row(json!(["my-ns", "ExternalName", "<none>", "www.qq.com", "<none>", "3s", "app=my-ns"])),
                row(json!(["nginx-svc", "ClusterIP", "10.99.107.89", "<none>", "80/TCP", "5s", "app=nginx"])),
            ],
        }))
        .unwrap()
    }

    /// Rows of kubectl's own output, the widths narrowed by hand to the rows that are here.
    #[test]
    fn columns_are_padded_as_by_kubectl() {
        assert_eq!(
            print(&services(), Style::default()),
            "\
NAME         TYPE           CLUSTER-IP     EXTERNAL-IP   PORT(S)   AGE
kubernetes   ClusterIP      10.96.0.1      <none>        443/TCP   26s
my-ns        ExternalName   <none>         www.qq.com    <none>    3s
nginx-svc    ClusterIP      10.99.107.89   <none>        80/TCP    5s
"
        );
    }

    #[test]
    fn wide_adds_columns_and_null_is_none() {
        let text = print(
            &services(),
            Style {
                wide: true,
                ..Style::default()
            },
        );
        assert!(text.lines().next().unwrap().ends_with("AGE   SELECTOR"));
        assert!(text.contains("443/TCP   26s   <none>\n"));
    }

    /// As `kubectl get deploy,rs` shows each of them.
    #[test]
    fn several_kinds_are_told_apart_by_prefix() {
        let columns = ["Name", "Ready", "Up-to-date", "Available", "Age"].map(|name| json!({"name": name}));
        let table: Table = serde_json::from_value(json!({
            "columnDefinitions": columns,
            "rows": [{"cells": ["nginx", "2/2", 2, 2, "8s"]}],
        }))
        .unwrap();
        assert_eq!(
            print(
                &table,
                Style {
                    kind: Some("deployment.apps"),
                    ..Style::default()
                }
            ),
            "NAME                    READY   UP-TO-DATE   AVAILABLE   AGE\n\
             deployment.apps/nginx   2/2     2            2           8s\n"
        );
    }

    #[test]
    fn namespaces_and_headers_are_as_asked() {
        let text = print(
            &services(),
            Style {
                with_namespace: true,
                no_headers: true,
                ..Style::default()
            },
        );
        assert!(text.starts_with("default   kubernetes   ClusterIP"));
        assert_eq!(
            print(
                &Table {
                    rows: vec![],
                    ..services()
                },
                Style::default()
            ),
            ""
        );
    }

    #[test]
    fn an_empty_cell_keeps_its_column_and_a_long_one_its_line() {
        let lines = [vec!["a".to_owned(), String::new(), "c".to_owned()]];
        assert_eq!(render(&lines), "a      c\n");
        assert_eq!(cell(&json!("one\ntwo")), "one...");
    }
}
