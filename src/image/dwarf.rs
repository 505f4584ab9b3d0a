//! Image, DWARF: where the members of the runtime's structures and the runtime's globals lie,
//! according to the target's own debug information.
//!
//! Go's linker (`cmd/link/internal/ld/dwarf.go`) puts the DIEs of all types of the program at the end
//! of the unit `runtime`, in the order in which they are first needed, and sorts units by address,
//! which puts that unit among the first. So the search goes from unit header to unit header, walks
//! this one alone without keeping any entry, unpacks no more than it needs, and ends with the last
//! thing found.

use crate::addr::FileVa;
use crate::error::{Error, ErrorKind, Result};
use crate::image::elf::ElfFile;
use crate::image::inflate::Inflated;
use crate::image::layout::schema::StructDecl;
use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, EndianSlice, EntriesRaw, LittleEndian,
    SectionId, UnitHeader, UnitOffset, UnitSectionOffset, UnitType,
};
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// One structure according to DWARF.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StructFacts {
    /// Its size in bytes.
    pub size: u32,
    /// Offset of each declared path that exists.
    pub offsets: FxHashMap<&'static str, u32>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DwarfFacts {
    /// Structures by Go's name. Those that the linker dropped are missing.
    pub structs: FxHashMap<&'static str, StructFacts>,
    /// Addresses of global variables as the file states them.
    pub variables: FxHashMap<&'static str, FileVa>,
    /// Bytes of debug information that were looked at.
    pub bytes: usize,
}

/// First and further steps in which the section is unpacked.
const FIRST: usize = 512 << 10;
const GROWTH: usize = 3;
/// Depth to which nested members and typedefs are followed.
const DEPTH: usize = 8;
/// Largest table of abbreviations, in bytes, and most of them: Go's units share one of a kilobyte, each
/// C unit has one of a few.
const TABLE: usize = 64 << 10;
const TABLES: usize = 50_000;
/// Members of one structure that are looked at.
const MEMBERS: usize = 10_000;

/// Why a walk over a part of the section ended.
enum End {
    /// All found, or nothing more to see.
    Done,
    /// The part that is unpacked ends.
    NeedMore,
}

/// Reads the layouts of `structs` and the addresses of `variables`, whose names all begin with
/// `runtime.`; `None` when the file has no DWARF.
pub fn read(
    elf: &ElfFile,
    structs: &[&'static StructDecl],
    variables: &[&'static str],
) -> Result<Option<DwarfFacts>> {
    let Some(info) = elf.debug_data("info") else { return Ok(None) };
    let Some(abbrev) = elf.debug_data("abbrev") else { return Ok(None) };
    let (mut info, mut abbrev) = (info?, abbrev?);
    let abbrev = abbrev.all()?;
    let addresses = elf.debug_data("addr").transpose()?;
    let mut want = FIRST;
    loop {
        let total = info.len();
        let part = info.prefix(want)?;
        let mut search = Search {
            data: part,
            abbrev,
            tables: Cell::new(0),
            structs,
            variables,
            found: FxHashMap::default(),
            facts: DwarfFacts { bytes: part.len(), ..DwarfFacts::default() },
            indexed: Vec::new(),
            runtime: Vec::new(),
            abbreviations: RefCell::new(None),
            cut: Cell::new(false),
        };
        let end = search.units().map(|end| match end {
            End::NeedMore if part.len() < total => End::NeedMore,
            _ => search.resolve(),
        });
        match end {
            Ok(End::NeedMore) if part.len() < total => want = part.len().saturating_mul(GROWTH),
            Ok(_) => {
                let (mut facts, indexed) = (search.facts, search.indexed);
                resolve_indexed(&mut facts, &indexed, addresses)?;
                return Ok(Some(facts));
            }
            Err(e) => {
                let text = format!("damaged debug information: {e}");
                return Err(Error::new(ErrorKind::BadExecutable, text));
            }
        }
    }
}

/// A variable whose address is in `.debug_addr`: name, place in that section.
type Indexed = (&'static str, u64);

struct Search<'a> {
    data: &'a [u8],
    abbrev: &'a [u8],
    /// How many tables of abbreviations were read.
    tables: Cell<usize>,
    structs: &'a [&'static StructDecl],
    variables: &'a [&'static str],
    /// Where each wanted structure is: place in the section.
    found: FxHashMap<&'static str, usize>,
    facts: DwarfFacts,
    indexed: Vec<Indexed>,
    /// The units of package runtime that were met.
    runtime: Vec<Unit<'a>>,
    /// Those read last and where they are: Go's units all share them.
    abbreviations: RefCell<Option<(usize, Rc<Abbreviations>)>>,
    /// Whether something wanted is further on than what is unpacked.
    cut: Cell<bool>,
}

