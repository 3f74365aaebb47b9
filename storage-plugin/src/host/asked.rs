//! The answer to a call that was made.

use std::sync::Arc;

use storage_core::{Address, Result};

use super::instance::{Instance, Started};
use super::pending::Pending;
use super::store::StoreHandle;
use crate::wire::Wire;

/// An answer that is there, or that is to be waited for; see [`answer!`].
pub(super) enum Asked<'a, T> {
    Answered(Result<T>),
    Pending(Pending<'a>),
}

impl<'a, T: Wire> Asked<'a, T> {
    pub(super) fn new(
        instance: &'static Instance,
        operation: &'static str,
        addresses: &'a [Address],
        started: Result<Started>,
        store: Option<&'a Arc<StoreHandle>>,
    ) -> Self {
        match started {
            Ok(Started::Ready(reply)) => Self::Answered(instance.read(operation, addresses, reply)),
            Ok(Started::Pending { token, call }) => {
                Self::Pending(Pending::new(instance, operation, addresses, token, call, store))
            }
            Err(error) => Self::Answered(Err(error)),
        }
    }
}

/// The answer, in an `async` function.
///
/// Were [`Asked`] a future, an answer that is there would be moved into it and out again, and the function's own future
/// would have room for both.
macro_rules! answer {
    ($asked:expr) => {
        match $asked {
            Asked::Answered(answer) => answer,
            Asked::Pending(mut pending) => {
                let reply = (&mut pending).await;
                pending.read(reply)
            }
        }
    };
}
pub(super) use answer;
