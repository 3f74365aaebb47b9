//! Where a path leads, as SQL over the column `json`.
//!
//! A path leads to several candidates only where it meets an array. For all records in which it does not, the one
//! value that operators reach is all there is, and an index of expressions over it finds them; the others are walked.

use storage_core::{Path, Timestamp};

use crate::convert::{Time, escape};
use crate::sql::Sql;

/// Texts are indexed by this many characters: an entry of an index is limited to a third of a page.
pub(crate) const HEAD: usize = 256;

/// How values get into a statement.
pub(crate) struct Values<'a> {
    /// `None`: as literals, for the definitions of indexes and functions, which take no parameters.
    sql: Option<&'a mut Sql>,
    count: usize,
}

impl<'a> Values<'a> {
    /// As parameters.
    pub(crate) fn bound(sql: &'a mut Sql) -> Self {
        Self { sql: Some(sql), count: 0 }
    }

    /// As literals.
    pub(crate) fn literals() -> Self {
        Self { sql: None, count: 0 }
    }

    /// SQL for a text.
    pub(crate) fn text(&mut self, value: &str) -> String {
        self.count += 1;
        match &mut self.sql {
            Some(sql) => format!("${}::text", sql.value(value.to_owned())),
            None => format!("{}::text", literal(value)),
        }
    }

    /// SQL for an array of texts.
    pub(crate) fn texts(&mut self, list: Vec<String>) -> String {
        self.count += 1;
        match &mut self.sql {
            Some(sql) => format!("${}::text[]", sql.value(list)),
            None => {
                let list: Vec<String> = list.iter().map(|value| literal(value)).collect();
                format!("ARRAY[{}]::text[]", list.join(", "))
            }
        }
    }

    /// SQL for a point in time.
    pub(crate) fn time(&mut self, at: Timestamp) -> String {
        self.count += 1;
        match &mut self.sql {
            Some(sql) => format!("${}", sql.value(Time(at))),
            None => format!("to_timestamp({}::numeric / 1000)", at.as_millis()),
        }
    }

