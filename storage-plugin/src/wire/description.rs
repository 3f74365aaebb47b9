//! What a plugin says of its type, and of a store that it opened.

use semver::Version as Semver;
use serde_json::Value as Tree;
use smol_str::SmolStr;
use storage_core::{BackendInfo, Capabilities, Result, TypeDescriptor};

use super::{Reader, Wire, Writer};

/// A storage type as its plugin describes it: the answer of `init`.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The type's name.
    pub name: SmolStr,
    /// The type's version.
    pub version: Semver,
    /// One line for people.
    pub summary: String,
    /// The URL schemes it answers to.
    pub schemes: Vec<String>,
    /// What its backends offer in the default configuration.
    pub capabilities: Capabilities,
    /// The JSON Schema of its configuration.
    pub config_schema: Tree,
}

impl Description {
    /// The description of a type.
    pub fn of(descriptor: &dyn TypeDescriptor) -> Self {
        Self {
            name: SmolStr::new(descriptor.name()),
            version: descriptor.version(),
            summary: descriptor.summary().to_owned(),
            schemes: descriptor.schemes().iter().map(|scheme| (*scheme).to_owned()).collect(),
            capabilities: descriptor.capabilities(),
            config_schema: descriptor.config_schema(),
        }
    }
}

impl Wire for Description {
    fn write(&self, to: &mut Writer) {
        to.map(6);
        to.entry("name", &self.name);
        to.entry("version", &self.version);
        to.entry("summary", &self.summary);
        to.entry("schemes", &self.schemes);
        to.entry("capabilities", &self.capabilities);
        to.text_entry("config_schema", &self.config_schema.to_string());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut name, mut version, mut summary, mut schemes) = (None, None, None, None);
        let (mut capabilities, mut config_schema) = (None, None);
        from.map(|from| {
            match from.name()? {
                b"name" => name = Some(from.read()?),
                b"version" => version = Some(from.read()?),
                b"summary" => summary = Some(from.read()?),
                b"schemes" => schemes = Some(from.read()?),
                b"capabilities" => capabilities = Some(from.read()?),
                b"config_schema" => config_schema = Some(from.json_text()?),
                _ => from.skip()?,
            }
            Ok(())
        })?;
        Ok(Self {
            name: name.ok_or_else(|| from.missing(at, "name"))?,
            version: version.ok_or_else(|| from.missing(at, "version"))?,
            summary: summary.ok_or_else(|| from.missing(at, "summary"))?,
            schemes: schemes.ok_or_else(|| from.missing(at, "schemes"))?,
            capabilities: capabilities.ok_or_else(|| from.missing(at, "capabilities"))?,
            config_schema: config_schema.ok_or_else(|| from.missing(at, "config_schema"))?,
        })
    }
}

impl Wire for Semver {
    fn write(&self, to: &mut Writer) {
        to.str(&self.to_string());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        Self::parse(from.str()?).map_err(|error| from.invalid(at, &error))
    }
}

wire_map!(BackendInfo {
    required name: "name",
    required version: "version",
    required location: "location",
    required capabilities: "capabilities",
});

/// The answer to `open`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The number that stands for the store; not 0.
    pub store: u64,
    /// What the backend says of itself.
    pub info: BackendInfo,
}

/// One map of both.
impl Wire for Opened {
    fn write(&self, to: &mut Writer) {
        to.map(5);
        to.entry("store", &self.store);
        to.entry("name", &self.info.name);
        to.entry("version", &self.info.version);
        to.entry("location", &self.info.location);
        to.entry("capabilities", &self.info.capabilities);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut store, mut name, mut version) = (None, None, None);
        let (mut location, mut capabilities) = (None, None);
        from.map(|from| {
            match from.name()? {
                b"store" => store = Some(from.uint()?),
                b"name" => name = Some(from.read()?),
                b"version" => version = Some(from.read()?),
                b"location" => location = Some(from.read()?),
                b"capabilities" => capabilities = Some(from.read()?),
                _ => from.skip()?,
            }
            Ok(())
        })?;
        let store = store.ok_or_else(|| from.missing(at, "store"))?;
        if store == 0 {
            return Err(from.invalid(at, &"the number of a store is not 0"));
        }
        Ok(Self {
            store,
            info: BackendInfo {
                name: name.ok_or_else(|| from.missing(at, "name"))?,
                version: version.ok_or_else(|| from.missing(at, "version"))?,
                location: location.ok_or_else(|| from.missing(at, "location"))?,
                capabilities: capabilities.ok_or_else(|| from.missing(at, "capabilities"))?,
            },
        })
    }
}
