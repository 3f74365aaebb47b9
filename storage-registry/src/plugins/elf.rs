//! What the headers of a shared library say: whether the system's loader can be trusted with it.

use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::endian::Endianness;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use serde::Serialize;
use storage_plugin::abi::ENTRY;

use super::{MajorMinor, Problem, ProblemKind, image};

type Header = FileHeader64<Endianness>;

/// How many entries of each table are looked at: far more than compilers make, and few enough that a file made to
/// take long does not.
pub(super) const MAX_ENTRIES: usize = 65_536;
/// How long the name of a needed library or version may be.
const MAX_NAME: usize = 255;

/// What the headers of a shared library say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ElfFacts {
    /// The processor, as targets of Rust name it, such as `x86_64`; otherwise `machine` and its number.
    pub machine: String,
    /// Whether its numbers are little-endian.
    pub little_endian: bool,
    /// Whether it has the entry symbol of plugins.
    pub entry: bool,
    /// The lowest glibc that has everything that it asks of glibc; none if it asks for nothing by version.
    pub glibc: Option<MajorMinor>,
    /// The libraries that it needs, such as `libc.so.6`.
    pub needed: Vec<String>,
}

/// The target of this program without its vendor's peculiarities, such as `x86_64-unknown-linux-gnu`.
pub fn host_target() -> String {
    let env = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-unknown-linux-{env}", host_machine())
}

/// The processor of this program, as [`ElfFacts::machine`] names it.
fn host_machine() -> &'static str {
    match std::env::consts::ARCH {
        "riscv64" => "riscv64gc",
        arch => arch,
    }
}

impl ElfFacts {
    /// Reads the headers.
    ///
    /// # Errors
    /// [`NotALibrary`](ProblemKind::NotALibrary) if it is no 64-bit ELF shared library, or if anything that the headers
    /// promise lies outside of the file, as in one that was cut off, or by its tables outside of the library in memory.
    pub(super) fn read(file: &[u8]) -> Result<Self, Problem> {
        let (header, endian) = header(file)?;
        let segments = header.program_headers(endian, file).map_err(damaged)?;
        let sections = header.section_headers(endian, file).map_err(damaged)?;
        if segments.len().max(sections.len()) > MAX_ENTRIES {
            return Err(wrong(format!("it has more than {MAX_ENTRIES} segments or sections")));
        }
        check_segments(segments, endian, file)?;
        check_sections(sections, endian, file)?;
        let tables = Tables { sections, endian, file };
        image::check(header.e_machine(endian), segments, sections, tables.symbols()?, endian, file)?;
        Ok(Self {
            machine: machine(header.e_machine(endian)),
            little_endian: header.is_little_endian(),
            entry: tables.exports(ENTRY)?,
            glibc: tables.glibc()?,
            needed: tables.needed()?,
        })
    }

    /// The target that it is for.
    pub(super) fn target(&self) -> String {
        let musl = self.needed.iter().any(|name| name == "libc.so" || name.starts_with("libc.musl"));
        format!("{}-unknown-linux-{}", self.machine, if musl { "musl" } else { "gnu" })
    }

    /// What keeps it from being loaded into this process.
    pub(super) fn check_host(&self) -> Result<(), Problem> {
        if self.machine != host_machine() || self.little_endian != cfg!(target_endian = "little") {
            return Err(Problem::new(
                ProblemKind::Incompatible,
                format!(
                    "it is for {}, and this program for {}: build it for that",
                    self.machine,
                    host_machine()
                ),
            ));
        }
        if !self.entry {
            return Err(Problem::new(
                ProblemKind::NotAPlugin,
                format!(
                    "it does not export {ENTRY}: build it with `cargo xtask plugins`, or see storage_plugin.h"
                ),
            ));
        }
        check_glibc(self.glibc)
    }
}

