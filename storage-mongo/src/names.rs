//! Names of fields: JSON keys may be any text, names of fields in MongoDB may not.
//!
//! A `.` separates the names of a path, a leading `$` is an operator, and a NUL ends a name. Such keys are written with
//! percent signs, as in URLs: `%` as `%25`, `.` as `%2E`, NUL as `%00`, a leading `$` as `%24`, and the empty key, which no
//! path can name, as a single `%`. All others stay as they are.

use std::borrow::Cow;

/// The name of the field that holds a JSON key.
pub(crate) fn field_name(key: &str) -> Cow<'_, str> {
    if key.is_empty() {
        return Cow::Borrowed("%");
    }
    if !key.starts_with('$') && !key.contains(['%', '.', '\0']) {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len() + 4);
    for (position, char) in key.char_indices() {
        match char {
            '%' => name.push_str("%25"),
            '.' => name.push_str("%2E"),
            '\0' => name.push_str("%00"),
            '$' if position == 0 => name.push_str("%24"),
            char => name.push(char),
        }
    }
    Cow::Owned(name)
}

/// The JSON key that a field holds. A name that is none of ours, such as one that another program wrote, stands for itself.
pub(crate) fn field_key(name: &str) -> Cow<'_, str> {
    if name == "%" {
        return Cow::Borrowed("");
    }
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let (mut key, mut rest) = (String::with_capacity(name.len()), name);
    while let Some(at) = rest.find('%') {
        key.push_str(&rest[..at]);
        let (char, length) = match rest.get(at..at + 3) {
            Some("%25") => ('%', 3),
            Some("%2E") => ('.', 3),
            Some("%00") => ('\0', 3),
            Some("%24") => ('$', 3),
            _ => ('%', 1),
        };
        key.push(char);
        rest = &rest[at + length..];
    }
    key.push_str(rest);
    Cow::Owned(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_has_to_be_is_written_otherwise() {
        for (key, name) in [
            ("plain", "plain"),
            ("", "%"),
            ("%", "%25"),
            ("$gt", "%24gt"),
            ("a$", "a$"),
            ("a.b", "a%2Eb"),
            ("\0", "%00"),
            ("100%2E", "100%252E"),
            ("ä", "ä"),
        ] {
            assert_eq!(field_name(key), name, "{key:?}");
            assert_eq!(field_key(name), key, "{name:?}");
        }
        assert_eq!(field_key("5% off"), "5% off", "what another program wrote");
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in any::<String>()) {
            let name = field_name(&key);
            prop_assert!(!name.is_empty() && !name.starts_with('$') && !name.contains(['.', '\0']));
            prop_assert_eq!(field_key(&name), key.as_str());
        }
    }
}
