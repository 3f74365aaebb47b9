//! The tables by which the system's loader finds symbols. It follows them wherever they lead: see [`image`](super::image).

use object::elf::{
    self, DynamicTag, SectionHeader64, SectionType, Sym64, Verdaux, Verdef, Vernaux, Verneed, Versym,
};
use object::endian::{Endianness, U32};
use object::pod::{Pod, from_bytes, slice_from_all_bytes, slice_from_bytes};
use object::read::elf::{SectionHeader, Sym};

use super::Problem;
use super::elf::{MAX_ENTRIES, wrong};
use super::image::{Dynamic, Image};

/// What stands in the table of sections, by which it is checked, and in that of the loader.
const SAME: [(SectionType, DynamicTag); 6] = [
    (elf::SHT_DYNSYM, elf::DT_SYMTAB),
    (elf::SHT_HASH, elf::DT_HASH),
    (elf::SHT_GNU_HASH, elf::DT_GNU_HASH),
    (elf::SHT_GNU_VERSYM, elf::DT_VERSYM),
    (elf::SHT_GNU_VERNEED, elf::DT_VERNEED),
    (elf::SHT_GNU_VERDEF, elf::DT_VERDEF),
];
/// What is named by the table of the loader.
const NAMES: [DynamicTag; 4] = [elf::DT_NEEDED, elf::DT_SONAME, elf::DT_RPATH, elf::DT_RUNPATH];

/// Refuses a library by whose tables of symbols the loader would go astray.
pub(super) fn check(
    image: &Image<'_>,
    dynamic: &Dynamic<'_>,
    sections: &[SectionHeader64<Endianness>],
    endian: Endianness,
    file: &[u8],
) -> Result<(), Problem> {
    let data = |section: &SectionHeader64<Endianness>| section.data(endian, file).map_err(|_| astray());
    let find = |kind| sections.iter().find(|section| section.sh_type(endian) == kind);
    let loaded_from = |section: &SectionHeader64<Endianness>, address: u64| {
        let loaded = image.bytes(address, section.sh_size(endian))?;
        if std::ptr::eq(loaded, data(section)?) { Ok(()) } else { Err(astray()) }
    };
    for (kind, tag) in SAME {
        match (find(kind), dynamic.value(tag)) {
            (Some(section), Some(address)) => loaded_from(section, address)?,
            (None, None) => {}
            _ => return Err(astray()),
        }
    }
    let table = |kind| find(kind).map(data).transpose();
    let Some(section) = find(elf::SHT_DYNSYM) else { return Ok(()) };
    let strings = sections.get(section.sh_link(endian) as usize).ok_or_else(astray)?;
    loaded_from(strings, dynamic.value(elf::DT_STRTAB).ok_or_else(astray)?)?;
    let symbols: &[Sym64<Endianness>] = slice_from_all_bytes(data(section)?).map_err(|()| astray())?;
    let names = Names::new(data(strings)?)?;
    symbols.iter().try_for_each(|symbol| names.check(symbol.st_name(endian).into()))?;
    dynamic.values(&NAMES).try_for_each(|name| names.check(name))?;

    let needs = table(elf::SHT_GNU_VERNEED)?.map_or(Ok(0), |data| check_needs(data, &names, endian))?;
    let definitions =
        table(elf::SHT_GNU_VERDEF)?.map_or(Ok(0), |data| check_definitions(data, &names, endian))?;
    if let Some(data) = table(elf::SHT_GNU_VERSYM)? {
        check_versions(data, symbols.len(), needs.max(definitions), endian)?;
    }
    if let Some(data) = table(elf::SHT_GNU_HASH)? {
        check_gnu_hash(data, symbols.len(), endian)?;
    }
    table(elf::SHT_HASH)?.map_or(Ok(()), |data| check_hash(data, symbols.len(), endian))
}

/// A table of names, each of which ends within it.
struct Names(u64);

impl Names {
    fn new(strings: &[u8]) -> Result<Self, Problem> {
        if strings.last() == Some(&0) { Ok(Self(strings.len() as u64)) } else { Err(astray()) }
    }

    fn check(&self, name: u64) -> Result<(), Problem> {
        if name < self.0 { Ok(()) } else { Err(astray()) }
    }
}

