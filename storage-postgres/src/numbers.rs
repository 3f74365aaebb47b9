//! Numbers as the database compares them: so that its exact decimals order as JSON numbers do here.
//!
//! Here a JSON number compares as a 64-bit integer or else as the nearest double ([`storage_core::json_eq`]); `jsonb`
//! compares all digits that were written. What differs is written as the shortest decimal that means the same double, or,
//! between 2^53 and 2^64, where integers lie between doubles, as its exact digits. Such decimals order exactly as the
//! values do. The text with all its digits is kept beside it: see [`crate::convert::StoredJson`].

use std::borrow::Cow;

use serde_json::Number;

/// So many characters are no longer sure to be within the digits that `numeric` has before and after the point.
const LONG: usize = 1_000;

/// The decimal that stands for a number.
pub(crate) fn decimal(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or(0.0);
    if value == 0.0 {
        return "0".to_owned();
    }
    let integers = -(2f64.powi(63))..2f64.powi(64);
    if value.abs() >= 2f64.powi(53) && integers.contains(&value) {
        format!("{value:.0}")
    } else {
        format!("{value:e}")
    }
}

/// JSON text with every number as its decimal; borrowed if it is so already. A negative zero, which the database has
/// not, counts as something to rewrite.
pub(crate) fn rewrite(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut kept, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if let Some(decimal) = replacement(&text[at..at + length]) {
                    out.push_str(&text[kept..at]);
                    out.push_str(&decimal);
                    kept = at + length;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The position after the quote that ends the string from `at` on.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        if bytes[at + found] == b'"' {
            return at + found + 1;
        }
        at += found + 2;
    }
    bytes.len()
}

/// The decimal of a number, if it is not this one in another spelling.
fn replacement(token: &str) -> Option<String> {
    let plain = !token.contains(['e', 'E']);
    let point = token.contains('.');
    // Fifteen digits are never more than a double has, eighteen never more than an integer.
    if plain && !token.starts_with("-0") && token.len() <= if point { 16 } else { 18 } {
        return None;
    }
    let number: Number = serde_json::from_str(token).ok()?;
    let decimal = decimal(&number);
    // A zero may have any exponent.
    let odd = token.len() > LONG || (decimal == "0" && !plain);
    (odd || digits(token) != digits(&decimal)).then_some(decimal)
}

/// Sign, digits without zeros at either end, and the power of ten of the last: the same for all spellings of a number.
fn digits(token: &str) -> (bool, String, i64) {
    let (negative, token) = token.strip_prefix('-').map_or((false, token), |rest| (true, rest));
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let far = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let exponent: i64 = exponent.parse().unwrap_or(far);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let all = all.trim_start_matches('0');
    let significant = all.trim_end_matches('0');
    let zeros = all.len() - significant.len();
    if significant.is_empty() {
        return (negative, String::new(), 0);
    }
    let power = exponent.saturating_add(zeros as i64).saturating_sub(fraction.len() as i64);
    (negative, significant.to_owned(), power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_database_would_take_otherwise_is_rewritten() {
        let same = [
            "0",
            "-1",
            "1.0",
            "1.50",
            "0.1",
            "1e3",
            "1E+3",
            "123456789012345.6",
            "18446744073709551615",
            "-9223372036854775808",
            "1e308",
            "5e-324",
            "1.7976931348623157e308",
            "9007199254740992.0",
            "0.0",
            "0.10000",
            r#"{"1e400 \" -0.0": "12345678901234567890123", "a": [1, 2.5, -3]}"#,
        ];
        for text in same {
            assert!(matches!(rewrite(text), Cow::Borrowed(_)), "{text} became {}", rewrite(text));
        }
        let changed = [
            ("-0.0", "0"),
            ("-0", "0"),
            ("9007199254740993.0", "9007199254740992"),
            ("1152921504606847000.0", "1152921504606846976"),
            ("1.152921504606847e18", "1152921504606846976"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("0.10000000000000001", "1e-1"),
            ("1e-400", "0"),
            ("0e-99999", "0"),
            (&format!("1.{}", "0".repeat(20_000)), "1e0"),
            ("1e-99999999999999999999999", "0"),
            ("-9223372036854775809", "-9223372036854775808"),
            ("123456789012345678901234567890", "1.2345678901234568e29"),
            (r#"{"a\\": [-0.0,1, 1e-999]}"#, r#"{"a\\": [0,1, 0]}"#),
        ];
        for (text, expected) in changed {
            assert_eq!(rewrite(text), expected, "{text}");
        }
    }

    #[test]
    fn a_decimal_means_the_same_number() {
        for text in
            ["0.1", "5e-324", "2.2250738585072014e-308", "1e22", "9007199254740994.0", "1.8e19", "-1.5"]
        {
            let number: Number = serde_json::from_str(text).unwrap();
            let again: Number = serde_json::from_str(&decimal(&number)).unwrap();
            assert!(storage_core::compare_numbers(&number, &again).is_eq(), "{text}");
        }
    }
}
