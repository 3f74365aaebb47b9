//! Numbers, text, lists and what may be missing.

use std::collections::BTreeMap;

use smol_str::SmolStr;
use storage_core::{CollectionName, Cursor, Key, Path, Result, Timestamp, Version};

use super::{Reader, Wire, Writer};

/// Nil.
impl Wire for () {
    fn write(&self, to: &mut Writer) {
        to.nil();
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        if from.nil() { Ok(()) } else { Err(from.expected("nil")) }
    }
}

impl Wire for bool {
    fn write(&self, to: &mut Writer) {
        to.bool(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.bool()
    }
}

impl Wire for u64 {
    fn write(&self, to: &mut Writer) {
        to.uint(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.uint()
    }
}

impl Wire for u32 {
    fn write(&self, to: &mut Writer) {
        to.uint((*self).into());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let value = from.uint()?;
        Self::try_from(value)
            .map_err(|_| from.invalid(at, &format_args!("{value} is more than 32 bits hold")))
    }
}

impl Wire for i64 {
    fn write(&self, to: &mut Writer) {
        to.int(*self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.int()
    }
}

impl Wire for Timestamp {
    #[inline]
    fn write(&self, to: &mut Writer) {
        to.int(self.as_millis());
    }

    #[inline]
    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.int().map(Self::from_millis)
    }
}

impl Wire for String {
    fn write(&self, to: &mut Writer) {
        to.str(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.str().map(Self::from)
    }
}

impl Wire for SmolStr {
    fn write(&self, to: &mut Writer) {
        to.str(self);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.str().map(Self::new)
    }
}

/// Text that its type validates.
macro_rules! wire_text {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            #[inline]
            fn write(&self, to: &mut Writer) {
                to.str(self.as_str());
            }

            #[inline]
            fn read(from: &mut Reader<'_>) -> Result<Self> {
                let at = from.position();
                match Self::new(from.str()?) {
                    Err(error) => Err(from.invalid(at, &error)),
                    valid => valid,
                }
            }
        }
    )*};
}

wire_text!(CollectionName, Key, Version, Cursor, Path);

/// Nil stands for `None`.
impl<T: Wire> Wire for Option<T> {
    #[inline]
    fn write(&self, to: &mut Writer) {
        match self {
            Some(value) => value.write(to),
            None => to.nil(),
        }
    }

    #[inline]
    fn read(from: &mut Reader<'_>) -> Result<Self> {
        if from.nil() { Ok(None) } else { T::read(from).map(Some) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    #[inline]
    fn write(&self, to: &mut Writer) {
        to.list(self);
    }

    #[inline]
    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.list()
    }
}

/// Counters.
impl Wire for BTreeMap<SmolStr, i64> {
    fn write(&self, to: &mut Writer) {
        to.map(self.len());
        for (name, value) in self {
            to.entry(name, value);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let mut fields = Self::new();
        from.map(|from| {
            let name = from.read()?;
            fields.insert(name, from.int()?);
            Ok(())
        })?;
        Ok(fields)
    }
}
