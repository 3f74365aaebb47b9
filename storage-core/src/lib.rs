#![doc = include_str!("../README.md")]

mod admin;
pub mod apply;
mod backend;
mod capability;
mod codec;
mod descriptor;
pub mod duration;
mod error;
mod feed;
mod index;
mod json;
pub mod layer;
mod memory;
mod mutation;
mod name;
mod page;
pub mod query;
mod record;
mod request;
mod secret;
pub mod store;
mod time;
mod url;
mod value;
mod version;

pub use admin::{Health, HealthStatus, Maintenance, MaintenanceReport, Stats};
pub use backend::{Backend, BackendInfo};
pub use capability::{AtomicScope, Capabilities, Coalescing, Feature, Limits, Support};
pub use codec::{Codec, JsonCodec, MessagePack, Raw};
pub use descriptor::{LinkedType, TypeDescriptor, decode_config, nearest};
pub use error::{Error, ErrorKind, Result, Retry};
pub use feed::{ChangeEvent, Changes};
pub use index::{IndexSpec, KnownIndexes};
pub use json::{Json, MAX_JSON_DEPTH, compare_numbers, json_eq};
pub use memory::{MEMORY, MemoryBackend, MemoryType};
pub use mutation::{Atomicity, Batch, Change, Effect, Mutation, Precondition, Written};
pub use name::{Address, CollectionName, Key, MAX_COLLECTION_BYTES, MAX_KEY_BYTES};
pub use page::{Cursor, MAX_CURSOR_BYTES, Page};
pub use query::{Count, Direction, Filter, ListItems, ListRange, Path, Query, Scan, Sort, Test};
pub use record::Record;
pub use request::Request;
pub use secret::Secret;
pub use store::{
    Collection, Counters, Entry, IDEMPOTENCY_COLLECTION, IDEMPOTENCY_RETENTION, Idempotent, List, Store,
    Transaction, TransactionCollection,
};
pub use time::Timestamp;
pub use url::StoreUrl;
pub use value::{Blob, Value, ValueKind};
pub use version::{MAX_VERSION_BYTES, Version, VersionSource};

#[doc(hidden)]
pub use inventory;
