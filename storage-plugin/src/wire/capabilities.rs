//! What a backend offers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use storage_core::{AtomicScope, Capabilities, Coalescing, Feature, Limits, MAX_JSON_DEPTH, Result, Support};

use super::{Reader, Wire, Writer};

impl Wire for Capabilities {
    fn write(&self, to: &mut Writer) {
        to.map(5);
        to.str("features");
        to.map(self.features.len());
        for (feature, support) in &self.features {
            to.entry(feature.as_str(), support);
        }
        to.text_entry("atomic_scope", scope_name(self.atomic_scope));
        to.text_entry("coalesce_reads", coalescing_name(self.coalesce_reads));
        to.text_entry("coalesce_writes", coalescing_name(self.coalesce_writes));
        to.entry("limits", &self.limits);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut features, mut capabilities) = (None, Self::none());
        from.map(|from| {
            match from.name()? {
                b"features" => features = Some(read_features(from)?),
                b"limits" => capabilities.limits = from.read::<Option<Limits>>()?.unwrap_or_default(),
                // Names that this side does not know count as missing, like those of features.
                b"atomic_scope" => {
                    let scopes = [AtomicScope::Record, AtomicScope::Collection, AtomicScope::Store];
                    capabilities.atomic_scope = named(from, scopes, scope_name)?;
                }
                b"coalesce_reads" => capabilities.coalesce_reads = read_coalescing(from)?,
                b"coalesce_writes" => capabilities.coalesce_writes = read_coalescing(from)?,
                _ => from.skip()?,
            }
            Ok(())
        })?;
        capabilities.features = features.ok_or_else(|| from.missing(at, "features"))?;
        Ok(capabilities)
    }
}

fn read_features(from: &mut Reader<'_>) -> Result<BTreeMap<Feature, Support>> {
    let mut features = BTreeMap::new();
    from.map(|from| {
        let name = from.name()?;
        match Feature::ALL.into_iter().find(|feature| feature.as_str().as_bytes() == name) {
            Some(feature) => drop(features.insert(feature, from.read()?)),
            None => from.skip()?,
        }
        Ok(())
    })?;
    Ok(features)
}

impl Wire for Support {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Native => to.bool(true),
            Self::Emulated(cost) => to.str(cost),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        if from.at_str() {
            return from.read().map(|cost: String| Self::Emulated(Cow::Owned(cost)));
        }
        if from.bool()? {
            return Ok(Self::Native);
        }
        Err(from.invalid(
            at,
            &"a feature is true or the cost at which it is emulated; leave out what is not offered",
        ))
    }
}

impl Wire for Limits {
    fn write(&self, to: &mut Writer) {
        let limits = [
            ("batch_len", self.batch_len),
            ("batch_bytes", self.batch_bytes),
            ("atomic_len", self.atomic_len),
            ("atomic_bytes", self.atomic_bytes),
            ("value_bytes", self.value_bytes),
            ("json_depth", self.json_depth),
            ("page_len", self.page_len as usize),
            ("counter_fields", self.counter_fields),
        ];
        to.map(limits.len());
        for (name, limit) in limits {
            to.entry(name, &(limit as u64));
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        /// A limit beyond what this machine can count is none.
        fn size(from: &mut Reader<'_>) -> Result<usize> {
            Ok(usize::try_from(from.uint()?).unwrap_or(usize::MAX))
        }

        let mut limits = Self::default();
        from.map(|from| {
            match from.name()? {
                _ if from.nil() => {}
                b"batch_len" => limits.batch_len = size(from)?,
                b"batch_bytes" => limits.batch_bytes = size(from)?,
                b"atomic_len" => limits.atomic_len = size(from)?,
                b"atomic_bytes" => limits.atomic_bytes = size(from)?,
                b"value_bytes" => limits.value_bytes = size(from)?,
                b"json_depth" => limits.json_depth = size(from)?.min(MAX_JSON_DEPTH),
                b"page_len" => limits.page_len = u32::try_from(from.uint()?).unwrap_or(u32::MAX),
                b"counter_fields" => limits.counter_fields = size(from)?,
                _ => from.skip()?,
            }
            Ok(())
        })?;
        Ok(limits)
    }
}

fn scope_name(scope: AtomicScope) -> &'static str {
    match scope {
        AtomicScope::Record => "record",
        AtomicScope::Collection => "collection",
        AtomicScope::Store => "store",
    }
}

fn coalescing_name(coalescing: Coalescing) -> &'static str {
    match coalescing {
        Coalescing::Pays => "pays",
        Coalescing::Idle => "idle",
    }
}

fn read_coalescing(from: &mut Reader<'_>) -> Result<Coalescing> {
    named(from, [Coalescing::Idle, Coalescing::Pays], coalescing_name)
}

/// The value of a name; the first for nil, or a name that is none of these.
fn named<T: Copy, const N: usize>(
    from: &mut Reader<'_>,
    values: [T; N],
    name_of: fn(T) -> &'static str,
) -> Result<T> {
    let name = from.optional_str()?.unwrap_or_default();
    Ok(values.into_iter().find(|value| name_of(*value) == name).unwrap_or(values[0]))
}
