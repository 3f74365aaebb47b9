//! Structs that travel as maps.

/// Implements [`Wire`](super::Wire) for a struct whose fields are the keys of a map. A field that is `required` has
/// to be there; one that is `optional` is an `Option`, and left out if it is `None`; one that is `defaulted` is a list,
/// and left out if it is empty.
macro_rules! wire_map {
    ($type:ident $(<$param:ident>)? { $($presence:ident $field:ident: $key:literal,)* }) => {
        impl $(<$param: $crate::wire::Wire>)? $crate::wire::Wire for $type $(<$param>)? {
            fn write(&self, to: &mut $crate::wire::Writer) {
                to.map(0 $(+ wire_map!(@count $presence self.$field))*);
                $(wire_map!(@write $presence to, $key, self.$field);)*
            }

            fn read(from: &mut $crate::wire::Reader<'_>) -> ::storage_core::Result<Self> {
                let at = from.position();
                $(let mut $field = None;)*
                let mut pairs = from.enter_map()?;
                // Nearly always the keys come as they stand here, and none needs to be looked for.
                $(if pairs > 0 && from.is_text($key) {
                    $field = wire_map!(@read $presence from);
                    pairs -= 1;
                })*
                for _ in 0..pairs {
                    match from.name()? {
                        $(key if key == $key.as_bytes() => $field = wire_map!(@read $presence from),)*
                        _ => from.skip()?,
                    }
                }
                from.leave();
                Ok(Self { $($field: wire_map!(@take $presence from, at, $key, $field),)* })
            }
        }
    };
    (@count required $value:expr) => { 1 };
    (@count optional $value:expr) => { usize::from($value.is_some()) };
    (@count defaulted $value:expr) => { usize::from(!$value.is_empty()) };
    (@write required $to:ident, $key:literal, $value:expr) => { $to.entry($key, &$value) };
    (@write optional $to:ident, $key:literal, $value:expr) => {
        if let Some(value) = &$value {
            $to.entry($key, value);
        }
    };
    (@write defaulted $to:ident, $key:literal, $value:expr) => {
        if !$value.is_empty() {
            $to.entry($key, &$value);
        }
    };
    (@read required $from:ident) => { Some($from.read()?) };
    (@read optional $from:ident) => { $from.read()? };
    (@read defaulted $from:ident) => { $from.read()? };
    (@take required $from:ident, $at:ident, $key:literal, $field:ident) => {
        $field.ok_or_else(|| $from.missing($at, $key))?
    };
    (@take optional $from:ident, $at:ident, $key:literal, $field:ident) => { $field };
    (@take defaulted $from:ident, $at:ident, $key:literal, $field:ident) => { $field.unwrap_or_default() };
}