/// A unit whose header was read.
#[derive(Clone)]
struct Unit<'a> {
    at: usize,
    next: usize,
    header: UnitHeader<Slice<'a>>,
    abbreviations: Rc<Abbreviations>,
    addr_base: u64,
    /// Whether all of it is unpacked.
    complete: bool,
}

impl<'a> Search<'a> {
    /// Goes from unit to unit and walks those of Go's package runtime.
    fn units(&mut self) -> gimli::Result<End> {
        let mut at = 0usize;
        while at < self.data.len() {
            let Some((unit, next)) = self.unit(at)? else { return Ok(End::NeedMore) };
            if let Some(unit) = unit {
                self.runtime.push(unit.clone());
                self.walk(&unit)?;
                let complete = unit.complete && self.has_types_and_variables();
                if complete || self.all_found() {
                    return Ok(End::Done);
                }
                if !unit.complete {
                    return Ok(End::NeedMore);
                }
            }
            at = next;
        }
        Ok(End::NeedMore)
    }

    /// Whether both the unit that holds all types and the one that holds the variables of package
    /// runtime were met: what they lack is nowhere.
    fn has_types_and_variables(&self) -> bool {
        let variables = self.facts.variables.len() + self.indexed.len();
        (self.structs.is_empty() || !self.found.is_empty()) && (self.variables.is_empty() || variables > 0)
    }

    fn all_found(&self) -> bool {
        self.found.len() == self.structs.len()
            && self.facts.variables.len() + self.indexed.len() == self.variables.len()
    }

