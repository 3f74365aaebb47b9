//! Replies.

use storage_core::{Address, Error, ErrorKind, Result};

use super::error::write_error;
use super::{Failure, Reader, Wire, Writer};
use crate::{Incoming, Outgoing, Received};

/// The reply with an answer.
pub fn ok<T: Wire>(answer: &T) -> Outgoing {
    let mut to = Writer::new();
    to.tuple("ok", 1);
    answer.write(&mut to);
    to.into_message()
}

/// The reply with an error.
pub fn error(error: &Error) -> Outgoing {
    failure(error, error.kind().as_str(), false)
}

/// The reply with the one or the other.
pub fn answer<T: Wire>(result: Result<T>) -> Outgoing {
    match result {
        Ok(answer) => ok(&answer),
        Err(failed) => error(&failed),
    }
}

/// The reply to a call whose code panicked.
pub fn panicked(operation: &str, message: &str) -> Outgoing {
    let error =
        Error::new(ErrorKind::Internal, format!("the plugin panicked: {message}")).operation(operation);
    failure(&error, ErrorKind::Internal.as_str(), true)
}

/// The reply to a call that the host gave up.
pub fn cancelled(operation: &str) -> Outgoing {
    let error = Error::new(ErrorKind::Internal, "the call was cancelled").operation(operation);
    failure(&error, "cancelled", false)
}

fn failure(error: &Error, kind: &str, panicked: bool) -> Outgoing {
    let mut to = Writer::new();
    to.tuple("error", 1);
    write_error(error, kind, panicked, &mut to);
    to.into_message()
}

/// The answer that a reply holds.
///
/// # Errors
/// The error that the reply holds, or [`Internal`](ErrorKind::Internal) for a malformed reply.
pub fn reply<T: Wire>(message: Incoming) -> Result<T, Box<Failure>> {
    reply_about(&[], message)
}

/// As [`reply`], for an answer about records that are probably those of these addresses, in this order: their names are
/// then shared, and not made anew.
///
/// # Errors
/// As [`reply`].
pub fn reply_about<T: Wire>(addresses: &[Address], message: Incoming) -> Result<T, Box<Failure>> {
    let message = Received::from(message);
    let mut from = Reader::expecting(addresses, &message);
    let outcome = read_outcome(&mut from)?;
    from.finish()?;
    outcome
}

fn read_outcome<T: Wire>(from: &mut Reader<'_>) -> Result<Result<T, Box<Failure>>> {
    from.elements(|elements| match elements.name()? {
        b"ok" => elements.read().map(Ok),
        b"error" => elements.read().map(Box::new).map(Err),
        other => Err(elements.unknown("\"ok\" or \"error\"", other)),
    })
}

/// One of several outcomes in a reply: the same tuple as a reply.
impl<T: Wire> Wire for Result<T> {
    fn write(&self, to: &mut Writer) {
        match self {
            Ok(answer) => {
                to.tuple("ok", 1);
                answer.write(to);
            }
            Err(error) => {
                to.tuple("error", 1);
                error.write(to);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        Ok(read_outcome(from)?.map_err(|failure| failure.error))
    }
}
