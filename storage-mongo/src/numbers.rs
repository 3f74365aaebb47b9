//! JSON numbers as BSON.
//!
//! Integers are stored in 32 or 64 bits, or, beyond those of `i64`, as decimals; all other numbers as doubles. That is what
//! a JSON number compares as ([`storage_core::json_eq`]). A text may have more digits than that: 0.1000000000000000000001,
//! say, or an integer of thirty digits.

use mongodb::bson::{Bson, Decimal128};
use serde_json::Number;

/// A number as it is stored.
pub(crate) fn stored(number: &Number) -> Bson {
    if let Some(integer) = number.as_i64() {
        return i32::try_from(integer).map_or(Bson::Int64(integer), Bson::Int32);
    }
    // 34 digits are enough for 64 bits.
    match number.as_u64().and_then(|integer| integer.to_string().parse::<Decimal128>().ok()) {
        Some(decimal) => Bson::Decimal128(decimal),
        None => Bson::Double(number.as_f64().unwrap_or(0.0)),
    }
}

/// Whether every number of a JSON text is stored with all its digits.
pub(crate) fn are_stored_exactly(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = string_end(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if !is_stored_exactly(&text[at..at + length]) {
                    return false;
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    true
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

fn is_stored_exactly(number: &str) -> bool {
    // Fifteen digits are never more than a double has, eighteen never more than an integer.
    if !number.contains(['e', 'E']) && number.len() <= if number.contains('.') { 16 } else { 18 } {
        return true;
    }
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    number.parse::<f64>().is_ok_and(|double| digits(number) == digits(&format!("{double:e}")))
}

/// The digits of a number without zeros at its ends, and the power of ten of the last. Of zero, nothing.
fn digits(number: &str) -> (String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = [whole.trim_start_matches('-'), fraction].concat();
    let significant = all.trim_end_matches('0');
    if significant.is_empty() || significant.trim_start_matches('0').is_empty() {
        return (String::new(), 0);
    }
    let zeros = (all.len() - significant.len()) as i64 - fraction.len() as i64;
    // An exponent that is no i64 is of no double either.
    let exponent = exponent.parse::<i64>().unwrap_or(i64::MAX).saturating_add(zeros);
    (significant.trim_start_matches('0').to_owned(), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_are_not_stored_are_noticed() {
        for exact in [
            "0",
            "-0",
            "-0.0",
            "1",
            "1.0",
            "100",
            "1e2",
            "1.5E+3",
            "0.1",
            "0e999999999999999999999",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1e300",
            "5e-324",
            "100000000000000000000",
            "[\"0.10000000000000000000001\", 1]",
            r#"{"a\"":1.25}"#,
        ] {
            assert!(are_stored_exactly(exact), "{exact}");
        }
        for inexact in [
            "0.1000000000000000000001",
            "18446744073709551617",
            "123456789012345678901234567890",
            "-9223372036854775809",
            "1.2345678901234567890",
            "4.1e-324",
            "1e-400",
            "[1, {\"a\": 0.30000000000000001}]",
        ] {
            assert!(!are_stored_exactly(inexact), "{inexact}");
        }
    }

    #[test]
    fn numbers_take_the_smallest_type_that_holds_them() {
        let stored = |text: &str| stored(&serde_json::from_str(text).unwrap());
        assert_eq!(stored("7"), Bson::Int32(7));
        assert_eq!(stored("-2147483649"), Bson::Int64(-2_147_483_649));
        assert_eq!(stored("1.5"), Bson::Double(1.5));
        assert!(matches!(stored("18446744073709551615"), Bson::Decimal128(decimal)
            if decimal.to_string() == "18446744073709551615"));
        assert_eq!(stored("1e300"), Bson::Double(1e300));
    }
}
