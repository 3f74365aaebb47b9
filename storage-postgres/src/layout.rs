//! Where everything stands in the database. The crate's README shows the same to people.

/// The names of the tables, quoted and with their schema, ready to stand in a statement.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    schema_name: String,
    prefix: String,
    schema: String,
    records: String,
    list_items: String,
    migrations: String,
}

impl Layout {
    pub(crate) fn new(schema: &str, prefix: &str) -> Self {
        let table = |name: &str| format!("{}.{}", quote(schema), quote(&format!("{prefix}{name}")));
        Self {
            schema_name: schema.to_owned(),
            prefix: prefix.to_owned(),
            schema: quote(schema),
            records: table("records"),
            list_items: table("list_items"),
            migrations: table("migrations"),
        }
    }

    /// The schema's name as it is, to be bound as a value.
    pub(crate) fn schema_name(&self) -> &str {
        &self.schema_name
    }

    /// The schema, quoted.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// The name of a table or other object of this store as it is, without the schema: with the prefix before it.
    pub(crate) fn name(&self, object: &str) -> String {
        format!("{}{object}", self.prefix)
    }

    /// An object of this store, quoted and with its schema.
    pub(crate) fn qualified(&self, object: &str) -> String {
        format!("{}.{}", self.schema, quote(&self.name(object)))
    }

    /// The table of records, one row each.
    pub(crate) fn records(&self) -> &str {
        &self.records
    }

    /// The items of lists.
    pub(crate) fn list_items(&self) -> &str {
        &self.list_items
    }

    /// Which migrations were applied, and when.
    pub(crate) fn migrations(&self) -> &str {
        &self.migrations
    }
}

/// An identifier as it stands in a statement, whatever characters it has.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_quoted() {
        let layout = Layout::new("my \"schema\"", "a.");
        assert_eq!(layout.records(), r#""my ""schema"""."a.records""#);
        assert_eq!(layout.qualified("x"), r#""my ""schema"""."a.x""#);
    }
}