    /// Reads the unit header at `at`: the unit if it is that of package runtime, and where the next
    /// one is. `None` when the header is not unpacked yet.
    fn unit(&self, at: usize) -> gimli::Result<Option<(Option<Unit<'a>>, usize)>> {
        let Some(raw) = RawHeader::read(self.data.get(at..).unwrap_or_default()) else {
            return Ok(None);
        };
        let next = at.checked_add(raw.len).ok_or(gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0)))?;
        let Some(kind) = raw.kind else { return Ok(Some((None, next))) };
        let entries = self.data.get(at.saturating_add(raw.header_size)..).unwrap_or_default();
        let complete = next <= self.data.len();
        let entries = match next.checked_sub(at.saturating_add(raw.header_size)) {
            Some(len) => entries.get(..len.min(entries.len())).unwrap_or_default(),
            None => &[],
        };
        let encoding =
            gimli::Encoding { format: gimli::Format::Dwarf32, version: raw.version, address_size: 8 };
        let header = UnitHeader::new(
            encoding,
            raw.len.saturating_sub(4),
            kind,
            DebugAbbrevOffset(raw.abbrev_offset),
            SectionId::DebugInfo,
            UnitSectionOffset(at),
            EndianSlice::new(entries, LittleEndian),
        );
        let abbreviations = self.abbreviations(raw.abbrev_offset)?;
        let Some(addr_base) = runtime_unit(&header, &abbreviations, complete)? else {
            return Ok(if complete || !entries.is_empty() { Some((None, next)) } else { None });
        };
        Ok(Some((Some(Unit { at, next, header, abbreviations, addr_base, complete }), next)))
    }

    fn abbreviations(&self, at: usize) -> gimli::Result<Rc<Abbreviations>> {
        let mut last = self.abbreviations.borrow_mut();
        if let Some((offset, abbreviations)) = &*last
            && *offset == at
        {
            return Ok(abbreviations.clone());
        }
        self.tables.set(self.tables.get().saturating_add(1));
        let end = self.abbrev.len().min(at.saturating_add(TABLE));
        let table = self.abbrev.get(at..end).filter(|_| self.tables.get() <= TABLES);
        let table = DebugAbbrev::new(table.unwrap_or_default(), LittleEndian);
        let new = Rc::new(table.abbreviations(DebugAbbrevOffset(0))?);
        *last = Some((at, new.clone()));
        Ok(new)
    }

    /// Walks the entries of a unit, keeping none.
    fn walk(&mut self, unit: &Unit<'a>) -> gimli::Result<()> {
        let mut entries = unit.header.entries_raw(&unit.abbreviations, None)?;
        match self.walk_entries(&mut entries, unit) {
            Err(gimli::Error::UnexpectedEof(_)) if !unit.complete => Ok(()),
            other => other,
        }
    }

    fn walk_entries(
        &mut self,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        unit: &Unit<'a>,
    ) -> gimli::Result<()> {
        while !entries.is_empty() && !self.all_found() {
            let at = entries.next_offset();
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let interesting = match abbreviation.tag() {
                gimli::DW_TAG_structure_type => true,
                gimli::DW_TAG_variable => depth == 1,
                _ => false,
            };
            if !interesting {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let mut name = None;
            let mut location = None;
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                match attribute.name() {
                    gimli::DW_AT_name => name = text(attribute.raw_value()),
                    gimli::DW_AT_location => location = Some(attribute.value()),
                    _ => {}
                }
            }
            let Some(name) = name.filter(|n| n.starts_with(b"runtime.")) else { continue };
            if abbreviation.tag() == gimli::DW_TAG_structure_type {
                if let Some(s) = self.structs.iter().find(|s| s.go_name.as_bytes() == name) {
                    self.found.entry(s.go_name).or_insert(unit.at.saturating_add(at.0));
                }
            } else if let Some(v) = self.variables.iter().find(|v| v.as_bytes() == name) {
                self.keep_variable(v, location, unit);
            }
        }
        Ok(())
    }

    fn keep_variable(
        &mut self,
        name: &'static str,
        location: Option<AttributeValue<Slice<'a>>>,
        unit: &Unit<'a>,
    ) {
        let Some(AttributeValue::Exprloc(expression)) = location else { return };
        let mut operations = expression.operations(unit.header.encoding());
        match operations.next() {
            Ok(Some(gimli::Operation::Address { address })) => {
                self.facts.variables.entry(name).or_insert(FileVa(address));
            }
            Ok(Some(gimli::Operation::AddressIndex { index })) => {
                let place = (index.0 as u64).checked_mul(8).and_then(|n| n.checked_add(unit.addr_base));
                if let Some(place) = place
                    && !self.indexed.iter().any(|(n, _)| *n == name)
                {
                    self.indexed.push((name, place));
                }
            }
            _ => {}
        }
    }

    /// Settles the declared paths of each structure that was found. The types of members may be
    /// further on than what is unpacked.
    fn resolve(&mut self) -> End {
        for decl in self.structs {
            let Some(at) = self.found.get(decl.go_name) else { continue };
            let Some(body) = self.members(*at) else { continue };
            let mut facts = StructFacts { size: body.size, ..StructFacts::default() };
            for path in decl.fields.iter().flat_map(|f| f.paths) {
                if let Some(offset) = self.offset(&body, path) {
                    facts.offsets.insert(path, offset);
                }
            }
            self.facts.structs.insert(decl.go_name, facts);
        }
        if self.cut.get() { End::NeedMore } else { End::Done }
    }

    /// Offset of a dotted path inside a structure.
    fn offset(&self, body: &Body<'a>, path: &str) -> Option<u32> {
        let Some((name, rest)) = path.split_once('.') else {
            return body.member(path).map(|(offset, _)| offset);
        };
        let (offset, kind) = body.member(name)?;
        offset.checked_add(self.offset(&self.members(kind?)?, rest)?)
    }

    /// The members of the structure at a place of the section, typedefs followed.
    fn members(&self, mut at: usize) -> Option<Body<'a>> {
        for _ in 0..DEPTH {
            let unit = self.runtime.iter().find(|u| (u.at..u.next).contains(&at))?;
            match Type::read(unit, at) {
                Ok(Type::Same(place)) => at = place,
                Ok(Type::Struct(body)) => return Some(body),
                Ok(Type::Other) => return None,
                Err(_) => {
                    self.cut.set(self.cut.get() || !unit.complete);
                    return None;
                }
            }
        }
        None
    }
}

