//! `include/storage_plugin.h` and the Rust types say the same, the header compiles everywhere, and what ABI 1.0 fixed
//! is still there.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use storage_plugin::abi::{self, Descriptor, Functions, Host, Message, Slice};

#[path = "abi/cc.rs"]
mod cc;

/// The header and its layout as they were frozen with ABI 1.0.
const FROZEN: &str = "tests/abi/1.0";

/// A C expression, and the number that it has in Rust.
type Fact = (String, u64);

/// The size of a struct, and offset and size of all its fields. The pattern without `..` makes sure that it is all.
macro_rules! layout {
    ($facts:ident, $rust:ident as $c:literal { $($field:ident),* $(,)? }) => {
        let _ = |all: $rust| { let $rust { $($field: _),* } = all; };
        $facts.push((format!("sizeof({})", $c), size_of::<$rust>() as u64));
        $facts.push((format!("_Alignof({})", $c), align_of::<$rust>() as u64));
        $(
            let offset = std::mem::offset_of!($rust, $field) as u64;
            $facts.push((format!("offsetof({}, {})", $c, stringify!($field)), offset));
            let size = size_of_field(|all: &$rust| &all.$field) as u64;
            $facts.push((format!("sizeof((({} *)0)->{})", $c, stringify!($field)), size));
        )*
    };
}

fn size_of_field<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// What the Rust types say.
fn facts() -> Vec<Fact> {
    let mut facts: Vec<Fact> = [
        ("STORAGE_PLUGIN_MAGIC", abi::MAGIC),
        ("STORAGE_PLUGIN_ABI_MAJOR", abi::ABI_MAJOR.into()),
        ("STORAGE_PLUGIN_ABI_MINOR", abi::ABI_MINOR.into()),
        ("STORAGE_READY", abi::READY as u64),
        ("STORAGE_PENDING", abi::PENDING as u64),
        ("STORAGE_PLUGIN_NOTE_TYPE", abi::NOTE_TYPE.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    layout!(facts, Slice as "storage_slice" { data, len });
    layout!(facts, Message as "storage_message" { head, head_len, blobs, blob_count, owner, release });
    layout!(facts, Host as "storage_host" { struct_size, abi_major, abi_minor, context, log_level, log });
    layout!(facts, Functions as "storage_functions" {
        struct_size, reserved, init, call, cancel, call_free, store_free, shutdown,
    });
    layout!(facts, Descriptor as "storage_descriptor" {
        magic, struct_size, abi_major, abi_minor, name, version, build, functions,
    });
    facts
}

/// Compiles a C program against a header, runs it, and returns what it prints.
fn printed(source: &Path, include: &Path) -> String {
    let dir = tempfile::tempdir().expect("a directory for the program");
    let program = dir.path().join("program");
    let flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    cc::run(cc::cc().args(flags).arg("-I").arg(include).arg(source).arg("-o").arg(&program));
    cc::run(&mut Command::new(program))
}

#[test]
fn header_and_rust_types_agree() {
    let facts = facts();
    let mut source = "#include <stdio.h>\n#include \"storage_plugin.h\"\nint main(void) {\n".to_owned();
    for (expression, _) in &facts {
        writeln!(source, "printf(\"%llu\\n\", (unsigned long long)({expression}));").unwrap();
    }
    source += "puts(STORAGE_PLUGIN_NOTE_NAME);\nputs(STORAGE_PLUGIN_NOTE_SECTION);\nreturn 0;\n}\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("facts.c");
    std::fs::write(&file, source).unwrap();

    let printed = printed(&file, &cc::path("include"));
    let mut lines = printed.lines();
    for (expression, expected) in facts {
        let found: u64 = lines.next().expect("a line for each fact").parse().expect("a number");
        assert_eq!(found, expected, "{expression}: the header says {found}, abi.rs {expected}");
    }
    assert_eq!(lines.collect::<Vec<_>>(), [abi::NOTE_NAME, abi::NOTE_SECTION]);
}

/// Fields of later minors come after those of 1.0, and nothing of 1.0 has moved or changed its size or value.
#[test]
fn the_layout_of_1_0_is_kept() {
    let layout = cc::path(FROZEN).join("layout.c");
    let (then, now) = (printed(&layout, &cc::path(FROZEN)), printed(&layout, &cc::path("include")));
    assert!(then.lines().count() > 60, "{then}");
    assert_eq!(now, then);
}

/// The header alone, and with the entry and the note that a plugin writes, in each language and in strict modes.
#[test]
fn compiles_as_c_and_cpp_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let source = "#include \"storage_plugin.h\"\n#include \"storage_plugin.h\"\n\
        STORAGE_PLUGIN_NOTE(\"example\", \"1.0.0\", \"example 1.0.0 \" __VERSION__);\n\
        const storage_descriptor *storage_plugin_entry(void) { return 0; }\n";
    let cpp = || Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    for (compiler, file, standards) in [
        (cc::cc as fn() -> Command, "plugin.c", &["c99", "c11", "gnu17"][..]),
        (cpp, "plugin.cc", &["c++11", "c++17"]),
    ] {
        let file = dir.path().join(file);
        std::fs::write(&file, source).unwrap();
        for standard in standards {
            let mut command = compiler();
            command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-Wpedantic", "-Wconversion"]);
            command.args(["-Werror", "-c", "-fPIC", "-fvisibility=hidden", "-o", "/dev/null", "-I"]);
            cc::run(command.arg(cc::path("include")).arg(&file));
        }
    }
}

/// What the macro writes is what `note::read` reads, however long the text is: a note's parts are padded.
#[test]
fn the_note_of_the_macro_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (source, library) = (dir.path().join("note.c"), dir.path().join("note.so"));
    for build in ["a", "ab", "abc", "abcd", "é, 1.0"] {
        let text = format!(
            "#include \"storage_plugin.h\"\nSTORAGE_PLUGIN_NOTE(\"example\", \"1.2.3-rc.1\", \"{build}\");\n"
        );
        std::fs::write(&source, text).unwrap();
        let flags = ["-shared", "-fPIC", "-Wl,--gc-sections", "-I"];
        cc::run(cc::cc().args(flags).arg(cc::path("include")).arg(&source).arg("-o").arg(&library));
        let note = storage_plugin::note::read(&std::fs::read(&library).unwrap()).expect("the note");
        assert_eq!(note.abi, (abi::ABI_MAJOR, abi::ABI_MINOR));
        assert_eq!(
            (&*note.name, note.version.to_string(), &*note.build),
            ("example", "1.2.3-rc.1".into(), build)
        );
    }
}
