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

            #[inline]
            fn read(from: &mut $crate::wire::Reader<'_>) -> ::storage_core::Result<Self> {
                let at = from.position();
                // Nearly always the keys come as they stand here. Then none needs to be looked for, and no field waits
                // in an `Option` for the others: moves are what reading costs most.
                let pairs = from.enter_map()?;
                'in_order: {
                    let mut known = 0;
                    $(let $field = if known < pairs && from.is_text($key) {
                        known += 1;
                        wire_map!(@value $presence from)
                    } else {
                        wire_map!(@absent $presence 'in_order)
                    };)*
                    for _ in known..pairs {
                        match from.name()? {
                            $(key if key == $key.as_bytes() => break 'in_order,)*
                            _ => from.skip()?,
                        }
                    }
                    from.leave();
                    return Ok(Self { $($field,)* });
                }
                from.back_to_map(at);
                return in_any_order(from);

                #[cold]
                fn in_any_order $(<$param: $crate::wire::Wire>)? (
                    from: &mut $crate::wire::Reader<'_>,
                ) -> ::storage_core::Result<$type $(<$param>)?> {
                    let at = from.position();
                    $(let mut $field = None;)*
                    for _ in 0..from.enter_map()? {
                        match from.name()? {
                            $(key if key == $key.as_bytes() => $field = wire_map!(@read $presence from),)*
                            _ => from.skip()?,
                        }
                    }
                    from.leave();
                    Ok($type { $($field: wire_map!(@take $presence from, at, $key, $field),)* })
                }
            }
        }
    };
    (@count required $value:expr) => { 1 };
    (@count optional $value:expr) => { usize::from($value.is_some()) };
    (@count defaulted $value:expr) => { usize::from(!$value.is_empty()) };
    (@write required $to:ident, $key:literal, $value:expr) => {{
        $to.constant(const { &$crate::wire::writer::fix_str::<{ $key.len() + 1 }>($key) });
        $crate::wire::Wire::write(&$value, $to);
    }};
    (@write optional $to:ident, $key:literal, $value:expr) => {
        if let Some(value) = &$value {
            wire_map!(@write required $to, $key, *value);
        }
    };
    (@write defaulted $to:ident, $key:literal, $value:expr) => {
        if !$value.is_empty() {
            wire_map!(@write required $to, $key, $value);
        }
    };
    (@value required $from:ident) => { $from.read()? };
    (@value optional $from:ident) => { $from.read()? };
    (@value defaulted $from:ident) => { $from.read::<Option<_>>()?.unwrap_or_default() };
    (@absent required $in_order:lifetime) => { break $in_order };
    (@absent optional $in_order:lifetime) => { None };
    (@absent defaulted $in_order:lifetime) => { Default::default() };
    (@read required $from:ident) => { Some($from.read()?) };
    (@read optional $from:ident) => { $from.read()? };
    (@read defaulted $from:ident) => { $from.read()? };
    (@take required $from:ident, $at:ident, $key:literal, $field:ident) => {
        $field.ok_or_else(|| $from.missing($at, $key))?
    };
    (@take optional $from:ident, $at:ident, $key:literal, $field:ident) => { $field };
    (@take defaulted $from:ident, $at:ident, $key:literal, $field:ident) => { $field.unwrap_or_default() };
}