/// What a member's type is.
enum Type<'a> {
    /// Another name of the type at a place.
    Same(usize),
    /// A structure.
    Struct(Body<'a>),
    /// Anything else.
    Other,
}

impl<'a> Type<'a> {
    fn read(unit: &Unit<'a>, at: usize) -> gimli::Result<Type<'a>> {
        let offset = UnitOffset(at.saturating_sub(unit.at));
        let mut entries = unit.header.entries_raw(&unit.abbreviations, Some(offset))?;
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(Type::Other) };
        let head = Entry::read(&mut entries, abbreviation.attributes(), unit.at)?;
        let size = head.size.and_then(|size| u32::try_from(size).ok());
        match (abbreviation.tag(), head.kind, size) {
            (gimli::DW_TAG_typedef, Some(place), _) => Ok(Type::Same(place)),
            (gimli::DW_TAG_structure_type, _, Some(size)) => {
                let mut body = Body { size, members: vec![] };
                if abbreviation.has_children() {
                    read_members(&mut entries, unit.at, &mut body)?;
                }
                Ok(Type::Struct(body))
            }
            _ => Ok(Type::Other),
        }
    }
}

fn read_members<'a>(
    entries: &mut EntriesRaw<'_, Slice<'a>>,
    unit_at: usize,
    body: &mut Body<'a>,
) -> gimli::Result<()> {
    while entries.next_depth() >= 1 && body.members.len() < MEMBERS {
        let Some(abbreviation) = entries.read_abbreviation()? else { continue };
        let entry = Entry::read(entries, abbreviation.attributes(), unit_at)?;
        if let (gimli::DW_TAG_member, Some(name)) = (abbreviation.tag(), entry.name)
            && let Ok(offset) = u32::try_from(entry.offset)
        {
            body.members.push((name, offset, entry.kind));
        }
    }
    Ok(())
}

/// A structure: its size and its members by name, with offset and place of the type.
#[derive(Default)]
struct Body<'a> {
    size: u32,
    members: Vec<(&'a [u8], u32, Option<usize>)>,
}

impl Body<'_> {
    fn member(&self, name: &str) -> Option<(u32, Option<usize>)> {
        let found = self.members.iter().find(|(n, _, _)| *n == name.as_bytes());
        found.map(|(_, offset, kind)| (*offset, *kind))
    }
}

/// The attributes of a type or member that count.
#[derive(Default)]
struct Entry<'a> {
    name: Option<&'a [u8]>,
    size: Option<u64>,
    offset: u64,
    kind: Option<usize>,
}

