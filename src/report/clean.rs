//! Report: names from a target, made safe for a terminal. A function, a file or a label may be named
//! anything; printed raw, it could move the cursor, recolour the screen or reverse the line. Formats
//! for programs keep names exact and escape them in their own way.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

/// Whether a character must not reach a terminal or a reader as it is: controls, those that reorder
/// text, those that are invisible, and line ends of every kind.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The name with each unsafe character replaced by a visible escape such as `\x1b` or `\u{202e}`.
pub fn clean(name: &str) -> Cow<'_, str> {
    if !name.contains(is_unsafe) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if !is_unsafe(c) {
            out.push(c);
        } else if c.is_ascii() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
    Cow::Owned(out)
}

/// The same for bytes that should be UTF-8: what is not, is shown as `\xNN`.
pub fn clean_bytes(name: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(name) {
        return clean(text);
    }
    let mut out = String::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        out.push_str(&clean(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// A terminal that is written to in a format for programs, which has lines and tabs of its own: within
/// lines all is cleaned. Texts must be written whole, no character in two parts.
pub struct Terminal<'a>(pub &'a mut dyn io::Write);

impl io::Write for Terminal<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        for piece in text.split_inclusive(|b| matches!(b, b'\n' | b'\t')) {
            let (name, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\t'), name)) => (name, std::slice::from_ref(end)),
                _ => (piece, &[][..]),
            };
            self.0.write_all(clean_bytes(name).as_bytes())?;
            self.0.write_all(end)?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_harmless_stays_as_it_is() {
        assert!(matches!(clean("main.(*T[...]).Grüße·1"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_could_move_a_terminal_becomes_visible() {
        assert_eq!(clean("a\x1b[31mb\r\n\t\x7f"), "a\\x1b[31mb\\x0d\\x0a\\x09\\x7f");
        assert_eq!(clean("x\u{9b}2J\u{202e}gro\u{2066}\u{200b}"), "x\\u{9b}2J\\u{202e}gro\\u{2066}\\u{200b}");
        assert_eq!(clean_bytes(b"ok\xff\xfe\x1b\xc3\xa4"), "ok\\xff\\xfe\\x1bä");
    }

    #[test]
    fn a_terminal_gets_the_lines_and_nothing_else() {
        let mut out = Vec::new();
        io::Write::write_all(&mut Terminal(&mut out), b"a\x1b[2J\n\tb\xff\r +0x1\n\n").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\\x1b[2J\n\tb\\xff\\x0d +0x1\n\n");
    }
}
