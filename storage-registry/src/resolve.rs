//! From what was asked for to the one type that answers.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use semver::{Op, Version as Semver, VersionReq};
use smol_str::SmolStr;
use storage_core::{Error, ErrorKind, Result, Retry, nearest};

use crate::entry::{check_name, shown};
use crate::{Origin, Status, TypeEntry};

/// A reference to a type, as configurations write it.
///
/// | text | matches |
/// |---|---|
/// | `redis` | every version |
/// | `redis@1.2.3`, `redis@=1.2.3` | exactly this version |
/// | `redis@1.2`, `redis@^1.2`, `redis@>=1.1, <3` | versions that meet the requirement, in Cargo's notation |
///
/// ```
/// use storage_registry::TypeRef;
///
/// let redis: TypeRef = "redis@^1.2".parse()?;
/// assert_eq!(redis.name(), "redis");
/// assert!(redis.matches(&"1.4.0".parse().unwrap()));
/// assert!(!redis.matches(&"2.0.0".parse().unwrap()));
/// # Ok::<(), storage_registry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TypeRef {
    name: SmolStr,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Any,
    Exactly(Semver),
    Matching(VersionReq),
}

impl TypeRef {
    /// The type's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a version is one of those asked for. A pre-release meets a requirement only if the requirement
    /// names a pre-release of the same version, as in Cargo. Build metadata counts only if it is asked for.
    pub fn matches(&self, version: &Semver) -> bool {
        match &self.wanted {
            Wanted::Any => true,
            Wanted::Exactly(exact) if exact.build.is_empty() => exact.cmp_precedence(version).is_eq(),
            Wanted::Exactly(exact) => exact == version,
            Wanted::Matching(requirement) => requirement.matches(version),
        }
    }

    fn is_exact(&self) -> bool {
        match &self.wanted {
            Wanted::Any => false,
            Wanted::Exactly(_) => true,
            Wanted::Matching(requirement) => requirement
                .comparators
                .iter()
                .any(|comparator| comparator.op == Op::Exact && comparator.patch.is_some()),
        }
    }
}

impl FromStr for TypeRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Such a text is not repeated: it may hold a password.
        if text.contains(':') {
            return Err(Error::invalid(
                "a storage type is referred to as such as file or file@^1: a text with a colon is a URL",
            ));
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name.trim(), Some(version.trim())),
            None => (text.trim(), None),
        };
        check_name(name)?;
        let wanted = match version {
            None => Wanted::Any,
            Some(version) => match version.parse() {
                Ok(exact) => Wanted::Exactly(exact),
                Err(_) => Wanted::Matching(version.parse().map_err(|error| {
                    Error::invalid(format!(
                        "version requirement {} of type {name} is not valid ({error}): write {name}@1.2.3 for \
                         one version or {name}@^1.2 for those compatible with it",
                        shown(version)
                    ))
                    .with_source(error)
                })?),
            },
        };
        Ok(Self { name: SmolStr::new(name), wanted })
    }
}

impl fmt::Display for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wanted {
            Wanted::Any => f.write_str(&self.name),
            Wanted::Exactly(version) => write!(f, "{}@{version}", self.name),
            Wanted::Matching(requirement) => write!(f, "{}@{requirement}", self.name),
        }
    }
}

/// The best of `types` for a reference.
pub(crate) fn by_reference(types: &[Arc<TypeEntry>], wanted: &TypeRef) -> Result<Arc<TypeEntry>> {
    let named: Vec<_> = types.iter().filter(|entry| entry.name == wanted.name).collect();
    if named.is_empty() {
        let names: BTreeSet<&str> = types.iter().map(|entry| entry.name.as_str()).collect();
        return Err(unknown("storage type", &wanted.name, names));
    }
    let matching: Vec<_> = named.iter().copied().filter(|entry| wanted.matches(&entry.version)).collect();
    if matching.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no version of storage type {} is {wanted}. Known: {}", wanted.name, joined(&named)),
        ));
    }
    best(&matching, wanted.is_exact())
}

/// The best of `types` for a URL scheme; the rule stands at [`Registry::plan`](crate::Registry::plan).
pub(crate) fn by_scheme(types: &[Arc<TypeEntry>], scheme: &str) -> Result<Arc<TypeEntry>> {
    let claim: Vec<_> =
        types.iter().filter(|entry| entry.schemes.iter().any(|known| known == scheme)).collect();
    let enabled = claim.iter().filter(|entry| entry.status != Status::Disabled);
    let first = enabled.min_by_key(|entry| (entry.name != scheme, origin_rank(&entry.origin), &entry.name));
    match first {
        Some(first) => {
            let versions: Vec<_> = claim.iter().copied().filter(|entry| entry.name == first.name).collect();
            best(&versions, false)
        }
        None if claim.is_empty() => {
            let schemes = types.iter().flat_map(|entry| &entry.schemes).map(SmolStr::as_str).collect();
            Err(unknown("URL scheme", scheme, schemes))
        }
        None => best(&claim, false),
    }
}

/// The usable entry of the best status and, within it, of the highest version.
fn best(candidates: &[&Arc<TypeEntry>], exact: bool) -> Result<Arc<TypeEntry>> {
    let usable = candidates.iter().filter(|entry| entry.status.is_usable());
    let Some(&chosen) = usable.min_by(|a, b| {
        let rank = |entry: &TypeEntry| (status_rank(&entry.status), !entry.version.pre.is_empty());
        (rank(a).cmp(&rank(b)))
            .then_with(|| b.version.cmp_precedence(&a.version))
            .then_with(|| origin_rank(&a.origin).cmp(&origin_rank(&b.origin)))
            .then_with(|| Reverse(&a.version).cmp(&Reverse(&b.version)))
    }) else {
        let why: Vec<_> = candidates.iter().map(|entry| format!("{entry} is {}", entry.status)).collect();
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("no version of the storage type may be used: {}", why.join("; ")),
        )
        .with_retry(Retry::Never));
    };
    match chosen.status {
        Status::Deprecated => tracing::warn!(storage_type = %chosen, "the storage type is deprecated"),
        Status::Experimental if !exact => {
            tracing::warn!(storage_type = %chosen, "no active version matches: using an experimental one");
        }
        _ => {}
    }
    Ok(Arc::clone(chosen))
}

fn status_rank(status: &Status) -> u8 {
    match status {
        Status::Active => 0,
        Status::Deprecated => 1,
        Status::Experimental => 2,
        Status::Disabled | Status::Quarantined { .. } => 3,
    }
}

fn origin_rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Linked => 0,
        Origin::Plugin { .. } => 1,
    }
}

fn unknown(what: &str, wanted: &str, known: BTreeSet<&str>) -> Error {
    let near = nearest(wanted, known.iter().copied());
    let hint = near.map_or_else(|| ".".to_owned(), |near| format!("; did you mean {near:?}?"));
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none, no type is registered" } else { &known };
    Error::new(ErrorKind::NotFound, format!("unknown {what} {}{hint} Known: {known}", shown(wanted)))
}

fn joined(entries: &[&Arc<TypeEntry>]) -> String {
    entries.iter().map(|entry| entry.version.to_string()).collect::<Vec<_>>().join(", ")
}
