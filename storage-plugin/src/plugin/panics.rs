//! Panics that become errors.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does something, and returns the text of its panic if it panics.
///
/// Whatever the panic leaves half done is not used again by whoever calls this, but for what backends share between
/// calls; that is theirs to keep whole, as it is where they are linked in.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(text)
}

/// Drops what may panic when it is dropped; the panic hook has reported it then.
pub(super) fn discard<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Where one destructor panics another may: its payload is not given the chance.
        mem::forget(panic);
    }
}

fn text(panic: Box<dyn Any + Send>) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "with something that is no text".to_owned(),
    };
    discard(panic);
    text
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any(Bomb);
        }
    }

    #[test]
    fn panics_of_all_sorts_are_caught() {
        assert_eq!(caught(|| 1), Ok(1));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(caught(|| panic!("with {}", 1)), Err::<(), _>("with 1".to_owned()));
        for panicked in [caught(|| panic_any(42)), caught(|| panic_any(Bomb)), caught(|| drop(Bomb))] {
            assert_eq!(panicked, Err::<(), _>("with something that is no text".to_owned()));
        }
        discard(Bomb);
    }
}
