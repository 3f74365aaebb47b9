//! Plugins: storage types in shared libraries.
//!
//! A plugin travels as a **package**, a directory of three files:
//!
//! ```text
//! <name>-<version>/plugin.toml       what it is: the Manifest, with the size and SHA-256 of the library
//! <name>-<version>/plugin.toml.sig   the signature over plugin.toml
//! <name>-<version>/lib….so           the library
//! ```
//!
//! or as the bare library, which has no signature and so is loaded only where unsigned plugins are allowed. A
//! [`Package`] is read once into memory; [`Package::verify`] checks those bytes, and nothing of the library runs.
//!
//! # The plugin directory
//!
//! ```text
//! <dir>/trusted-keys.toml       the Keyring: whose signatures count
//! <dir>/plugins.lock            the exact libraries that were installed, and whether they are enabled
//! <dir>/<name>-<version>/       a package
//! <dir>/*.so                    libraries that were put there bare
//! <dir>/.state/                 for this software alone, mode 0700:
//!     copies/                       private copies of libraries, named by content: what is loaded
//!     loading/                      markers of plugins that are being loaded or are opening a store
//!     trials/                       what libraries said when they were tried
//!     quarantine/                   libraries that ended a process
//!     lock                          held by whoever changes the directory
//! ```
//!
//! A user who cannot change the directory, because it is root's or on a read-only disk, has that last part in
//! `storage/plugins/<digest of the path>` of the cache directory (`XDG_CACHE_HOME`, else `~/.cache`) instead.
//!
//! [`Registry::load_plugins`](crate::Registry::load_plugins) loads what is in it. Each library is read once, checked,
//! held against its pin, copied, tried in a process of its own unless that was done before, and then loaded from the
//! copy. [`PluginManager`] changes what is in it, and [`Registry::watch_plugins`](crate::Registry::watch_plugins) takes
//! in changes while the program runs. A program calls [`run_trial_if_asked`] first in `main`, so that it can try
//! plugins itself.

mod copies;
mod digest;
mod directory;
mod elf;
mod files;
mod image;
mod info;
mod inspect;
mod key;
mod keyring;
mod load;
mod manager;
mod manifest;
mod options;
mod pack;
mod package;
mod pins;
mod plugin_type;
mod problem;
mod quarantine;
mod signature;
mod survey;
mod symbols;
mod text;
mod trial;
mod trial_process;
mod watch;

pub use digest::Digest;
pub use elf::{ElfFacts, host_target};
pub use info::{LoadReport, PluginInfo, PluginState};
pub use inspect::{Inspection, inspect};
pub use key::{KeyId, PrivateKey, PublicKey, keygen};
pub use keyring::{Keyring, TrustedKey};
pub use manager::PluginManager;
pub use manifest::{Description, MajorMinor, Manifest};
pub use options::{PluginOptions, TrialOptions};
pub use pack::pack;
pub use package::{Package, Verified};
pub use problem::{Problem, ProblemKind};
pub use signature::{SignatureState, sign};
pub use storage_plugin::host::{LoadLimits, shutdown_all};
pub use trial_process::run_trial_if_asked;
pub use watch::PluginWatch;