/// Whether this process has a glibc as new as `wanted`.
pub(super) fn check_glibc(wanted: Option<MajorMinor>) -> Result<(), Problem> {
    let Some(wanted) = wanted else { return Ok(()) };
    let here = storage_plugin::host::glibc_version().map(|(major, minor)| MajorMinor { major, minor });
    match here {
        Some(here) if wanted <= here => Ok(()),
        Some(here) => Err(Problem::new(
            ProblemKind::Incompatible,
            format!(
                "it needs glibc {wanted}, and this system has {here}: build it on a system as old as this one"
            ),
        )),
        None => Err(Problem::new(
            ProblemKind::Incompatible,
            format!("it needs glibc {wanted}, and this program runs with another C library"),
        )),
    }
}

fn header(file: &[u8]) -> Result<(&Header, Endianness), Problem> {
    if file.is_empty() {
        return Err(wrong("the file is empty"));
    }
    if !file.starts_with(&elf::ELFMAG) {
        return Err(wrong("it does not begin as an ELF file does"));
    }
    if file.get(4) == Some(&elf::ELFCLASS32.0) {
        return Err(wrong("it is for 32-bit systems: plugins are 64-bit"));
    }
    let header = Header::parse(file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    match header.e_type(endian) {
        elf::ET_DYN => Ok((header, endian)),
        elf::ET_REL => Err(wrong("it is an object file: link it with -shared")),
        elf::ET_EXEC => Err(wrong("it is a program")),
        _ => Err(wrong("it is an ELF file of another type")),
    }
}

/// The loader maps segments without a look at the size of the file; touching what is missing is a SIGBUS.
fn check_segments(
    segments: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Problem> {
    let mut loaded = false;
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        check_range("a segment", offset, size, file)?;
        if segment.p_type(endian) == elf::PT_LOAD {
            loaded = true;
            if size > segment.p_memsz(endian) {
                return Err(wrong("a segment is larger in the file than in memory"));
            }
        }
    }
    if loaded { Ok(()) } else { Err(wrong("it has nothing to load")) }
}

fn check_sections(
    sections: &[SectionHeader64<Endianness>],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Problem> {
    // The first section is none; its fields hold counts that did not fit elsewhere.
    for section in sections.iter().skip(1) {
        if section.sh_type(endian) != elf::SHT_NOBITS {
            check_range("a section", section.sh_offset(endian), section.sh_size(endian), file)?;
        }
    }
    Ok(())
}

fn check_range(what: &str, offset: u64, size: u64, file: &[u8]) -> Result<(), Problem> {
    let end = offset.checked_add(size);
    if end.is_some_and(|end| end <= file.len() as u64) {
        return Ok(());
    }
    Err(wrong(format!(
        "{what} ends outside of the file, which has {} bytes: it was cut off or damaged; copy it again",
        file.len()
    )))
}

/// The tables that the dynamic linker works with.
struct Tables<'file> {
    sections: &'file [SectionHeader64<Endianness>],
    endian: Endianness,
    file: &'file [u8],
}

impl<'file> Tables<'file> {
    /// The section of a kind of which a library has one.
    fn section(&self, kind: elf::SectionType) -> Option<&'file SectionHeader64<Endianness>> {
        self.sections.iter().find(|section| section.sh_type(self.endian) == kind)
    }

    /// The string table that goes with a section.
    fn strings(&self, section: &SectionHeader64<Endianness>) -> Result<&'file [u8], Problem> {
        let strings = self.sections.get(section.sh_link(self.endian) as usize);
        let strings = strings.ok_or_else(|| wrong("a table of names is missing"))?;
        strings.data(self.endian, self.file).map_err(damaged)
    }

    /// What the library offers to others and asks of them.
    fn symbols(&self) -> Result<&'file [elf::Sym64<Endianness>], Problem> {
        let Some(section) = self.section(elf::SHT_DYNSYM) else { return Ok(&[]) };
        section.data_as_array(self.endian, self.file).map_err(damaged)
    }

    /// Whether a function of this name is there for others.
    fn exports(&self, name: &str) -> Result<bool, Problem> {
        let Some(section) = self.section(elf::SHT_DYNSYM) else { return Ok(false) };
        let strings = self.strings(section)?;
        Ok(self.symbols()?.iter().any(|symbol| {
            symbol.st_shndx(self.endian) != elf::SHN_UNDEF
                && matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK)
                && matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC)
                && is_at(strings, symbol.st_name(self.endian), name)
        }))
    }

    fn glibc(&self) -> Result<Option<MajorMinor>, Problem> {
        let Some(section) = self.section(elf::SHT_GNU_VERNEED) else { return Ok(None) };
        let strings = self.strings(section)?;
        let needs = section.gnu_verneed(self.endian, self.file).map_err(damaged)?;
        let mut highest = None;
        let mut seen = 0;
        for need in needs.into_iter().flat_map(|(needs, _)| needs) {
            let (_, versions) = need.map_err(damaged)?;
            for version in versions {
                let version = version.map_err(damaged)?;
                seen += 1;
                if seen > MAX_ENTRIES {
                    return Err(wrong(format!("it needs more than {MAX_ENTRIES} versions of symbols")));
                }
                highest = highest.max(glibc_of(name_at(strings, version.vna_name.get(self.endian))?));
            }
        }
        Ok(highest)
    }

    fn needed(&self) -> Result<Vec<String>, Problem> {
        let Some(section) = self.section(elf::SHT_DYNAMIC) else { return Ok(Vec::new()) };
        let strings = self.strings(section)?;
        let entries: &[elf::Dyn64<Endianness>] =
            section.data_as_array(self.endian, self.file).map_err(damaged)?;
        let entries = entries.iter().take(MAX_ENTRIES);
        let entries = entries.take_while(|entry| entry.tag(self.endian) != elf::DT_NULL);
        let needed = entries.filter(|entry| entry.tag(self.endian) == elf::DT_NEEDED);
        let name = |entry: &elf::Dyn64<Endianness>| {
            let offset = entry.val32(self.endian).ok_or_else(misfit)?;
            name_at(strings, offset).map(str::to_owned)
        };
        needed.map(name).collect()
    }
}

