//! How a crate tells the registry which storage type it brings.

use std::sync::Arc;

use async_trait::async_trait;
use semver::Version as Semver;
use serde_json::Value as Tree;

use crate::{Backend, Capabilities, Error, ErrorKind, Result};

/// A storage type: what it is called, what it can do, and how it is opened.
///
/// A backend crate submits one with [`register_type!`](crate::register_type), and the registry finds it;
/// or a program registers it by hand.
#[async_trait]
pub trait TypeDescriptor: Send + Sync + 'static {
    /// The type's name, `[a-z][a-z0-9-]{0,31}`.
    fn name(&self) -> &str;
    /// The type's version.
    fn version(&self) -> Semver;
    /// One line for people.
    fn summary(&self) -> &str;
    /// The URL schemes it answers to, such as `redis` and `rediss`.
    fn schemes(&self) -> &[&str];
    /// What its backends offer in the default configuration.
    fn capabilities(&self) -> Capabilities;
    /// The JSON Schema of its configuration: an object schema in which unknown keys are not allowed.
    fn config_schema(&self) -> Tree;
    /// Turns a URL of one of its schemes into a configuration. Pure.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) that names the part of the URL that is wrong.
    fn config_from_url(&self, url: &str) -> Result<Tree>;
    /// Checks a configuration. Pure: no I/O.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) that names the key that is wrong.
    fn validate(&self, config: &Tree) -> Result<()>;
    /// Opens a backend.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and whatever opening meets.
    async fn open(&self, config: Tree) -> Result<Arc<dyn Backend>>;
}

/// A linked-in type, collected over the whole program.
pub struct LinkedType(pub &'static dyn TypeDescriptor);

inventory::collect!(LinkedType);

impl LinkedType {
    /// Every type linked into this program. Which ones those are decides the linker: name each crate once
    /// (as the facade does) so that none is dropped.
    pub fn all() -> impl Iterator<Item = &'static dyn TypeDescriptor> {
        inventory::iter::<LinkedType>.into_iter().map(|linked| linked.0)
    }
}

/// Submits a `static` [`TypeDescriptor`] to the collection of linked-in types.
#[macro_export]
macro_rules! register_type {
    ($descriptor:expr) => {
        $crate::inventory::submit! { $crate::LinkedType(&$descriptor) }
    };
}

/// Decodes a configuration and names a wrong key with the nearest known one.
///
/// `known` are the keys that the type takes.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) for a configuration that is no object, an unknown key, or a
/// value of the wrong type.
pub fn decode_config<T: serde::de::DeserializeOwned>(
    type_name: &str,
    config: &Tree,
    known: &[&str],
) -> Result<T> {
    let Tree::Object(fields) = config else {
        return Err(Error::invalid(format!(
            "the configuration of {type_name} is not an object of keys and values"
        )));
    };
    if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        let nearest = nearest(key, known.iter().copied()).map(|n| format!("; did you mean {n:?}?"));
        return Err(Error::invalid(format!(
            "unknown configuration key {} of {type_name}{} Known: {}",
            crate::name::shown(key),
            nearest.as_deref().unwrap_or("."),
            known.join(", ")
        )));
    }
    let decoded: Result<T, _> = serde_json::from_value(config.clone());
    decoded.map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("the configuration of {type_name}: {error}"))
            .with_source(error)
    })
}

/// The candidate most like `wanted`, if one is near enough to be a typing error.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
