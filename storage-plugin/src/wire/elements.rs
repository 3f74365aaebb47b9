//! Arrays whose elements each mean something else.

use storage_core::{Error, Result};

use super::malformed::malformed;
use super::{Reader, Wire};

/// The elements of an array in turn; see [`Reader::elements`].
#[derive(Debug)]
pub struct Elements<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    at: usize,
}

impl<'r, 'a> Elements<'r, 'a> {
    /// Those of an array of `len` that began at `at`.
    pub(super) fn new(reader: &'r mut Reader<'a>, len: usize, at: usize) -> Self {
        Self { reader, left: len, at }
    }

    /// How many were not read.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Reads the next element.
    pub fn read<T: Wire>(&mut self) -> Result<T> {
        self.reader()?.read()
    }

    /// Reads the next element, the name of a tuple.
    pub fn name(&mut self) -> Result<&'a [u8]> {
        self.reader()?.name()
    }

    /// The reader in front of the next element, of which exactly one is to be read.
    pub fn reader(&mut self) -> Result<&mut Reader<'a>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(malformed(format_args!("the array at byte {} has too few elements", self.at)));
        };
        self.left = left;
        Ok(self.reader)
    }

    /// The error for a name that is none of the `expected` ones.
    #[cold]
    pub fn unknown(&self, expected: &str, found: &[u8]) -> Error {
        self.reader.unknown(self.at, expected, found)
    }
}
