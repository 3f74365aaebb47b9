//! The parts of a store's URL, for [`TypeDescriptor::config_from_url`](crate::TypeDescriptor::config_from_url).

use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Tree};

use crate::name::shown;
use crate::{Error, Result};

/// A store's URL in parts. Unlike a web URL, `file:./data` keeps its relative path.
///
/// Errors and `Debug` show no user, password or value of a query parameter.
///
/// ```
/// use serde_json::json;
/// use storage_core::StoreUrl;
///
/// let url = StoreUrl::parse("file:./my%20data?sync=true")?;
/// assert_eq!((url.scheme(), url.authority(), url.path()), ("file", None, "./my data"));
///
/// let schema = json!({"properties": {"sync": {"type": "boolean"}}});
/// assert_eq!(url.query_config(&schema)?["sync"], json!(true));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    authority: Option<String>,
    path: String,
    query: Vec<(String, String)>,
}

impl StoreUrl {
    /// Splits a URL.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text without a scheme, with a fragment, or with
    /// escapes in the path that are not UTF-8.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = Self::split_scheme(url)
            .ok_or_else(|| Error::invalid("the store's URL has no scheme: write such as \"file:./data\""))?;
        if rest.contains('#') {
            return Err(Error::invalid(format!(
                "the {scheme}: URL has a fragment: write # as %23 if it belongs to a name or password"
            )));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority.to_owned()), path)
            }
            None => (None, rest),
        };
        let path = percent_decode_str(path).decode_utf8().map_err(|error| {
            Error::invalid(format!("the path of the {scheme}: URL has escapes that are not UTF-8"))
                .with_source(error)
        })?;
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            authority,
            path: path.into_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        })
    }

    /// The scheme as written and what follows its colon, of a text that has one.
    pub fn split_scheme(url: &str) -> Option<(&str, &str)> {
        url.split_once(':').filter(|(scheme, _)| is_scheme(scheme))
    }

    /// The scheme, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between `//` and the path, as written; empty in `file:///data`, `None` in `file:./data`.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The path, decoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query parameters, decoded, in order.
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    /// User, password and hosts of an authority such as `ada:secret@host1,host2:6380`, decoded, as configuration keys:
    /// `user_key` (what the type calls its user), `password` and `hosts`. What is empty is left out.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for escapes that are not UTF-8.
    pub fn authority_config(&self, user_key: &str) -> Result<Map<String, Tree>> {
        let authority = self.authority().unwrap_or_default();
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let mut config = Map::new();
        for (key, part) in [(user_key, name), ("password", password)] {
            let part = percent_decode_str(part).decode_utf8().map_err(|_| {
                Error::invalid(format!(
                    "the {key} of the {}: URL has escapes that are not UTF-8",
                    self.scheme
                ))
            })?;
            if !part.is_empty() {
                config.insert(key.to_owned(), part.into_owned().into());
            }
        }
        let hosts: Vec<Tree> = hosts.split(',').filter(|host| !host.is_empty()).map(Tree::from).collect();
        if !hosts.is_empty() {
            config.insert("hosts".to_owned(), hosts.into());
        }
        Ok(config)
    }

    /// The query parameters as configuration keys. Where the JSON Schema of the configuration says that a
    /// key is a boolean or a number, the text is read as one; all else stays text, also unknown keys, which
    /// [`decode_config`](crate::decode_config) refuses with a suggestion.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a key that is given twice and for a text that is no
    /// boolean or number; the message names the key.
    pub fn query_config(&self, schema: &Tree) -> Result<Map<String, Tree>> {
        let mut config = Map::new();
        for (key, text) in &self.query {
            let value = typed(text, schema.pointer("/properties").and_then(|known| known.get(key))).map_err(
                |wanted| {
                    Error::invalid(format!(
                        "parameter {} of the {}: URL is not {wanted}",
                        shown(key),
                        self.scheme
                    ))
                },
            )?;
            if config.insert(key.clone(), value).is_some() {
                return Err(Error::invalid(format!(
                    "parameter {} of the {}: URL is given twice",
                    shown(key),
                    self.scheme
                )));
            }
        }
        Ok(config)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.authority.as_deref().map(|text| text.rsplit_once('@').map_or(text, |(_, host)| host));
        let keys: Vec<_> = self.query.iter().map(|(key, _)| key).collect();
        f.debug_struct("StoreUrl")
            .field("scheme", &self.scheme)
            .field("host", &host)
            .field("path", &self.path)
            .field("query", &keys)
            .finish()
    }
}