/// Names are compared in place and read up to a limit: in a file made for that, the end of each may be far away.
fn is_at(strings: &[u8], offset: u32, name: &str) -> bool {
    let there = strings.get(offset as usize..).unwrap_or_default();
    there.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

fn name_at(strings: &[u8], offset: u32) -> Result<&str, Problem> {
    let there = strings.get(offset as usize..).unwrap_or_default();
    let there = &there[..there.len().min(MAX_NAME + 1)];
    let name = there.split(|byte| *byte == 0).next().filter(|name| name.len() < there.len());
    name.and_then(|name| str::from_utf8(name).ok()).ok_or_else(|| wrong("a name is not valid"))
}

/// `GLIBC_2.34` and `GLIBC_2.2.5` are versions; `GLIBC_PRIVATE` and `GLIBC_ABI_DT_RELR` are not.
fn glibc_of(version: &str) -> Option<MajorMinor> {
    let mut parts = version.strip_prefix("GLIBC_")?.split('.');
    let mut number = || parts.next()?.parse().ok();
    Some(MajorMinor { major: number()?, minor: number()? })
}

fn machine(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_RISCV => "riscv64gc".to_owned(),
        elf::EM_PPC64 => "powerpc64".to_owned(),
        elf::EM_S390 => "s390x".to_owned(),
        elf::EM_LOONGARCH => "loongarch64".to_owned(),
        other => format!("machine {}", other.0),
    }
}

fn damaged(error: object::read::Error) -> Problem {
    wrong(format!("its headers are damaged: {error}"))
}

fn misfit() -> Problem {
    wrong("a table does not lie where its header says")
}

pub(super) fn wrong(what: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::NotALibrary, format!("it is no intact shared library: {}", what.into()))
}
