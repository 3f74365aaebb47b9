//! Keys and values that can be recognised when they are read back.

/// The size of a value in bytes.
pub(crate) const VALUE_BYTES: usize = 200;

/// The prefix of every record that is loaded before the measurements.
pub(crate) const PREFIX: &str = "record/";

/// The key of a record.
pub(crate) fn key(index: u64) -> String {
    format!("{PREFIX}{index:09}")
}

/// A key that is never written.
pub(crate) fn absent_key(index: u64) -> String {
    format!("absent/{index:09}")
}

/// The value that the writer numbered `stamp` gives to a record: index, stamp, and bytes that follow from both.
pub(crate) fn value(index: u64, stamp: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_BYTES);
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&stamp.to_le_bytes());
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stamp | 1;
    while bytes.len() < VALUE_BYTES {
        // Marsaglia's xorshift64: incompressible enough, and cheap beside any store.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The stamp of a value of this record; `None` if these are not bytes that [`value`] made for it.
pub(crate) fn stamp(index: u64, bytes: &[u8]) -> Option<u64> {
    let stamp = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (value(index, stamp) == bytes).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_recognised_and_a_damaged_one_is_not() {
        let mut bytes = value(7, 42);
        assert_eq!(bytes.len(), VALUE_BYTES);
        assert_eq!(stamp(7, &bytes), Some(42));
        assert_eq!(stamp(8, &bytes), None);
        bytes[199] ^= 1;
        assert_eq!(stamp(7, &bytes), None);
        assert_eq!(stamp(7, &bytes[..12]), None);
    }
}
