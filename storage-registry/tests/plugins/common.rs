//! A plugin directory for each test, and plugins compiled for it.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use storage_registry::Registry;
use storage_registry::plugins::{
    LoadReport, PluginInfo, PluginManager, PluginOptions, PluginState, PrivateKey, PublicKey, keygen, pack,
    sign,
};
use storage_registry::semver::Version as Semver;
use tempfile::TempDir;

/// A plugin directory, and a place for files beside it. Loaded libraries stay loaded, so that each test has plugins of
/// its own.
pub(crate) struct Place {
    pub(crate) root: TempDir,
    pub(crate) options: PluginOptions,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut options =
            PluginOptions { dir: Some(root.path().join("plugins")), ..PluginOptions::default() };
        options.trial.program = Some(env!("CARGO_BIN_EXE_storage-plugin-trial").into());
        fs::create_dir(root.path().join("plugins")).unwrap();
        Self { root, options }
    }

    /// One in which unsigned plugins are loaded.
    pub(crate) fn lenient() -> Self {
        let mut place = Self::new();
        place.options.allow_unsigned = true;
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A path in the plugin directory.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.root.path().join("plugins").join(name)
    }

    pub(crate) fn manager(&self) -> PluginManager {
        PluginManager::new(self.options.clone()).unwrap()
    }

    /// Compiles the plugin `name@version`, with macros such as `INIT_HANGS`, outside of the directory.
    pub(crate) fn compile(&self, reference: &str, macros: &[&str]) -> PathBuf {
        static BUILDS: AtomicU32 = AtomicU32::new(0);
        // No two builds are the same file, as each is loaded only once.
        let build = format!("test {} {}", std::process::id(), BUILDS.fetch_add(1, Ordering::Relaxed));
        self.compile_build(reference, &build, macros)
    }

    /// As [`compile`](Self::compile), and always the same file for the same build.
    pub(crate) fn compile_build(&self, reference: &str, build: &str, macros: &[&str]) -> PathBuf {
        let (name, version) = reference.split_once('@').unwrap();
        let file = self.path(&format!("{name}-{version}.so"));
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror", "-Wno-unused", "-I"]);
        cc.arg(manifest.join("../storage-plugin/include"));
        cc.args(
            [("NAME", name), ("VERSION", version), ("BUILD", build)].map(|(k, v)| format!("-D{k}=\"{v}\"")),
        );
        cc.args(macros.iter().map(|name| format!("-D{name}")));
        let output = cc.arg("-o").arg(&file).arg(manifest.join("tests/plugins/plugin.c")).output();
        let output = output.expect("a C compiler, as cc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        file
    }

    /// Compiles a plugin and drops it into the directory as it is.
    pub(crate) fn drop_in(&self, reference: &str, macros: &[&str]) -> PathBuf {
        let file = self.inside(&format!("{}.so", reference.replace('@', "-")));
        fs::rename(self.compile(reference, macros), &file).unwrap();
        file
    }

    /// A package of the plugin, signed with the key of this place, which is made if it is not there.
    pub(crate) fn signed(&self, reference: &str) -> PathBuf {
        let key = self.path("release.key");
        if !key.exists() {
            keygen(&key).unwrap();
        }
        let (package, _) = pack(&self.compile(reference, &[]), &self.path("dist"), None).unwrap();
        sign(&package, &PrivateKey::read(&key).unwrap()).unwrap();
        package
    }

    /// Trusts the key of this place.
    pub(crate) fn trust(&self) {
        self.manager().trust("release", PublicKey::read(&self.path("release.key.pub")).unwrap()).unwrap();
    }

    /// Loads into a new registry.
    pub(crate) fn load(&self) -> (Registry, LoadReport) {
        let registry = Registry::new();
        let report = registry.load_plugins(&self.options).unwrap();
        (registry, report)
    }

    /// Why the only plugin of the directory is refused.
    pub(crate) fn refusal(&self) -> String {
        let (registry, report) = self.load();
        assert!(registry.list().is_empty(), "{report:?}");
        let [plugin] = &report.plugins[..] else { panic!("{report:?}") };
        assert_eq!(plugin.state, PluginState::Refused, "{plugin:?}");
        plugin.reason.clone().unwrap()
    }

    pub(crate) fn states(&self) -> String {
        states(&self.manager().list().unwrap())
    }
}

/// Such as `a@1.0.0 enabled, a@1.1.0 disabled`.
pub(crate) fn states(plugins: &[PluginInfo]) -> String {
    let states = plugins.iter().map(|plugin| format!("{plugin} {}", plugin.state.as_str()));
    states.collect::<Vec<_>>().join(", ")
}

/// The types of a registry with their status, in the same form.
pub(crate) fn types(registry: &Registry) -> String {
    let types = registry.list();
    types.iter().map(|entry| format!("{entry} {}", entry.status.as_str())).collect::<Vec<_>>().join(", ")
}

/// The bytes with one to eight of them changed, as the seed says, and none in `except`.
pub(crate) fn flipped(whole: &[u8], seed: u64, except: &Range<usize>) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..=next() % 8 {
        let at = usize::try_from(next() % whole.len() as u64).unwrap();
        if !except.contains(&at) {
            bytes[at] ^= u8::try_from(next() % 255).unwrap() + 1;
        }
    }
    // All may have been there, or have cancelled each other out.
    if bytes == whole {
        bytes[0] ^= 1;
    }
    bytes
}

pub(crate) fn version(text: &str) -> Semver {
    text.parse().unwrap()
}

/// Waits until something holds, which it does within some seconds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
