//! Bare libraries, whole and damaged.

use std::fs;
use std::os::unix::fs::symlink;

use storage_registry::plugins::{Keyring, MajorMinor, Package, ProblemKind, inspect};

use crate::support::{compile, library, verify_bytes};

#[test]
fn a_good_library_passes() {
    let verified = verify_bytes(library()).unwrap();
    assert_eq!((verified.note.name.as_str(), verified.note.abi), ("example", (1, 0)));
    assert_eq!(
        (verified.note.version.to_string().as_str(), verified.note.build.as_str()),
        ("1.2.3", "by hand")
    );
    assert!(verified.elf.entry);
    assert_eq!(verified.elf.machine, std::env::consts::ARCH);
    assert!(verified.elf.needed.contains(&"libc.so.6".to_owned()), "{:?}", verified.elf.needed);
    assert!(verified.elf.glibc.is_some_and(|glibc| glibc >= MajorMinor { major: 2, minor: 2 }));
}

#[test]
fn what_is_no_library_is_refused() {
    for (bytes, says) in [
        (&b""[..], "empty"),
        (b"just text\n", "does not begin as an ELF file"),
        (b"\x7fELF", "headers are damaged"),
        (&[0; 8_192], "does not begin as an ELF file"),
    ] {
        let problem = verify_bytes(bytes).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::NotALibrary);
        assert!(problem.message.contains(says) && problem.message.contains("plugin.so"), "{problem}");
    }
}

#[test]
fn a_library_cut_off_anywhere_is_refused() {
    let whole = library();
    let tenths = (1..10).map(|tenth| whole.len() * tenth / 10);
    for length in tenths.chain([1, 15, 63, 64, whole.len() - 1]) {
        let problem = verify_bytes(&whole[..length]).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::NotALibrary, "{length} bytes: {problem}");
    }
}

#[test]
fn the_end_of_each_segment_counts_even_without_sections() {
    let mut bytes = library().to_vec();
    // No section headers: e_shoff, e_shnum and e_shstrndx are 0.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    let length = bytes.len() / 2;
    let problem = verify_bytes(&bytes[..length]).unwrap_err();
    assert!(problem.message.contains("a segment ends outside of the file"), "{problem}");
}

#[test]
fn the_header_decides_whom_it_is_for() {
    let patched = |offset: usize, value: u8| {
        let mut bytes = library().to_vec();
        bytes[offset] = value;
        verify_bytes(&bytes).unwrap_err()
    };
    assert!(patched(4, 1).message.contains("32-bit"));
    assert_eq!(patched(16, 2).kind, ProblemKind::NotALibrary, "a program");
    assert!(patched(16, 1).message.contains("-shared"), "an object file");
    let foreign = if std::env::consts::ARCH == "aarch64" { 62 } else { 183 };
    let problem = patched(18, foreign);
    assert_eq!(problem.kind, ProblemKind::Incompatible);
    assert!(problem.message.contains(std::env::consts::ARCH), "{problem}");
    // Read as big-endian, nothing of it fits.
    patched(5, 2);
}

/// The loader would follow them to wherever they lead.
#[test]
fn tables_that_lead_out_of_the_library_are_refused() {
    const DYNAMIC: u32 = 6;
    const RELOCATIONS: u32 = 4;
    const SYMBOLS: u32 = 11;
    const NAMES: u32 = 3;
    const HASH: u32 = 0x6fff_fff6;
    const VERSIONS: u32 = 0x6fff_ffff;
    const NEEDED_VERSIONS: u32 = 0x6fff_fffe;
    const SYMBOL_TABLE: u64 = 6;

    let number = |at: usize| u64::from_le_bytes(library()[at..at + 8].try_into().unwrap());
    let place = |at: usize| usize::try_from(number(at)).unwrap();
    // The first section of a kind.
    let section = |kind: u32| {
        let mut headers = (0..usize::from(library()[60])).map(|index| place(40) + 64 * index);
        let header = headers.find(|at| library()[at + 4..at + 8] == kind.to_le_bytes()).unwrap();
        place(header + 24)..place(header + 24) + place(header + 32)
    };
    let entry = |tag: u64| section(DYNAMIC).step_by(16).find(|at| number(*at) == tag).unwrap();
    let hash_end = section(HASH).end;
    for (at, bytes, says) in [
        (section(RELOCATIONS).start, &[0xff; 4][..], "reach outside"),
        // Code, which is not written to.
        (section(RELOCATIONS).start, &[0, 0x10, 0, 0], "reach outside"),
        (section(RELOCATIONS).end - 12, &[0xff, 0xff], "a symbol that is not there"),
        (section(RELOCATIONS).start + 16, &[0xff; 4], "reach outside"),
        (entry(SYMBOL_TABLE) + 8, &[1], "lead astray"),
        (section(SYMBOLS).end - 24, &[0xff; 4], "lead astray"),
        (section(SYMBOLS).end - 16, &[0xff; 4], "reach outside"),
        (section(NAMES).end - 1, b"x", "lead astray"),
        (section(VERSIONS).end - 2, &[0x00, 0x70], "lead astray"),
        (section(NEEDED_VERSIONS).start + 4, &[0xff; 4], "lead astray"),
        (section(NEEDED_VERSIONS).start + 8, &[0xff; 4], "lead astray"),
        // The end of the last chain.
        (hash_end - 4, &[library()[hash_end - 4] & !1], "lead astray"),
    ] {
        let mut damaged = library().to_vec();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        let problem = verify_bytes(&damaged).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::NotALibrary);
        assert!(problem.message.contains(says), "{at:#x}: {problem}");
    }
}

