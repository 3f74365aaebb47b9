//! Keeping secrets out of errors, even of those that a careless backend or its driver makes.

use std::error::Error as StdError;

use percent_encoding::percent_decode_str;
use serde_json::Value as Tree;
use storage_core::{Error, StoreUrl};

const MASK: &str = "***";

/// What must not be shown of one way to open a store: texts, each with what goes in its place.
pub(crate) struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// The passwords in a URL and in a configuration.
    pub(crate) fn of(url: Option<&str>, config: Option<&Tree>) -> Self {
        let mut secrets = Self(Vec::new());
        if let Some((scheme, rest)) = url.and_then(StoreUrl::split_scheme) {
            secrets.add_url(scheme, rest);
        }
        for (key, value) in config.and_then(Tree::as_object).into_iter().flatten() {
            match value {
                Tree::String(text) if is_secret(key) => secrets.add(text),
                Tree::Number(number) if is_secret(key) => secrets.add(&number.to_string()),
                // Configurations made of a URL often keep it whole.
                Tree::String(text) => {
                    if let Some((scheme, rest)) = StoreUrl::split_scheme(text) {
                        secrets.add_url(scheme, rest);
                    }
                }
                _ => {}
            }
        }
        // The longest first: one may be part of another.
        secrets.0.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        secrets.0.dedup();
        secrets
    }

    fn add_url(&mut self, scheme: &str, rest: &str) {
        if let Some(rest) = rest.strip_prefix("//") {
            // A password with an unescaped `/`, `?` or `#` goes on to the last `@`.
            let proper = rest.split(['/', '?', '#']).next().unwrap_or_default();
            for user_info in [proper, rest].iter().filter_map(|text| text.rsplit_once('@')) {
                let Some((user, password)) = user_info.0.split_once(':') else { continue };
                if !password.is_empty() {
                    self.0.push((format!(":{password}@"), format!(":{MASK}@")));
                }
                // Such a password is no secret, and every message has the word.
                if password != user && password != scheme {
                    self.add(password);
                    // A parser that ends it early may show a piece.
                    password.split(['/', '?', '#']).for_each(|piece| self.add(piece));
                }
            }
        }
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        for (key, value) in query.split(['&', '#']).filter_map(|pair| pair.split_once('=')) {
            if is_secret(key) {
                self.add(value);
            }
        }
    }

    /// Adds a secret as written and decoded.
    fn add(&mut self, secret: &str) {
        for text in [secret, &percent_decode_str(secret).decode_utf8_lossy()] {
            // A shorter one would blot out half of every message.
            if text.len() >= 3 {
                self.0.push((text.to_owned(), MASK.to_owned()));
            }
        }
    }

    /// The error without the secrets. One that held any loses its source.
    pub(crate) fn scrub(&self, error: Error) -> Error {
        let mut cause: Option<&dyn StdError> = Some(&error);
        while let Some(current) = cause {
            if self.is_in(&current.to_string()) || self.is_in(&format!("{current:?}")) {
                return Error::new(error.kind(), self.masked(error.message()))
                    .with_retry(error.retry())
                    .operation(error.operation_name())
                    .backend(error.backend_name());
            }
            cause = current.source();
        }
        error
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|(secret, _)| text.contains(secret))
    }

    fn masked(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (secret, mask)| text.replace(secret, mask))
    }
}

/// Whether a configuration key is one that holds a secret, by its name.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential"]
        .iter()
        .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage_core::{ErrorKind, Retry};

    use super::*;

    fn scrubbed(url: &str, message: &str) -> String {
        Secrets::of(Some(url), None).scrub(Error::invalid(message)).message().to_owned()
    }

    #[test]
    fn passwords_are_masked_as_written_and_decoded() {
        for (url, message, expected) in [
            ("redis://ada:hunter2@h/0", "no redis://ada:hunter2@h/0", "no redis://ada:***@h/0"),
            ("redis://ada:hunter2@h/0", "bad word hunter2", "bad word ***"),
            ("redis://ada:p%40ss@h/0", "p@ss is p%40ss", "*** is ***"),
            ("redis://ada:a/b@h/0", "a/b", "***"),
            ("redis://ada:pw1@h/0?x=a@b", "pw1", "***"),
            ("redis://h/0?auth_token=abc&db=1", "abc, 1", "***, 1"),
            ("postgres://postgres:postgres@h", "postgres: postgres:postgres@h", "postgres: postgres:***@h"),
            ("redis://a:x@h", "extra a:x@h", "extra a:***@h"),
            ("file:./data", "cannot open ./data", "cannot open ./data"),
        ] {
            assert_eq!(scrubbed(url, message), expected, "{url}");
        }
    }

    #[test]
    fn secrets_of_a_configuration_are_masked() {
        let config =
            json!({"password": "abc\"d", "pin_secret": 1234, "url": "redis://u:hunter2@h", "path": "abc"});
        let secrets = Secrets::of(None, Some(&config));
        let error = secrets.scrub(Error::invalid("abc\"d 1234 hunter2 abc"));
        assert_eq!(error.message(), "*** *** *** abc");
    }

    struct Leak {
        display: &'static str,
        debug: &'static str,
    }

    impl std::fmt::Display for Leak {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.display)
        }
    }

    impl std::fmt::Debug for Leak {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.debug)
        }
    }

    impl StdError for Leak {}

    #[test]
    fn a_source_that_holds_a_secret_is_dropped_and_the_rest_kept() {
        let secrets = Secrets::of(Some("redis://ada:hunter2@h/0"), None);
        let make = |source: &str| {
            Error::new(ErrorKind::Unavailable, "cannot connect")
                .with_retry(Retry::Safe)
                .operation("open")
                .backend("redis")
                .with_source(std::io::Error::other(source.to_owned()))
        };
        for leak in [Leak { display: "hunter2", debug: "" }, Leak { display: "", debug: "hunter2" }] {
            assert!(secrets.scrub(Error::invalid("no").with_source(leak)).source().is_none());
        }
        let error = secrets.scrub(make("refused redis://ada:hunter2@h/0"));
        assert!(error.source().is_none());
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Safe));
        assert_eq!(error.to_string(), "redis open: cannot connect");
        assert!(secrets.scrub(make("refused")).source().is_some());
    }
}
