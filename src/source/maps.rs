//! Source: the kernel's list of mappings, `/proc/PID/maps` (format: `proc_pid_maps(5)`).

use super::Mapping;
use crate::addr::{Addr, FileOffset, Span};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Which file lies behind a mapping, by device and inode: a path may name another file by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    /// Major number of the device; 0 for file systems without a device of their own.
    pub major: u64,
    /// Minor number of the device.
    pub minor: u64,
    /// Inode; 0 when there is no file.
    pub inode: u64,
}

/// What the kernel adds to the path of a file that was removed or replaced.
const DELETED: &[u8] = b" (deleted)";

/// Parses the text of a `maps` file. Lines that are no mapping are left out; nothing is trusted: spans
/// may overlap or be empty if the text says so.
pub fn parse_maps(text: &[u8]) -> Vec<Mapping> {
    parse_with_files(text).map(|(mapping, _)| mapping).collect()
}

/// Parses a `maps` file together with the identity of each mapping's file.
pub fn parse_with_files(text: &[u8]) -> impl Iterator<Item = (Mapping, FileId)> {
    text.split(|b| *b == b'\n').filter_map(parse_line)
}

/// `55d0-55d8 r-xp 00001000 fe:01 2621 /usr/bin/x`: five fields, each followed by one space, then
/// padding and the path.
fn parse_line(line: &[u8]) -> Option<(Mapping, FileId)> {
    let mut fields = line.splitn(6, |b| *b == b' ');
    let (start, end) = pair(fields.next()?, b'-')?;
    let permissions = fields.next()?;
    let offset = number(fields.next()?, 16)?;
    let (major, minor) = pair(fields.next()?, b':')?;
    let inode = number(fields.next()?, 10)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let (name, deleted) = match name.strip_suffix(DELETED) {
        Some(stem) => (stem, true),
        None => (name, false),
    };
    let mapping = Mapping {
        span: Span::between(Addr::new(start), Addr::new(end)),
        offset: FileOffset(offset),
        path: (!name.is_empty()).then(|| PathBuf::from(OsString::from_vec(unescape(name)))),
        deleted,
        readable: permissions.first() == Some(&b'r'),
        writable: permissions.get(1) == Some(&b'w'),
        executable: permissions.get(2) == Some(&b'x'),
    };
    Some((mapping, FileId { major, minor, inode }))
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

fn pair(text: &[u8], separator: u8) -> Option<(u64, u64)> {
    let mut parts = text.splitn(2, |b| *b == separator);
    Some((number(parts.next()?, 16)?, number(parts.next()?, 16)?))
}

/// The kernel writes a line feed in a path as `\012` and escapes nothing else.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, later)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                out.push(b'\n');
                rest = after;
            }
            None => {
                out.push(*first);
                rest = later;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const TEXT: &[u8] = b"\
00400000-004f5000 r-xp 00001000 fe:01 2621                               /usr/bin/my app\n\
7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n\
7f0000100000-7f0000101000 r--s 00000000 00:0a 77                         /tmp/a\\012b (deleted)\n\
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    #[test]
    fn reads_names_with_spaces_line_feeds_and_the_mark_of_deleted_files() {
        let maps: Vec<_> = parse_with_files(TEXT).collect();
        let paths: Vec<_> = maps.iter().map(|(m, _)| m.path.as_deref()).collect();
        let named = |s| Some(Path::new(s));
        assert_eq!(
            paths,
            [named("/usr/bin/my app"), None, named("/tmp/a\nb"), named("[vdso]"), named("[vsyscall]")]
        );
        assert_eq!(
            maps.iter().map(|(m, _)| m.deleted).collect::<Vec<_>>(),
            [false, false, true, false, false]
        );
        assert_eq!(maps[0].1, FileId { major: 0xfe, minor: 1, inode: 2621 });
    }

    #[test]
    fn reads_addresses_offsets_and_permissions() {
        let maps = parse_maps(TEXT);
        assert_eq!(maps[0].span, Span { start: Addr::new(0x40_0000), len: 0xf_5000 });
        assert_eq!(maps[0].offset, FileOffset(0x1000));
        let permissions: Vec<_> = maps.iter().map(|m| (m.readable, m.writable, m.executable)).collect();
        assert_eq!(permissions[..2], [(true, false, true), (true, true, false)]);
        assert_eq!(permissions[2..4], [(true, false, false), (true, false, true)]);
        assert_eq!(maps[4].span.start, Addr::new(0xffff_ffff_ff60_0000));
    }

    #[test]
    fn leaves_out_what_is_no_mapping() {
        assert_eq!(parse_maps(b""), []);
        assert_eq!(parse_maps(b"zz-10 r-xp 0 0:0 0\n10 r-xp 0 0:0 0\n\n1-2 r--p 0 0:0\n"), []);
        let backwards = parse_maps(b"20-10 r-xp 0 0:0 0\n");
        assert_eq!(backwards[0].span.len, 0);
    }

    #[test]
    fn reads_our_own_maps_completely() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let maps = parse_maps(&text);
        assert_eq!(maps.len(), text.iter().filter(|b| **b == b'\n').count());
        let code = Addr::new(parse_maps as *const () as u64);
        assert!(maps.iter().any(|m| m.executable && m.span.contains(code)));
    }
}