    /// How many values got in.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// A string constant, whatever `standard_conforming_strings` is.
pub(crate) fn literal(value: &str) -> String {
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// A path, ready to be written into a statement.
pub(crate) struct Place {
    root: String,
    steps: Vec<Step>,
    /// The path as a jsonpath that takes positions for names only.
    names: String,
}

struct Step {
    /// The name, as SQL.
    name: String,
    /// The name, as a jsonpath accessor.
    accessor: String,
    /// Which element of an array it is too.
    position: Option<i32>,
    /// Whether it is digits, and so also a position, be it beyond any array.
    digits: bool,
}

impl Place {
    /// `root` is the column, such as `r.json`.
    pub(crate) fn new(root: &str, path: &Path, values: &mut Values<'_>) -> Self {
        let steps: Vec<Step> = path
            .segments()
            .map(|segment| {
                let escaped = escape(segment);
                let digits = segment.bytes().all(|byte| byte.is_ascii_digit())
                    && (segment == "0" || !segment.starts_with('0'));
                Step {
                    name: values.text(&escaped),
                    accessor: format!(".{}", serde_json::Value::from(escaped)),
                    position: segment.parse().ok().filter(|_| digits),
                    digits,
                }
            })
            .collect();
        let names: String = std::iter::once("$").chain(steps.iter().map(|step| &*step.accessor)).collect();
        Self { root: root.to_owned(), steps, names }
    }

    /// The one value the path leads to through objects and array positions; NULL if it leads nowhere.
    pub(crate) fn value(&self) -> String {
        self.steps.iter().fold(self.root.clone(), |from, step| {
            // Through names alone, for an array would take signs, blanks and leading zeros in a position.
            if step.digits {
                format!("({from} #> ARRAY[{}])", step.name)
            } else {
                format!("({from} -> {})", step.name)
            }
        })
    }

    /// Whether the path meets an array, at its end or on the way; never NULL.
    pub(crate) fn meets_array(&self) -> String {
        let mut at = self.root.clone();
        let mut any = format!("jsonb_typeof({at}) = 'array'");
        for step in &self.steps {
            at = format!("({at} -> {})", step.name);
            any.push_str(&format!(" OR jsonb_typeof({at}) = 'array'"));
        }
        // Of NULL and false, false.
        format!("(({any}) IS TRUE)")
    }

    /// Whether a position can lead where no name does.
    pub(crate) fn has_positions(&self) -> bool {
        self.steps.iter().any(|step| step.digits)
    }

    /// The values at the end of the path by names alone, those of arrays as their elements: one array, never NULL
    /// where there is JSON.
    pub(crate) fn elements(&self, values: &mut Values<'_>) -> String {
        let path = values.text(&format!("{}[*]", self.names));
        format!("jsonb_path_query_array({}, {path}::jsonpath)", self.root)
    }

    /// A query for all candidates, as the column `v`; some may come twice.
    pub(crate) fn candidates(&self, values: &mut Values<'_>) -> String {
        let mut from = format!("(SELECT {} AS v) s", self.root);
        let mut run = String::from("$");
        for step in &self.steps {
            if !step.digits {
                run.push_str(&step.accessor);
                continue;
            }
            from = walked(&from, &run, values);
            run = String::from("$");
            let name = values.text(&format!("${}", step.accessor));
            let mut query = format!("SELECT s.v, jsonb_path_query(s.v, {name}::jsonpath) AS n FROM {from}");
            if let Some(position) = step.position {
                // Both come from the same row, so that a path of many positions does not double with each.
                query = format!(
                    "SELECT q.n AS v FROM {from}, LATERAL (SELECT jsonb_path_query(s.v, {name}::jsonpath) AS n \
                     UNION ALL SELECT s.v -> {position} WHERE jsonb_typeof(s.v) = 'array') q WHERE q.n IS NOT NULL"
                );
            } else {
                query = format!("SELECT q.n AS v FROM ({query}) q");
            }
            from = format!("({query}) s");
        }
        from = walked(&from, &run, values);
        format!(
            "SELECT q.n AS v FROM {from}, LATERAL (SELECT s.v AS n UNION ALL SELECT jsonb_array_elements(\
             CASE jsonb_typeof(s.v) WHEN 'array' THEN s.v ELSE '[]' END)) q"
        )
    }
}

/// What a run of names leads to from each `s.v`.
fn walked(from: &str, run: &str, values: &mut Values<'_>) -> String {
    if run == "$" {
        return from.to_owned();
    }
    let path = values.text(run);
    format!("(SELECT jsonb_path_query(s.v, {path}::jsonpath) AS v FROM {from}) s")
}

/// How a value sorts against those of other types, NULL being none: the order of `storage_core`'s sort keys.
pub(crate) fn rank(value: &str) -> String {
    format!(
        "(CASE jsonb_typeof({value}) WHEN 'null' THEN 1 \
         WHEN 'boolean' THEN CASE WHEN {value} = 'true'::jsonb THEN 3 ELSE 2 END \
         WHEN 'number' THEN 4 WHEN 'string' THEN 5 WHEN 'array' THEN 6 WHEN 'object' THEN 6 ELSE 0 END)"
    )
}

/// The ranks.
pub(crate) mod ranks {
    pub(crate) const MISSING: i32 = 0;
    pub(crate) const NULL: i32 = 1;
    pub(crate) const FALSE: i32 = 2;
    pub(crate) const TRUE: i32 = 3;
    pub(crate) const NUMBER: i32 = 4;
    pub(crate) const TEXT: i32 = 5;
    pub(crate) const COMPOUND: i32 = 6;
}

/// The number a value is, 0 if it is none.
pub(crate) fn number(value: &str) -> String {
    format!("(CASE jsonb_typeof({value}) WHEN 'number' THEN {value}::numeric ELSE 0::numeric END)")
}

/// The first characters of the text a value is, the empty text if it is none.
pub(crate) fn head(value: &str) -> String {
    format!(
        "((CASE jsonb_typeof({value}) WHEN 'string' THEN left({value} #>> '{{}}', {HEAD}) ELSE '' END) COLLATE \"C\")"
    )
}

/// The text a value is, the empty text if it is none.
pub(crate) fn text(value: &str) -> String {
    format!("((CASE jsonb_typeof({value}) WHEN 'string' THEN {value} #>> '{{}}' ELSE '' END) COLLATE \"C\")")
}
