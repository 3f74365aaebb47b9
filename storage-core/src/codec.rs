//! How typed values become stored ones and back.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Blob, Error, ErrorKind, Json, Result, Value, ValueKind};

/// Turns values of type `T` into stored ones and back.
///
/// ```
/// use storage_core::{Codec, JsonCodec, MessagePack};
///
/// for codec in [&JsonCodec as &dyn Codec<Vec<u8>>, &MessagePack] {
///     assert_eq!(codec.decode(codec.encode(&vec![1, 2])?)?, [1, 2]);
/// }
/// # Ok::<(), storage_core::Error>(())
/// ```
pub trait Codec<T>: Send + Sync + 'static {
    /// The stored form.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the value has none.
    fn encode(&self, value: &T) -> Result<Value>;

    /// The value that was stored.
    ///
    /// # Errors
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) for a value of another kind,
    /// [`Decode`](ErrorKind::Decode) for one of another shape.
    fn decode(&self, value: Value) -> Result<T>;
}

/// JSON, stored natively where the database can: the only codec whose records
/// [queries](crate::Collection::query) and indexes see. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonCodec;

impl<T: Serialize + DeserializeOwned> Codec<T> for JsonCodec {
    fn encode(&self, value: &T) -> Result<Value> {
        Json::encode(value).map(Value::Json)
    }

    fn decode(&self, value: Value) -> Result<T> {
        match value {
            Value::Json(json) => json.decode(),
            other => Err(mismatch(&other, ValueKind::Json)),
        }
    }
}

/// MessagePack, as bytes: smaller and faster than JSON, opaque to queries. Fields keep their names, so
/// that types can grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessagePack;

impl MessagePack {
    /// The media type of its records.
    pub const MEDIA_TYPE: &str = "application/vnd.msgpack";
}

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    fn encode(&self, value: &T) -> Result<Value> {
        let data = rmp_serde::to_vec_named(value).map_err(|error| {
            Error::invalid(format!("the value has no MessagePack form: {error}")).with_source(error)
        })?;
        Ok(Value::Bytes(Blob::new(data).with_media_type(Self::MEDIA_TYPE)))
    }

    fn decode(&self, value: Value) -> Result<T> {
        let Value::Bytes(blob) = &value else { return Err(mismatch(&value, ValueKind::Bytes)) };
        rmp_serde::from_slice(&blob.data).map_err(|error| {
            let message = format!("the stored bytes are no MessagePack of {}: {error}", type_name::<T>());
            Error::new(ErrorKind::Decode, message).with_source(error)
        })
    }
}

/// Bytes as they are: a [`Blob`] with its media type, or [`bytes::Bytes`] or `Vec<u8>` without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw;

impl Codec<Blob> for Raw {
    fn encode(&self, value: &Blob) -> Result<Value> {
        Ok(Value::Bytes(value.clone()))
    }

    fn decode(&self, value: Value) -> Result<Blob> {
        match value {
            Value::Bytes(blob) => Ok(blob),
            other => Err(mismatch(&other, ValueKind::Bytes)),
        }
    }
}

impl Codec<bytes::Bytes> for Raw {
    fn encode(&self, value: &bytes::Bytes) -> Result<Value> {
        Ok(Value::bytes(value.clone()))
    }

    fn decode(&self, value: Value) -> Result<bytes::Bytes> {
        let blob: Blob = self.decode(value)?;
        Ok(blob.data)
    }
}

impl Codec<Vec<u8>> for Raw {
    fn encode(&self, value: &Vec<u8>) -> Result<Value> {
        Ok(Value::bytes(value.clone()))
    }

    fn decode(&self, value: Value) -> Result<Vec<u8>> {
        let blob: Blob = self.decode(value)?;
        Ok(blob.data.into())
    }
}

/// The values themselves, of every kind but lists.
impl Codec<Value> for Raw {
    fn encode(&self, value: &Value) -> Result<Value> {
        Ok(value.clone())
    }

    fn decode(&self, value: Value) -> Result<Value> {
        Ok(value)
    }
}

fn mismatch(found: &Value, wanted: ValueKind) -> Error {
    Error::new(ErrorKind::TypeMismatch, format!("the record holds {}, not {wanted}", found.kind()))
}
