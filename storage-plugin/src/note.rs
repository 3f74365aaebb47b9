//! The ELF note: what a plugin says about itself without being loaded.

use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::endian::Endianness;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader};
use semver::Version as Semver;
use storage_core::{Error, Result};

use crate::abi::{NOTE_NAME, NOTE_SECTION, NOTE_TYPE};

/// How long the text of a note may be, in bytes.
const MAX_TEXT: usize = 4_096;
/// How many program headers, sections and notes are looked at: far more than compilers make, and few enough that a
/// file made to take long does not.
const MAX_PARTS: usize = 4_096;

type Header = FileHeader64<Endianness>;

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The ABI that it was built for: major and minor.
    pub abi: (u16, u16),
    /// The type's name.
    pub name: String,
    /// The type's version.
    pub version: Semver,
    /// What made it, for people.
    pub build: String,
}

/// Reads the note from the bytes of a shared library.
///
/// # Errors
/// [`InvalidInput`](storage_core::ErrorKind::InvalidInput) if the file is no 64-bit ELF file, has no note or more
/// than one, or if the note lacks a key, has one twice, or has a value that is not valid. Keys that this version does
/// not know are ignored.
pub fn read(file: &[u8]) -> Result<Note> {
    let mut texts = texts(file)?;
    let text = texts.pop().ok_or_else(|| {
        Error::invalid(format!(
            "is no storage plugin: it has no note {NOTE_SECTION}; build it with `cargo xtask plugins`, or in C with \
             STORAGE_PLUGIN_NOTE"
        ))
    })?;
    if texts.iter().any(|other| *other != text) {
        return Err(Error::invalid(format!(
            "has several notes {NOTE_SECTION} that differ: a plugin has one"
        )));
    }
    parse(text)
        .map_err(|error| Error::invalid(format!("has a damaged note {NOTE_SECTION}: {}", error.message())))
}

/// The texts of all our notes; the same note may be found both in a segment and in a section.
fn texts(file: &[u8]) -> Result<Vec<&[u8]>> {
    let damaged = |error: object::read::Error| Error::invalid(format!("is no intact ELF file: {error}"));
    let header = Header::parse(file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let mut texts = Vec::new();
    for segment in header.program_headers(endian, file).map_err(damaged)?.iter().take(MAX_PARTS) {
        if segment.p_type(endian) == elf::PT_NOTE
            && let Ok(data) = ProgramHeader64::data(segment, endian, file)
        {
            collect(endian, segment.p_align(endian), data, &mut texts);
        }
    }
    // A compiler may give the section a type of its own, which makes no note segment: then the name counts.
    let sections = header.section_headers(endian, file).map_err(damaged)?;
    let names = header.shstrndx(endian, file).ok().and_then(|index| sections.get(index as usize));
    let names =
        names.and_then(|section| SectionHeader64::data(section, endian, file).ok()).unwrap_or_default();
    let is_ours = |section: &SectionHeader64<Endianness>| {
        // Compared in place: a search for the end of each name could take long in a file made for that.
        let name = names.get(section.sh_name(endian) as usize..).unwrap_or_default();
        name.strip_prefix(NOTE_SECTION.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    };
    for section in sections.iter().take(MAX_PARTS) {
        if is_ours(section)
            && let Ok(data) = SectionHeader64::data(section, endian, file)
        {
            collect(endian, section.sh_addralign(endian), data, &mut texts);
        }
    }
    Ok(texts)
}

fn collect<'file>(endian: Endianness, align: u64, data: &'file [u8], texts: &mut Vec<&'file [u8]>) {
    let Ok(notes) = NoteIterator::<Header>::new(endian, align, data) else { return };
    let ours = notes
        .take(MAX_PARTS)
        .map_while(|note| note.ok())
        .filter(|note| note.name() == NOTE_NAME.as_bytes() && note.n_type(endian).0 == NOTE_TYPE);
    // One byte more than allowed is enough to see that it is too long.
    texts.extend(ours.map(|note| &note.desc()[..note.desc().len().min(MAX_TEXT + 1)]));
    texts.truncate(MAX_PARTS);
}

fn parse(text: &[u8]) -> Result<Note> {
    if text.len() > MAX_TEXT {
        return Err(Error::invalid(format!("its text is longer than {MAX_TEXT} bytes")));
    }
    let text = str::from_utf8(text).map_err(|_| Error::invalid("its text is not UTF-8"))?;
    let (mut abi, mut name, mut version, mut build) = (None, None, None, None);
    for line in text.lines() {
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| Error::invalid(format!("{line:?} is not of the form key=value")))?;
        let place = match key {
            "abi" => &mut abi,
            "name" => &mut name,
            "version" => &mut version,
            "build" => &mut build,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(Error::invalid(format!("{key} stands there twice")));
        }
    }
    let required = |key: &str, value: Option<&str>| match value {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(Error::invalid(format!("it does not say {key}="))),
    };
    let (abi, version) = (required("abi", abi)?, required("version", version)?);
    let name = required("name", name)?;
    if !is_type_name(&name) {
        return Err(Error::invalid(format!(
            "name {name:?} begins with a-z and has at most 32 characters of a-z 0-9 -"
        )));
    }
    Ok(Note {
        abi: parse_abi(&abi)
            .ok_or_else(|| Error::invalid(format!("abi {abi:?} is not of the form major.minor")))?,
        version: Semver::parse(&version).map_err(|error| {
            Error::invalid(format!("version {version:?} is not a semantic version: {error}"))
        })?,
        name,
        build: required("build", build)?,
    })
}

fn parse_abi(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    Some((number(major)?, number(minor)?))
}

fn is_type_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_strictly_but_for_unknown_keys() {
        let note = parse(b"abi=1.0\nname=example\nfuture=x\nversion=1.2.3-rc.1\nbuild=by=hand\n").unwrap();
        let version = Semver::parse("1.2.3-rc.1").unwrap();
        let expected = Note { abi: (1, 0), name: "example".into(), version, build: "by=hand".into() };
        assert_eq!(note, expected);

        for (text, says) in [
            ("", "abi="),
            ("abi=1.0\nname=a\nversion=1.0.0\n", "build="),
            ("abi=1.0\nname=\nversion=1.0.0\nbuild=b", "name="),
            ("abi=1.0\nname=a\nname=a\n", "twice"),
            ("abi=1\nname=a\nversion=1.0.0\nbuild=b", "major.minor"),
            ("abi=+1.0\nname=a\nversion=1.0.0\nbuild=b", "major.minor"),
            ("abi=1.99999\nname=a\nversion=1.0.0\nbuild=b", "major.minor"),
            ("abi=1.0\nname=A\nversion=1.0.0\nbuild=b", "a-z"),
            ("abi=1.0\nname=../a\nversion=1.0.0\nbuild=b", "a-z"),
            ("abi=1.0\nname=a\nversion=1\nbuild=b", "semantic version"),
            ("abi=1.0\n\nname=a", "key=value"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.message().contains(says), "{text:?}: {error}");
        }
        assert!(parse(&[b'a', b'b', b'i', b'=', 0xff]).unwrap_err().message().contains("UTF-8"));
        assert!(parse(&[b'\n'; MAX_TEXT + 1]).unwrap_err().message().contains("4096"));
    }

    #[test]
    fn what_is_no_library_is_refused() {
        for file in [&b""[..], b"text", b"\x7fELF", &[0; 4_096]] {
            assert!(read(file).unwrap_err().message().contains("no intact ELF file"));
        }
    }
}
