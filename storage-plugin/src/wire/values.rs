//! Addresses, values and records.

use storage_core::{Address, Blob, ChangeEvent, Json, Record, Result, Value};

use super::{Reader, Wire, Writer};
use smol_str::SmolStr;

impl Wire for Address {
    #[inline]
    fn write(&self, to: &mut Writer) {
        to.array(2);
        self.collection.write(to);
        self.key.write(to);
    }

    #[inline]
    fn read(from: &mut Reader<'_>) -> Result<Self> {
        if let Some(address) = from.expected_address() {
            return Ok(address.clone());
        }
        from.elements(|elements| Ok(Self { collection: elements.read()?, key: elements.read()? }))
    }
}

/// The position of the blob that holds the text.
impl Wire for Json {
    fn write(&self, to: &mut Writer) {
        to.blob(self.as_bytes());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.json()
    }
}

/// The position of the blob that holds the value as JSON.
impl Wire for serde_json::Value {
    fn write(&self, to: &mut Writer) {
        to.blob(&self.to_string().into());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        from.json()?.tree().map_err(|error| from.invalid(at, &error))
    }
}

impl Wire for Value {
    #[inline]
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Json(json) => {
                to.tuple("json", 1);
                json.write(to);
            }
            Self::Bytes(Blob { media_type, data }) => {
                to.tuple("bytes", 2);
                to.str(media_type);
                to.blob(data);
            }
            Self::Counters(fields) => {
                to.tuple("counters", 1);
                fields.write(to);
            }
            Self::List { length } => {
                to.tuple("list", 1);
                to.uint(*length);
            }
        }
    }

    #[inline]
    fn read(from: &mut Reader<'_>) -> Result<Self> {
        from.elements(|elements| match elements.name()? {
            b"json" => Ok(Self::Json(elements.read()?)),
            b"bytes" => {
                let from = elements.reader()?;
                // The usual one is too long to be kept without an allocation.
                let media_type = match from.is_text(Blob::OCTET_STREAM) {
                    true => SmolStr::new_static(Blob::OCTET_STREAM),
                    false => from.read()?,
                };
                Ok(Self::Bytes(Blob { media_type, data: elements.reader()?.blob()? }))
            }
            b"counters" => Ok(Self::Counters(elements.read()?)),
            b"list" => Ok(Self::List { length: elements.read()? }),
            other => Err(elements.unknown("the name of a kind of value", other)),
        })
    }
}

wire_map!(Record {
    required address: "at",
    required value: "value",
    required version: "version",
    required created_at: "created",
    required updated_at: "updated",
    optional expires_at: "expires",
});

wire_map!(ChangeEvent {
    required address: "at",
    required at: "time",
    optional record: "record",
});