/// Whether a text is a URL scheme of RFC 3986.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Reads a text as what the schema of its key says; the error says what that is.
fn typed(text: &str, schema: Option<&Tree>) -> Result<Tree, &'static str> {
    match schema.and_then(|schema| schema.get("type")).and_then(Tree::as_str) {
        Some("boolean") => text.parse::<bool>().map(Tree::from).map_err(|_| "true or false"),
        Some("integer") => (text.parse::<i64>().map(Tree::from))
            .or_else(|_| text.parse::<u64>().map(Tree::from))
            .map_err(|_| "a whole number"),
        Some("number") => {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Tree::Number).ok_or("a number")
        }
        _ => Ok(Tree::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts() {
        for (url, scheme, authority, path) in [
            ("file:./data", "file", None, "./data"),
            ("file:data", "file", None, "data"),
            ("file:../a%23b", "file", None, "../a#b"),
            ("file:/abs", "file", None, "/abs"),
            ("FILE:///abs/%C3%A4", "file", Some(""), "/abs/ä"),
            ("memory:", "memory", None, ""),
            ("redis://u:p%40@h:6379/0", "redis", Some("u:p%40@h:6379"), "/0"),
            ("redis://h", "redis", Some("h"), ""),
        ] {
            let parts = StoreUrl::parse(url).unwrap();
            assert_eq!((parts.scheme(), parts.authority(), parts.path()), (scheme, authority, path), "{url}");
        }
        for bad in ["", "data", "./a:b", ":x", "1a:x", "file:a#b", "file:%ff"] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_take_the_type_that_the_schema_says() {
        let schema = json!({"properties": {
            "b": {"type": "boolean"}, "i": {"type": "integer"}, "n": {"type": "number"}, "s": {"type": "string"},
        }});
        let read = |query: &str| StoreUrl::parse(&format!("x:?{query}")).unwrap().query_config(&schema);
        let config = read("b=false&i=-3&n=0.5&s=5&other=7&e=a%26b+c").unwrap();
        let expected = json!({"b": false, "i": -3, "n": 0.5, "s": "5", "other": "7", "e": "a&b c"});
        assert_eq!(Tree::Object(config), expected);
        assert_eq!(read("i=18446744073709551615").unwrap()["i"], json!(u64::MAX));
        for bad in ["b=yes", "i=1.5", "i=", "n=x", "n=nan", "s=1&s=2"] {
            let message = read(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("{:?}", &bad[..1])), "{message}");
        }
    }

    #[test]
    fn debug_and_errors_hide_secrets() {
        let url = "redis://ada:hunter2@host/0?token=hunter2&db=1";
        let parts = StoreUrl::parse(url).unwrap();
        let shown = format!("{parts:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("ada") && shown.contains("host"), "{shown}");
        for bad in ["ada:hunter2@host#x", "hunter2", "redis://ada:hunter2@host/%ff", "redis://:hunter2@h#"] {
            let error = StoreUrl::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let schema = json!({"properties": {"token": {"type": "integer"}}});
        assert!(!parts.query_config(&schema).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn an_authority_is_a_user_and_hosts() {
        let config = |url: &str| StoreUrl::parse(url).unwrap().authority_config("user");
        assert_eq!(
            Tree::Object(config("x://a%2Fda:p%40s@h1,[::1]:7/db").unwrap()),
            json!({"user": "a/da", "password": "p@s", "hosts": ["h1", "[::1]:7"]})
        );
        assert_eq!(
            Tree::Object(config("x://:secret@h").unwrap()),
            json!({"password": "secret", "hosts": ["h"]})
        );
        for url in ["x:", "x:///db", "x://@"] {
            assert_eq!(config(url).unwrap(), Map::new(), "{url}");
        }
        let error = config("x://%ff:secret@h").unwrap_err().to_string();
        assert!(error.contains("user") && !error.contains("secret"), "{error}");
    }
}
