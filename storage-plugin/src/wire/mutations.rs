//! Mutations, and what they did.

use storage_core::{Atomicity, Batch, Change, Effect, Mutation, Precondition, Result, Written};

use super::{Reader, Wire, Writer};

wire_map!(Batch {
    required atomicity: "atomicity",
    required mutations: "mutations",
});

impl Wire for Atomicity {
    fn write(&self, to: &mut Writer) {
        to.str(match self {
            Self::Independent => "independent",
            Self::Atomic => "atomic",
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        match from.name()? {
            b"independent" => Ok(Self::Independent),
            b"atomic" => Ok(Self::Atomic),
            other => Err(from.unknown(at, "\"independent\" or \"atomic\"", other)),
        }
    }
}

wire_map!(Mutation {
    required address: "at",
    optional precondition: "if",
    required change: "do",
});

impl Wire for Precondition {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Absent => to.tuple("absent", 0),
            Self::Present => to.tuple("present", 0),
            Self::Version(version) => {
                to.tuple("version", 1);
                version.write(to);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.elements(|elements| match elements.name()? {
            b"absent" => Ok(Self::Absent),
            b"present" => Ok(Self::Present),
            b"version" => Ok(Self::Version(elements.read()?)),
            other => Err(elements.unknown("the name of a precondition", other)),
        })
    }
}

impl Wire for Change {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Put { value, expires_at } => {
                to.tuple(self.name(), 2);
                value.write(to);
                expires_at.write(to);
            }
            Self::Delete | Self::Check => to.tuple(self.name(), 0),
            Self::Touch { expires_at } => {
                to.tuple(self.name(), 1);
                expires_at.write(to);
            }
            Self::Increment { fields, expires_at } => {
                to.tuple(self.name(), 2);
                fields.write(to);
                expires_at.write(to);
            }
            Self::Append { items, expires_at } => {
                to.tuple(self.name(), 2);
                items.write(to);
                expires_at.write(to);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.elements(|elements| match elements.name()? {
            b"put" => Ok(Self::Put { value: elements.read()?, expires_at: elements.read()? }),
            b"delete" => Ok(Self::Delete),
            b"touch" => Ok(Self::Touch { expires_at: elements.read()? }),
            b"increment" => Ok(Self::Increment { fields: elements.read()?, expires_at: elements.read()? }),
            b"append" => Ok(Self::Append { items: elements.read()?, expires_at: elements.read()? }),
            b"check" => Ok(Self::Check),
            other => Err(elements.unknown("the name of a change", other)),
        })
    }
}

wire_map!(Written {
    optional version: "version",
    required effect: "effect",
});

impl Wire for Effect {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Done => to.tuple("done", 0),
            Self::Deleted { existed } => {
                to.tuple("deleted", 1);
                to.bool(*existed);
            }
            Self::Counters(fields) => {
                to.tuple("counters", 1);
                fields.write(to);
            }
            Self::Length(length) => {
                to.tuple("length", 1);
                to.uint(*length);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.elements(|elements| match elements.name()? {
            b"done" => Ok(Self::Done),
            b"deleted" => Ok(Self::Deleted { existed: elements.read()? }),
            b"counters" => Ok(Self::Counters(elements.read()?)),
            b"length" => Ok(Self::Length(elements.read()?)),
            other => Err(elements.unknown("the name of an effect", other)),
        })
    }
}
