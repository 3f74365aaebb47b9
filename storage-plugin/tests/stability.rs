//! A plugin that was built for ABI 1.0, against the header of that time, loads into the host as it is now; and its
//! variants are taken or refused as the rules of ADR 0003 say.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use storage_core::{Address, ErrorKind, Feature, HealthStatus, Result, Retry, TypeDescriptor as _, Value};
use storage_plugin::host::{LoadLimits, Plugin};

#[path = "abi/cc.rs"]
mod cc;

/// Builds a variant of the frozen plugin, and loads it.
fn load(defines: &[&str]) -> Result<Arc<Plugin>> {
    let dir = tempfile::tempdir().expect("a directory for the plugin");
    let file = dir.path().join("fixture.so");
    build(defines, &file);
    // The library is mapped, so that the file need not stay.
    Plugin::load(&file, LoadLimits::default())
}

fn build(defines: &[&str], file: &Path) {
    let (frozen, flags) =
        (cc::path("tests/abi/1.0"), ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"]);
    let mut command = cc::cc();
    command.args(flags).args(["-shared", "-fPIC", "-fvisibility=hidden"]);
    command.args(defines.iter().map(|define| format!("-D{define}"))).arg("-I").arg(&frozen);
    cc::run(command.arg(frozen.join("plugin.c")).arg("-o").arg(file));
}

/// Calls everything that the fixture answers, at once and pending.
async fn works(plugin: &Plugin) {
    assert_eq!((plugin.name(), plugin.version().to_string()), ("fixture", "1.0.0".to_owned()));
    assert_eq!((plugin.summary(), plugin.schemes()), ("A fixture", &["fixture"][..]));
    assert_eq!(plugin.capabilities().features.len(), 2);
    assert!(plugin.capabilities().has(Feature::Get) && plugin.capabilities().has(Feature::Bytes));
    let config = plugin.config_from_url("fixture:").expect("a configuration");
    assert_eq!(config, json!({}));
    plugin.validate(&config).expect("it is valid");

    let store = plugin.open(config).await.expect("a store");
    assert_eq!(store.info().location, "fixture:");
    let records = store.get(&[Address::new("c", "k").expect("an address")]).await.expect("records");
    let record = records[0].as_ref().expect("a record");
    let Value::Bytes(blob) = &record.value else { panic!("{record:?}") };
    assert_eq!((&*blob.data, &*blob.media_type, record.version.as_str()), (&b"{}"[..], "text/plain", "1"));
    assert_eq!((record.created_at.as_millis(), record.updated_at.as_millis()), (1000, 2000));
    for _ in 0..100 {
        let health = store.health().await.expect("the health, by `done` on another thread");
        assert_eq!((health.status, &*health.detail), (HealthStatus::Up, "fixture"));
    }
    let error = store.collections().await.expect_err("an operation that the fixture does not know");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    store.close().await.expect("closed");
    assert_eq!((plugin.violations(), plugin.disabled()), (0, None));
}

/// The error with which a variant is refused; the process lives to tell.
#[track_caller]
fn refused(defines: &[&str], reasons: &[&str]) {
    let error = match load(defines) {
        Ok(plugin) => panic!("{plugin:?} with {defines:?} was loaded"),
        Err(error) => error,
    };
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::InvalidInput, Retry::Never),
        "{defines:?}: {error}"
    );
    for reason in reasons.iter().chain(&["fixture.so"]) {
        assert!(error.message().contains(reason), "{defines:?}: no {reason:?} in: {error}");
    }
}

#[tokio::test]
async fn a_plugin_of_1_0_works() {
    let plugin = load(&[]).expect("a plugin of ABI 1.0 loads");
    assert_eq!((plugin.abi(), plugin.build()), ((1, 0), "fixture of ABI 1.0"));
    works(&plugin).await;
}

/// A host takes what it knows of a later minor, whose structs are longer.
#[tokio::test]
async fn a_newer_minor_works() {
    let plugin = load(&["MINOR=7", "APPENDED"]).expect("a plugin of a later minor loads");
    assert_eq!(plugin.abi(), (1, 7));
    works(&plugin).await;
    let plugin = load(&["MINOR=65535"]).expect("a later minor that appended nothing");
    works(&plugin).await;
}

/// Another major is refused whatever its structs look like, in words that say what to do.
#[test]
fn another_major_is_refused() {
    refused(&["MAJOR=2"], &["ABI 2.0", "1.x"]);
    refused(&["MAJOR=0", "MINOR=9"], &["ABI 0.9", "1.x"]);
    refused(&["MAJOR=2", "DESCRIPTOR_SIZE=16", "NO_FUNCTIONS"], &["ABI 2.0"]);
}

/// Structs that are shorter than those of 1.0 lack something, whatever minor they claim.
#[test]
fn smaller_structs_are_refused() {
    for size in ["0", "16", "sizeof(storage_descriptor)-1", "sizeof(storage_descriptor)-8"] {
        refused(&[&format!("DESCRIPTOR_SIZE={size}"), "MINOR=3"], &["descriptor", "bytes"]);
    }
    for size in ["0", "8", "sizeof(storage_functions)-1", "sizeof(storage_functions)-8"] {
        refused(&[&format!("FUNCTIONS_SIZE={size}")], &["function", "bytes"]);
    }
}

#[test]
fn null_functions_are_refused() {
    for function in ["init", "call", "cancel", "call_free", "store_free", "shutdown"] {
        refused(&[&format!("WITHOUT={function}")], &[function, "null"]);
    }
    refused(&["NO_FUNCTIONS"], &["function", "null"]);
    refused(&["NO_DESCRIPTOR"], &["null"]);
}

#[test]
fn what_is_no_plugin_is_refused() {
    refused(&["MAGIC=0"], &["magic number"]);
    refused(&["MAGIC=UINT64_C(0x47554c50524f5453)"], &["magic number"]);
    refused(&["NO_ENTRY"], &["storage_plugin_entry"]);
}

#[test]
fn names_and_versions_that_are_not_valid_are_refused() {
    for name in ["NULL", r#""""#, r#""Fixture""#, r#""a b""#, r#""\xff""#] {
        refused(&[&format!("NAME_TEXT={name}")], &["name"]);
    }
    let long = format!("NAME_TEXT=\"{}\"", "a".repeat(33));
    refused(&[&long], &["name"]);
    for version in ["NULL", r#""""#, r#""1.0""#, r#""1.0.0\xff""#] {
        refused(&[&format!("VERSION_TEXT={version}")], &["version"]);
    }
}

/// What `init` describes is what the descriptor says.
#[test]
fn a_description_of_something_else_is_refused() {
    refused(&[r#"NAME_TEXT="other""#], &["other", "fixture"]);
    refused(&[r#"VERSION_TEXT="1.0.1""#], &["1.0.1", "1.0.0"]);
}