/// Returns the highest number of a version.
fn check_needs(data: &[u8], names: &Names, endian: Endianness) -> Result<u16, Problem> {
    let (mut highest, mut seen) = (0, 0);
    let needs = list(data, 0, |need: &Verneed<Endianness>| need.vn_next.get(endian))?;
    for (at, need) in needs {
        names.check(need.vn_file.get(endian).into())?;
        let first = at.saturating_add(need.vn_aux.get(endian) as usize);
        let versions = list(data, first, |version: &Vernaux<Endianness>| version.vna_next.get(endian))?;
        seen += versions.len();
        // In a file made to take long, all lists may be the same one.
        if seen > MAX_ENTRIES {
            return Err(astray());
        }
        for (_, version) in versions {
            names.check(version.vna_name.get(endian).into())?;
            highest = highest.max(version.vna_other.get(endian).0 & elf::VERSYM_VERSION);
        }
    }
    Ok(highest)
}

/// Returns the highest number of a version.
fn check_definitions(data: &[u8], names: &Names, endian: Endianness) -> Result<u16, Problem> {
    let mut highest = 0;
    let definitions = list(data, 0, |definition: &Verdef<Endianness>| definition.vd_next.get(endian))?;
    for (at, definition) in definitions {
        let name = at.saturating_add(definition.vd_aux.get(endian) as usize);
        names.check(entry::<Verdaux<Endianness>>(data, name)?.vda_name.get(endian).into())?;
        highest = highest.max(definition.vd_ndx.get(endian).0 & elf::VERSYM_VERSION);
    }
    Ok(highest)
}

fn check_versions(data: &[u8], symbols: usize, highest: u16, endian: Endianness) -> Result<(), Problem> {
    let versions: &[Versym<Endianness>] = slice_from_all_bytes(data).map_err(|()| astray())?;
    // 0 and 1 stand for no version.
    let is_there =
        |version: &Versym<Endianness>| version.0.get(endian).0 & elf::VERSYM_VERSION <= highest.max(1);
    if versions.len() == symbols && versions.iter().all(is_there) { Ok(()) } else { Err(astray()) }
}

/// The buckets say where a chain begins, and a chain goes on until a number that is odd.
fn check_gnu_hash(data: &[u8], symbols: usize, endian: Endianness) -> Result<(), Problem> {
    let (header, rest) = from_bytes::<elf::GnuHashHeader<Endianness>>(data).map_err(|()| astray())?;
    let first = header.symbol_base.get(endian) as usize;
    let filter = (header.bloom_count.get(endian) as usize).saturating_mul(size_of::<u64>());
    let rest = rest.get(filter..).ok_or_else(astray)?;
    let (buckets, rest) = numbers(rest, header.bucket_count.get(endian) as usize)?;
    let chains: &[U32<Endianness>] = slice_from_all_bytes(rest).map_err(|()| astray())?;
    let begins = buckets.iter().map(|bucket| bucket.get(endian) as usize).filter(|begin| *begin != 0);
    // Without symbols for others there are no chains, whatever the header says.
    let reaches_all = |begin: usize| {
        (first..symbols).contains(&begin)
            && chains.len() >= symbols - first
            && chains.last().is_some_and(|last| last.get(endian) & 1 == 1)
    };
    if begins.into_iter().all(reaches_all) { Ok(()) } else { Err(astray()) }
}

fn check_hash(data: &[u8], symbols: usize, endian: Endianness) -> Result<(), Problem> {
    let (header, rest) = from_bytes::<elf::HashHeader<Endianness>>(data).map_err(|()| astray())?;
    let (buckets, rest) = numbers(rest, header.bucket_count.get(endian) as usize)?;
    let (chains, _) = numbers(rest, header.chain_count.get(endian) as usize)?;
    let is_there = |symbol: &U32<Endianness>| (symbol.get(endian) as usize) < symbols;
    if chains.len() == symbols && buckets.iter().chain(chains).all(is_there) { Ok(()) } else { Err(astray()) }
}

/// So many numbers, and what comes after them.
fn numbers(data: &[u8], count: usize) -> Result<(&[U32<Endianness>], &[u8]), Problem> {
    slice_from_bytes(data, count).map_err(|()| astray())
}

/// The entries of a list and where they are; each says how far behind it the next is, and the last 0.
fn list<T: Pod>(data: &[u8], first: usize, next: impl Fn(&T) -> u32) -> Result<Vec<(usize, &T)>, Problem> {
    let mut entries = Vec::new();
    let mut at = first;
    loop {
        let here: &T = entry(data, at)?;
        entries.push((at, here));
        match next(here) {
            0 => return Ok(entries),
            _ if entries.len() == MAX_ENTRIES => return Err(astray()),
            distance => at = at.saturating_add(distance as usize),
        }
    }
}

fn entry<T: Pod>(data: &[u8], at: usize) -> Result<&T, Problem> {
    let bytes = data.get(at..).ok_or_else(astray)?;
    from_bytes(bytes).map(|(entry, _)| entry).map_err(|()| astray())
}

fn astray() -> Problem {
    wrong("its tables of symbols lead astray: it was damaged; copy it again")
}
