//! Getting at the shared libraries: what cargo has built already, else built now.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::SystemTime;
use std::{env, fs};

use serde_json::Value;

/// The shared library of an example of this package.
pub(crate) fn example(name: &str) -> PathBuf {
    let library = profile_dir().join("examples").join(format!("lib{name}.so"));
    // Built together with this test, unless only this test was asked for.
    if is_fresh(&library) {
        library
    } else {
        cargo(&["build", "--package", "storage-plugin", "--example", name], &[])
    }
}

/// A backend crate as a plugin.
pub(crate) fn backend(package: &str) -> PathBuf {
    cargo(
        &["rustc", "--package", package, "--lib", "--crate-type", "cdylib"],
        &["--", "--cfg", "storage_plugin"],
    )
}

/// Whether a library is newer than everything that it was made of, according to cargo's list beside it.
fn is_fresh(library: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let (Some(built), Ok(list)) = (changed(library), fs::read_to_string(library.with_extension("d"))) else {
        return false;
    };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    let is_older =
        |source: &str| changed(Path::new(source)).is_some_and(|changed: SystemTime| changed <= built);
    // Cargo escapes spaces. Such a path is found to be missing here, and cargo asked instead.
    sources.split_whitespace().all(is_older)
}

/// Builds as this test was built, and returns the shared library.
fn cargo(command: &[&str], rest: &[&str]) -> PathBuf {
    // One at a time: the others would only wait for it, and say so.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(command).args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let profile_dir = profile_dir();
    match profile_dir.file_name().and_then(OsStr::to_str).expect("the profile's directory") {
        "debug" => {}
        profile => {
            cargo.args(["--profile", profile]);
        }
    }
    let below = profile_dir.strip_prefix(target_dir()).expect("tests are built in the target directory");
    if let Some(triple) = below.parent().filter(|triple| *triple != Path::new("")) {
        cargo.arg("--target").arg(triple);
    }
    // Settings of the package under test are not those of what is built.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    let output = cargo.args(rest).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{cargo:?} failed");
    let messages = String::from_utf8(output.stdout).expect("cargo prints text");
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let library = artifacts
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|artifact| artifact["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| Some(PathBuf::from(file.as_str()?)))
        .rfind(|file| file.extension() == Some(OsStr::new("so")));
    library.unwrap_or_else(|| panic!("{cargo:?} made no shared library"))
}

/// Where this test was built: `target/debug`, or with a target or profile named, such as
/// `target/x86_64-unknown-linux-gnu/release`.
fn profile_dir() -> PathBuf {
    let test = env::current_exe().expect("this program");
    test.ancestors().nth(2).expect("tests are built in deps/").to_owned()
}

fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("in the target directory")
}
