//! Where a library lies in memory, and what the system's loader does there on its word.
//!
//! The loader believes what it reads: by a damaged table it writes into whatever lies beside the library. A trial does
//! not show that for certain, as something else lies there in another process.

use object::elf::{self, Dyn64, DynamicTag, ProgramHeader64, Rela64, SectionHeader64, Sym64};
use object::endian::Endianness;
use object::pod::slice_from_all_bytes;
use object::read::elf::{Dyn, ProgramHeader, Sym};

use super::elf::{MAX_ENTRIES, wrong};
use super::{Problem, symbols};

/// The largest page of a system that plugins are for, in bytes; linkers pad to it.
const MAX_PAGE: u64 = 1 << 16;
/// What a relocation writes, in bytes.
const WORD: u64 = 8;

/// Tables with their lengths in bytes.
const TABLES: [(DynamicTag, DynamicTag); 6] = [
    (elf::DT_RELA, elf::DT_RELASZ),
    (elf::DT_JMPREL, elf::DT_PLTRELSZ),
    (elf::DT_RELR, elf::DT_RELRSZ),
    (elf::DT_STRTAB, elf::DT_STRSZ),
    (elf::DT_INIT_ARRAY, elf::DT_INIT_ARRAYSZ),
    (elf::DT_FINI_ARRAY, elf::DT_FINI_ARRAYSZ),
];
/// Tables that end where their content says, and functions.
const PLACES: [DynamicTag; 9] = [
    elf::DT_SYMTAB,
    elf::DT_HASH,
    elf::DT_GNU_HASH,
    elf::DT_VERSYM,
    elf::DT_VERNEED,
    elf::DT_VERDEF,
    elf::DT_PLTGOT,
    elf::DT_INIT,
    elf::DT_FINI,
];

/// Refuses a library by which the loader would touch memory that is not the library's. `symbols` are those that
/// relocations refer to.
pub(super) fn check(
    machine: elf::Machine,
    segments: &[ProgramHeader64<Endianness>],
    sections: &[SectionHeader64<Endianness>],
    symbols: &[Sym64<Endianness>],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Problem> {
    let image = Image::new(segments, endian, file)?;
    let mut dynamic = None;
    for segment in segments {
        let (address, size) = (segment.p_vaddr(endian), segment.p_memsz(endian));
        match segment.p_type(endian) {
            elf::PT_DYNAMIC => dynamic = Some(image.bytes(address, segment.p_filesz(endian))?),
            elf::PT_TLS => drop(image.bytes(address, segment.p_filesz(endian))?),
            // From then on it can only be read.
            elf::PT_GNU_RELRO => image.check_place(address, size, MAX_PAGE)?,
            _ => {}
        }
    }
    let dynamic = Dynamic::new(dynamic.ok_or_else(|| wrong("it has no table for the loader"))?, endian)?;
    for (table, size) in TABLES {
        image.table(&dynamic, table, size)?;
    }
    for place in PLACES.into_iter().filter_map(|tag| dynamic.value(tag)) {
        image.check_place(place, 1, 0)?;
    }
    symbols::check(&image, &dynamic, sections, endian, file)?;
    for symbol in symbols {
        let is_place = symbol.st_type() != elf::STT_TLS
            && !matches!(symbol.st_shndx(endian), elf::SHN_UNDEF | elf::SHN_ABS);
        if is_place {
            image.check_place(symbol.st_value(endian), 0, 0)?;
        }
    }
    for (table, size) in &TABLES[..2] {
        let relocations: &[Rela64<Endianness>] = entries(image.table(&dynamic, *table, *size)?)?;
        for relocation in relocations {
            image.check_relocation(machine, relocation, symbols.len())?;
        }
    }
    image.check_packed(entries(image.table(&dynamic, elf::DT_RELR, elf::DT_RELRSZ)?)?)
}

/// The library as it lies in memory, by addresses from its beginning on.
pub(super) struct Image<'file> {
    parts: Vec<Part<'file>>,
    endian: Endianness,
}

struct Part<'file> {
    start: u64,
    end: u64,
    /// What of it comes from the file; the rest is zero.
    bytes: &'file [u8],
    writable: bool,
}