/// Each byte of the headers and first tables, and a sample of the rest, is changed: that is refused or not, but never a
/// panic, and never slow.
#[test]
fn flipped_bytes_do_no_harm() {
    let whole = library();
    let started = std::time::Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.so");
    for seed in 0..2_500_usize {
        let mut bytes = whole.to_vec();
        let at = if seed < 1_500 { seed } else { seed.wrapping_mul(2_654_435_761) % bytes.len() };
        bytes[at] ^= 1 << (seed % 8);
        bytes[(at * 7 + seed) % whole.len()] = 0xff;
        fs::write(&path, &bytes).unwrap();
        let _ = inspect(&path, &Keyring::default()).unwrap();
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// Tables that all lie over each other and promise as much as they can.
#[test]
fn a_library_made_to_take_long_does_not() {
    let mut bytes = library().to_vec();
    let section_headers = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let count = usize::from(u16::from_le_bytes(bytes[60..62].try_into().unwrap()));
    bytes.resize(section_headers, 0);
    let padding = vec![1; 8 << 20];
    let whole = (section_headers + padding.len()) as u64;
    let original = library()[section_headers..][..64 * count].to_vec();
    bytes.extend(&padding);
    for header in original.chunks_exact(64) {
        let mut header = header.to_vec();
        let is_bits = u32::from_le_bytes(header[4..8].try_into().unwrap()) != 8;
        if is_bits {
            header[24..32].copy_from_slice(&64_u64.to_le_bytes());
            header[32..40].copy_from_slice(&((whole - 64) / 24 * 24).to_le_bytes());
        }
        bytes.extend(header);
    }
    bytes[40..48].copy_from_slice(&whole.to_le_bytes());
    let started = std::time::Instant::now();
    let _ = verify_bytes(&bytes);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn what_a_plugin_needs_has_to_be_there() {
    let problem = verify_bytes(&compile(&["-DNO_NOTE"])).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotAPlugin);
    assert!(problem.message.contains("STORAGE_PLUGIN_NOTE"), "{problem}");

    let problem = verify_bytes(&compile(&["-DNO_ENTRY"])).unwrap_err();
    assert_eq!(problem.kind, ProblemKind::NotAPlugin);
    assert!(problem.message.contains("storage_plugin_entry"), "{problem}");

    let problem = verify_bytes(&compile(&["-DNOTE_VERSION=\"one\""])).unwrap_err();
    assert!(problem.message.contains("semantic version"), "{problem}");
}

/// The version of the C library and of the ABI are changed where they stand.
#[test]
fn versions_of_the_host_count() {
    let replaced = |from: &[u8], to: &[u8]| {
        let mut bytes = library().to_vec();
        let places: Vec<_> =
            bytes.windows(from.len()).enumerate().filter(|(_, here)| *here == from).collect();
        let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        verify_bytes(&bytes)
    };
    let problem = replaced(b"abi=1.0", b"abi=2.0").unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Incompatible);
    assert!(problem.message.contains("plugin ABI 2.0"), "{problem}");
    assert_eq!(replaced(b"abi=1.0", b"abi=1.7").unwrap().note.abi, (1, 7), "a newer minor is fine");

    let problem = replaced(b"GLIBC_2.", b"GLIBC_9.").unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Incompatible);
    assert!(problem.message.contains("needs glibc 9."), "{problem}");
}

#[test]
fn only_regular_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("real.so"), library()).unwrap();
    symlink("real.so", dir.path().join("link.so")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe.so"), rustix::fs::Mode::RUSR).unwrap();

    assert!(Package::read_in(dir.path(), "real.so").is_ok());
    let problem = Package::read_in(dir.path(), "link.so").unwrap_err();
    assert_eq!(problem.kind, ProblemKind::Unreadable);
    assert!(problem.message.contains("symbolic link"), "{problem}");
    assert!(Package::read(&dir.path().join("link.so")).is_ok(), "a person may name a link");

    let problem = Package::read_in(dir.path(), "pipe.so").unwrap_err();
    assert!(problem.message.contains("not a regular file"), "{problem}");
    assert_eq!(Package::read_in(dir.path(), "none.so").unwrap_err().kind, ProblemKind::Missing);
    assert_eq!(Package::read_in(dir.path(), "../real.so").unwrap_err().kind, ProblemKind::Unreadable);
    let problem = Package::read(dir.path()).unwrap_err();
    assert!(problem.message.contains("has no plugin.toml"), "{problem}");
}

#[test]
fn an_inspection_lists_every_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.so");
    fs::write(&path, compile(&["-DNO_NOTE", "-DNO_ENTRY"])).unwrap();
    let kinds: Vec<_> =
        inspect(&path, &Keyring::default()).unwrap().problems.iter().map(|p| p.kind).collect();
    assert_eq!(kinds, [ProblemKind::Unsigned, ProblemKind::NotAPlugin, ProblemKind::NotAPlugin]);

    assert!(inspect(&dir.path().join("none"), &Keyring::default()).is_err());
    let json = serde_json::to_value(inspect(dir.path(), &Keyring::default()).unwrap()).unwrap();
    assert_eq!(json["problems"][0]["kind"], "missing");

    fs::write(&path, library()).unwrap();
    let json = serde_json::to_value(inspect(&path, &Keyring::default()).unwrap()).unwrap();
    assert_eq!(
        json["note"],
        serde_json::json!({"abi": "1.0", "name": "example", "version": "1.2.3", "build": "by hand"})
    );
    assert_eq!(json["signature"], serde_json::json!({"state": "unsigned"}));
    assert_eq!(json["size"], library().len());
}
