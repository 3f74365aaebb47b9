//! What goes to standard output and, for people, to standard error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufWriter, IsTerminal as _, Stdout, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use smol_str::SmolStr;
use storage_core::{Json, Record, Value, ValueKind};

use crate::exit::Failure;

/// Standard output, as text for people or as JSON.
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    color: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, terminal, color: terminal && !no_color, out: BufWriter::with_capacity(64 << 10, stdout) }
    }

    /// Whether `--json` was given.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at standard output.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| broken(&error))
    }

    pub(crate) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(|error| broken(&error))
    }

    /// One JSON value, without a newline.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(|error| broken(&error.into()))
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.value(value)?;
        self.raw(b"\n")
    }

    /// The JSON value with `--json`, else the text.
    pub(crate) fn either(&mut self, value: &impl Serialize, text: impl Display) -> Result<(), Failure> {
        if self.json { self.json(value) } else { self.line(text) }
    }

    /// A line for people, on stderr; nothing with `--json`.
    pub(crate) fn note(&mut self, text: impl Display) -> Result<(), Failure> {
        self.flush()?;
        if !self.json {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        Ok(())
    }

    /// Tells a failure that does not end the command, on stderr.
    pub(crate) fn warn(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.flush()?;
        failure.report(self.json);
        Ok(())
    }

    /// A table: fitted to a terminal, and as wide as it is elsewhere.
    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        // A terminal that does not know its width says zero.
        if self.terminal && table.width().is_some_and(|width| width >= 40) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(head.iter().map(|name| {
            let cell = Cell::new(name);
            if self.color { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let text = table.trim_fmt();
        self.line(text)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| broken(&error))
    }

    /// Sees that all is written.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

fn broken(error: &std::io::Error) -> Failure {
    let failure = Failure::io("output", error);
    failure.prefixed("standard output cannot be written")
}

/// Commas between the items of a JSON array that is written as it comes.
#[derive(Default)]
pub(crate) struct Commas(bool);

impl Commas {
    pub(crate) fn next(&mut self) -> &'static [u8] {
        if std::mem::replace(&mut self.0, true) { b"," } else { b"" }
    }
}

/// A record as `--meta` and `--json` show it.
#[derive(Serialize)]
pub(crate) struct RecordView<'a> {
    collection: &'a str,
    key: &'a str,
    kind: ValueKind,
    value: ValueView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    version: &'a str,
    created_at: String,
    updated_at: String,
    expires_at: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ValueView<'a> {
    Json(Json),
    Bytes(String),
    Counters(&'a BTreeMap<SmolStr, i64>),
    List { length: u64 },
}

impl<'a> RecordView<'a> {
    pub(crate) fn new(record: &'a Record) -> Self {
        let (value, media_type) = match &record.value {
            Value::Json(json) => (ValueView::Json(one_line(json)), None),
            Value::Bytes(blob) => (ValueView::Bytes(base64(&blob.data)), Some(blob.media_type.as_str())),
            Value::Counters(fields) => (ValueView::Counters(fields), None),
            Value::List { length } => (ValueView::List { length: *length }, None),
        };
        Self {
            collection: record.address.collection.as_str(),
            key: record.address.key.as_str(),
            kind: record.value.kind(),
            value,
            media_type,
            version: record.version.as_str(),
            created_at: record.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
            expires_at: record.expires_at.map(|at| at.to_string()),
        }
    }
}

/// A value on one line, as JSON; of a list only its length.
pub(crate) fn value_line(value: &Value) -> String {
    match value {
        Value::Json(json) => one_line(json).as_str().to_owned(),
        Value::Bytes(blob) => {
            serde_json::json!({"bytes": base64(&blob.data), "media_type": blob.media_type}).to_string()
        }
        Value::Counters(fields) => serde_json::json!(fields).to_string(),
        Value::List { length } => serde_json::json!({"length": length}).to_string(),
    }
}

pub(crate) fn base64(data: &[u8]) -> String {
    BASE64.encode(data)
}

/// The same JSON without line breaks, which it can have only between its parts.
pub(crate) fn one_line(json: &Json) -> Json {
    let text = json.as_bytes();
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return json.clone();
    }
    Json::from_stored(compact(text))
}

/// JSON text without the white space between its parts.
pub(crate) fn compact(text: &[u8]) -> Bytes {
    let (mut in_string, mut escaped) = (false, false);
    let kept = text.iter().copied().filter(|&byte| {
        if escaped {
            escaped = false;
        } else if in_string {
            escaped = byte == b'\\';
            in_string = byte != b'"';
        } else {
            in_string = byte == b'"';
            return !byte.is_ascii_whitespace();
        }
        true
    });
    kept.collect()
}

/// A key on one line: as it is, or as a JSON string if it has control characters or begins like one.
pub(crate) fn key_line(key: &str) -> String {
    if key.contains(char::is_control) || key.starts_with('"') {
        serde_json::Value::from(key).to_string()
    } else {
        key.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_keeps_strings() {
        let text = "{ \"a b\" : \"c \\\" d\\\\\" ,\r\n\t\"e\" : [ 1 , 2 ] }";
        assert_eq!(compact(text.as_bytes()), r#"{"a b":"c \" d\\","e":[1,2]}"#);
    }

    #[test]
    fn keys_stay_on_one_line() {
        assert_eq!(key_line("a b"), "a b");
        assert_eq!(key_line("a\nb"), r#""a\nb""#);
        assert_eq!(key_line("\"a"), r#""\"a""#);
    }
}