impl<'a> Entry<'a> {
    fn read(
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        specs: &[gimli::AttributeSpecification],
        unit_at: usize,
    ) -> gimli::Result<Entry<'a>> {
        let mut entry = Entry::default();
        for spec in specs {
            let attribute = entries.read_attribute(*spec)?;
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_name => entry.name = text(attribute.raw_value()),
                gimli::DW_AT_byte_size => entry.size = value.udata_value(),
                gimli::DW_AT_data_member_location => {
                    entry.offset = value.udata_value().unwrap_or(u64::MAX);
                }
                gimli::DW_AT_type => {
                    entry.kind = match value {
                        AttributeValue::DebugInfoRef(place) => Some(place.0),
                        AttributeValue::UnitRef(offset) => unit_at.checked_add(offset.0),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        Ok(entry)
    }
}

/// Go's linker writes names in place.
fn text<'a>(value: AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
    match value {
        AttributeValue::String(s) => Some(s.slice()),
        _ => None,
    }
}

/// The base of the unit's addresses in `.debug_addr` if it is Go's package runtime.
fn runtime_unit(
    header: &UnitHeader<Slice<'_>>,
    abbreviations: &Abbreviations,
    complete: bool,
) -> gimli::Result<Option<u64>> {
    let mut entries = header.entries_raw(abbreviations, None)?;
    let root = |entries: &mut EntriesRaw<'_, _>| -> gimli::Result<Option<u64>> {
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(None) };
        let (mut named, mut go, mut base) = (false, false, 0);
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            match (attribute.name(), attribute.value()) {
                (gimli::DW_AT_name, value) => named = text(value) == Some(b"runtime"),
                (gimli::DW_AT_language, AttributeValue::Language(l)) => go = l == gimli::DW_LANG_Go,
                (gimli::DW_AT_addr_base, AttributeValue::DebugAddrBase(b)) => base = b.0 as u64,
                _ => {}
            }
        }
        Ok((named && go).then_some(base))
    };
    match root(&mut entries) {
        Err(gimli::Error::UnexpectedEof(_)) if !complete => Ok(None),
        other => other,
    }
}

/// A unit header of the 32-bit format, DWARF 2 to 5.
struct RawHeader {
    version: u16,
    kind: Option<UnitType<usize>>,
    abbrev_offset: usize,
    header_size: usize,
    /// With the length field itself.
    len: usize,
}

impl RawHeader {
    /// `None` when the bytes end before the header does, or the unit is of the 64-bit format, which
    /// Go's linker does not write for ELF.
    fn read(data: &[u8]) -> Option<RawHeader> {
        let number = |at: usize| {
            let bytes = data.get(at..)?.first_chunk::<4>()?;
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let len = number(0)?.checked_add(4)?;
        let version = u16::from_le_bytes(*data.get(4..)?.first_chunk::<2>()?);
        let unit_type = *data.get(6)?;
        let (kind, abbrev_offset, header_size) = match version {
            2..=4 => (Some(UnitType::Compilation), number(6)?, 11),
            5 => ((unit_type == 1).then_some(UnitType::Compilation), number(8)?, 12),
            _ => (None, 0, 11),
        };
        Some(RawHeader { version, kind, abbrev_offset, header_size, len })
    }
}

/// Looks addresses up in `.debug_addr`.
fn resolve_indexed(
    facts: &mut DwarfFacts,
    indexed: &[Indexed],
    addresses: Option<Inflated<'_>>,
) -> Result<()> {
    let Some(mut addresses) = addresses.filter(|_| !indexed.is_empty()) else { return Ok(()) };
    let data = addresses.all()?;
    for (name, place) in indexed {
        let bytes = usize::try_from(*place).ok().and_then(|at| data.get(at..)?.first_chunk());
        if let Some(bytes) = bytes {
            facts.variables.insert(name, FileVa(u64::from_le_bytes(*bytes)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::schema;

    #[test]
    fn unit_headers_of_both_forms() {
        let four = [20, 0, 0, 0, 4, 0, 7, 0, 0, 0, 8];
        let header = RawHeader::read(&four).unwrap();
        assert_eq!((header.len, header.abbrev_offset, header.header_size), (24, 7, 11));
        let five = [20, 0, 0, 0, 5, 0, 1, 8, 7, 0, 0, 0];
        let header = RawHeader::read(&five).unwrap();
        assert_eq!((header.len, header.abbrev_offset, header.header_size), (24, 7, 12));
        assert!(header.kind.is_some());
        let type_unit = [20, 0, 0, 0, 5, 0, 2, 8, 7, 0, 0, 0];
        assert!(RawHeader::read(&type_unit).unwrap().kind.is_none());
        assert!((0..10).all(|len| RawHeader::read(four.get(..len).unwrap()).is_none()));
    }

    #[test]
    fn a_program_that_is_not_go_has_none_of_it() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let elf = ElfFile::open(&file).unwrap();
        let facts = read(&elf, schema::ALL, &["runtime.allgs"]).unwrap().unwrap();
        assert!(facts.structs.is_empty() && facts.variables.is_empty());
    }
}