impl<'file> Image<'file> {
    fn new(
        segments: &[ProgramHeader64<Endianness>],
        endian: Endianness,
        file: &'file [u8],
    ) -> Result<Self, Problem> {
        let mut parts: Vec<Part<'file>> = Vec::new();
        for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD) {
            let start = segment.p_vaddr(endian);
            let end = start.checked_add(segment.p_memsz(endian)).ok_or_else(outside)?;
            // Room is made for the first to the last, and each is put in its place whatever is there.
            if parts.last().is_some_and(|last| start < last.end) {
                return Err(wrong("its segments lie over each other in memory"));
            }
            let bytes = segment.data(endian, file).map_err(|()| outside())?;
            let writable = segment.p_flags(endian).contains(elf::PF_W);
            parts.push(Part { start, end, bytes, writable });
        }
        Ok(Self { parts, endian })
    }

    fn part_at(&self, address: u64) -> Result<&Part<'file>, Problem> {
        // They are in order, and may be as many as a hostile file has room for.
        let after = self.parts.partition_point(|part| part.start <= address);
        let part = after.checked_sub(1).and_then(|at| self.parts.get(at));
        part.filter(|part| address < part.end).ok_or_else(outside)
    }

    /// What the file puts at a place in memory.
    pub(super) fn bytes(&self, address: u64, size: u64) -> Result<&'file [u8], Problem> {
        let part = self.part_at(address)?;
        let from = usize::try_from(address - part.start).map_err(|_| outside())?;
        let size = usize::try_from(size).map_err(|_| outside())?;
        part.bytes.get(from..).and_then(|bytes| bytes.get(..size)).ok_or_else(outside)
    }

    /// A table that the loader goes by; one that is not there is empty.
    fn table(
        &self,
        dynamic: &Dynamic<'_>,
        tag: DynamicTag,
        size: DynamicTag,
    ) -> Result<&'file [u8], Problem> {
        match (dynamic.value(tag), dynamic.value(size)) {
            (Some(_), Some(0)) | (None, _) => Ok(&[]),
            (Some(address), size) => self.bytes(address, size.unwrap_or(1)),
        }
    }

    /// Whether all of a place is between the beginning of the library and its end, or at most `padding` behind it.
    fn check_place(&self, address: u64, size: u64, padding: u64) -> Result<(), Problem> {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return Err(outside());
        };
        match address.checked_add(size) {
            Some(end) if address >= first.start && end <= last.end.saturating_add(padding) => Ok(()),
            _ => Err(outside()),
        }
    }

    fn check_written(&self, address: u64) -> Result<(), Problem> {
        let part = self.part_at(address)?;
        if part.writable && part.end - address >= WORD { Ok(()) } else { Err(outside()) }
    }

    fn check_relocation(
        &self,
        machine: elf::Machine,
        relocation: &Rela64<Endianness>,
        symbols: usize,
    ) -> Result<(), Problem> {
        let kind = relocation.r_type(self.endian, false);
        // It stands for one that the linker has removed; the number is the same for all.
        if kind == elf::R_X86_64_NONE {
            return Ok(());
        }
        self.check_written(relocation.r_offset.get(self.endian))?;
        if relocation.r_sym(self.endian, false) as usize >= symbols.max(1) {
            return Err(wrong("a table refers to a symbol that is not there"));
        }
        let points_inside = match machine {
            elf::EM_X86_64 => matches!(kind, elf::R_X86_64_RELATIVE | elf::R_X86_64_IRELATIVE),
            elf::EM_AARCH64 => matches!(kind, elf::R_AARCH64_RELATIVE | elf::R_AARCH64_IRELATIVE),
            _ => false,
        };
        if points_inside {
            let to = relocation.r_addend.get(self.endian);
            self.check_place(u64::try_from(to).map_err(|_| outside())?, 0, 0)?;
        }
        Ok(())
    }

    /// Relative relocations as addresses, and as bits for the 63 words after those.
    fn check_packed(&self, words: &[object::U64<Endianness>]) -> Result<(), Problem> {
        let mut next: u64 = 0;
        for word in words.iter().map(|word| word.get(self.endian)) {
            if word & 1 == 0 {
                self.check_written(word)?;
                next = word.saturating_add(WORD);
                continue;
            }
            for bit in (1..u64::from(u64::BITS)).filter(|bit| word >> bit & 1 == 1) {
                self.check_written(next.saturating_add((bit - 1) * WORD))?;
            }
            next = next.saturating_add(u64::from(u64::BITS - 1) * WORD);
        }
        Ok(())
    }
}

/// The table of tables that the loader goes by.
pub(super) struct Dynamic<'file> {
    entries: &'file [Dyn64<Endianness>],
    endian: Endianness,
}

impl<'file> Dynamic<'file> {
    fn new(bytes: &'file [u8], endian: Endianness) -> Result<Self, Problem> {
        let all: &[Dyn64<Endianness>] = entries(bytes)?;
        let end = all.iter().take(MAX_ENTRIES).position(|entry| entry.tag(endian) == elf::DT_NULL);
        let end = end.ok_or_else(|| wrong("the table for the loader has no end"))?;
        Ok(Self { entries: &all[..end], endian })
    }

    /// Of several, the loader takes the last.
    pub(super) fn value(&self, tag: DynamicTag) -> Option<u64> {
        self.values(&[tag]).last()
    }

    /// All values of these tags.
    pub(super) fn values(&self, tags: &[DynamicTag]) -> impl Iterator<Item = u64> {
        let found = self.entries.iter().filter(|entry| tags.contains(&entry.tag(self.endian)));
        found.map(|entry| entry.val(self.endian))
    }
}

fn entries<T: object::pod::Pod>(bytes: &[u8]) -> Result<&[T], Problem> {
    slice_from_all_bytes(bytes).map_err(|()| wrong("a table for the loader ends within an entry"))
}

fn outside() -> Problem {
    wrong("by its tables, the loader would reach outside of it: it was damaged; copy it again")
}
