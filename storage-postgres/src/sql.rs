//! Statements with their values, which are always bound and never part of the text.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Postgres, SqlSafeStr as _, SqlStr, Type};
use storage_core::{Error, ErrorKind, Result};

/// A statement and the values of its parameters.
///
/// A text is built with [`push`](Self::push) and [`bind`](Self::bind), or made once, kept, and given its values with
/// [`value`](Self::value). Connections keep what they have prepared by its text: let a statement that is used often have
/// few texts.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    text: Text,
    arguments: PgArguments,
    count: usize,
    once: bool,
    error: Option<Error>,
}

#[derive(Clone, Debug)]
enum Text {
    Shared(Arc<str>),
    Owned(String),
}

impl Sql {
    /// An empty statement, to be built.
    pub(crate) fn new() -> Self {
        Self::of(Text::Owned(String::new()))
    }

    /// A statement whose text, with `$1`, `$2` and so on in it, was made before.
    pub(crate) fn prepared(text: &Arc<str>) -> Self {
        Self::of(Text::Shared(text.clone()))
    }

    fn of(text: Text) -> Self {
        Self { text, arguments: PgArguments::default(), count: 0, once: false, error: None }
    }

    /// The same for a text that hardly comes twice: it is not kept, and is planned for its values each time. That lets it
    /// use an index of one collection, which a plan for any value could not.
    pub(crate) fn once() -> Self {
        Self { once: true, ..Self::new() }
    }

    /// Whether it is not to be kept.
    pub(crate) fn is_once(&self) -> bool {
        self.once
    }

    /// Adds text: SQL, never a value.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        match &mut self.text {
            Text::Owned(own) => own.push_str(text),
            Text::Shared(shared) => self.text = Text::Owned(format!("{shared}{text}")),
        }
        self
    }

    /// Adds a value, and its parameter to the text.
    pub(crate) fn bind<'q, T: Encode<'q, Postgres> + Type<Postgres>>(&mut self, value: T) -> &mut Self {
        let number = self.value(value);
        self.parameter(number)
    }

    /// Adds a value, and returns the number of its parameter, from 1.
    pub(crate) fn value<'q, T: Encode<'q, Postgres> + Type<Postgres>>(&mut self, value: T) -> usize {
        if let Err(error) = self.arguments.add(value) {
            // The message of the driver may show the value.
            let _ = error;
            let message = "a value has no form that the driver can send";
            self.error.get_or_insert_with(|| Error::new(ErrorKind::Internal, message));
        }
        self.count += 1;
        self.count
    }

    /// Adds the parameter of a value to the text once more.
    pub(crate) fn parameter(&mut self, number: usize) -> &mut Self {
        if let Text::Shared(shared) = &self.text {
            self.text = Text::Owned(shared.to_string());
        }
        if let Text::Owned(own) = &mut self.text {
            // Writing to a string cannot fail.
            let _ = write!(own, "${number}");
        }
        self
    }

    /// The text as it is so far.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        match &self.text {
            Text::Shared(shared) => shared,
            Text::Owned(own) => own,
        }
    }

    /// Text and values for the driver.
    pub(crate) fn into_parts(self) -> Result<(SqlStr, PgArguments)> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let text = match self.text {
            Text::Shared(shared) => AssertSqlSafe(shared).into_sql_str(),
            Text::Owned(own) => AssertSqlSafe(own).into_sql_str(),
        };
        Ok((text, self.arguments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered() {
        let mut sql = Sql::new();
        sql.push("SELECT ").bind(1_i64);
        let second = sql.value("two");
        sql.push(", ").parameter(second).push(", ").parameter(second);
        assert_eq!(sql.text(), "SELECT $1, $2, $2");
        assert_eq!(sql.into_parts().unwrap().1.len(), 2);
    }
}
