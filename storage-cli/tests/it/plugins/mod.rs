//! Plugins, with the one of `examples/plugin-c` compiled on the spot.

mod harm;
mod life;
mod refusals;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::Shell;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/plugin-c");
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../storage-plugin/include");

/// Compiles the example as `file`, with another version than its own and in other words where `edits` say so.
pub(crate) fn compile(file: &Path, version: &str, edits: &[(&str, &str)]) {
    let mut source = std::fs::read_to_string(Path::new(EXAMPLE).join("memory.c")).unwrap();
    let version = (r#"#define VERSION "1.0.0""#, &*format!("#define VERSION \"{version}\""));
    for (from, to) in edits.iter().chain([&version]) {
        assert!(source.contains(from), "{from:?} is not in the example");
        source = source.replace(from, to);
    }
    let edited = file.with_extension("c");
    std::fs::write(&edited, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-I", HEADERS]);
    let output = cc.args(["-I", EXAMPLE, "-o"]).args([file, &edited]).output().expect("a C compiler, as cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles the example as `file`, with a constructor: it runs while the library is loaded.
pub(crate) fn compile_with_constructor(file: &Path, body: &str) {
    let entry = "const storage_descriptor *storage_plugin_entry(void)";
    let constructor = format!(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/resource.h>\n\
         __attribute__((constructor)) static void constructor(void) {{ {body} }}\n{entry}"
    );
    compile(file, "1.0.0", &[(entry, &constructor)]);
}

impl Shell {
    /// The example plugin in some version, as a shared library.
    pub(crate) fn plugin(&self, version: &str) -> PathBuf {
        let file = self.directory.path().join(format!("c-memory-{version}.so"));
        compile(&file, version, &[]);
        file
    }

    /// The example plugin as a package: packed, signed with `release.key`, and the key made if it is not there.
    pub(crate) fn signed(&self, version: &str) -> String {
        let file = self.plugin(version);
        if !self.directory.path().join("release.key").exists() {
            self.ok(&["plugin", "keygen", "release.key"]);
        }
        self.ok(&["plugin", "pack", file.to_str().unwrap()]);
        let package = format!("c-memory-{version}");
        self.ok(&["plugin", "sign", &package, "--key", "release.key"]);
        package
    }

    /// The names, versions and states of `plugin list`.
    pub(crate) fn states(&self) -> Vec<(String, String, String)> {
        let list = self.json(&["plugin", "list"]);
        let plugins = list["plugins"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        plugins
            .map(|plugin| (text(&plugin["name"]), text(&plugin["version"]), text(&plugin["state"])))
            .collect()
    }
}
