//! Report: the Go processes of a host.

use super::clean::clean;
use super::json::write_value;
use super::style::{Palette, paint};
use super::units::{counted, size};
use serde::Serialize;
use std::io::{self, Write};

/// The name and major version of the document.
pub const SCHEMA: &str = "allgs.ps/1";

/// The Go processes of a host.
#[derive(Debug, Serialize)]
pub struct Processes {
    schema: &'static str,
    /// Each of them, by number.
    pub processes: Vec<Process>,
    /// Processes whose executable could not be opened: they may be Go or not.
    pub not_examined: u64,
}

/// One Go process.
#[derive(Debug, Serialize)]
pub struct Process {
    /// Its number in our PID namespace.
    pub pid: i32,
    /// Version of the toolchain that built it.
    pub go_version: String,
    /// Path of the main module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_module: Option<String>,
    /// Path of the main package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_package: Option<String>,
    /// Its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// How many goroutines it has, without the runtime's own, about: it was not stopped to count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<u64>,
    /// How many threads it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// How much memory it occupies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Whether it can be attached to.
    pub attachable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

impl Processes {
    /// A list of these.
    pub fn new(processes: Vec<Process>, not_examined: u64) -> Processes {
        Processes { schema: SCHEMA, processes, not_examined }
    }

    /// Writes it as JSON, `allgs.ps/1`.
    pub fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        write_value(out, self)
    }

    /// Writes it as a table.
    pub fn text(&self, out: &mut dyn Write, p: &Palette) -> io::Result<()> {
        if self.processes.is_empty() {
            writeln!(out, "{}", paint(p.dim, "no Go process found"))?;
        } else {
            let head = HEAD.map(str::to_owned);
            let rows: Vec<[String; COLUMNS]> = self.processes.iter().map(Process::cells).collect();
            let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
                let cells = std::iter::once(&head).chain(&rows).filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            });
            writeln!(out, "{}", paint(p.title, line(&head, &widths)))?;
            for (process, row) in self.processes.iter().zip(&rows) {
                let text = line(row, &widths);
                let style = if process.attachable { anstyle::Style::new() } else { p.dim };
                writeln!(out, "{}", paint(style, text))?;
            }
        }
        if self.not_examined > 0 {
            let what = counted(self.not_examined, "more process").replace("processs", "processes");
            let text = format!("{what} could not be examined: run as root to see all");
            writeln!(out, "{}", paint(p.dim, text))?;
        }
        Ok(())
    }
}

const COLUMNS: usize = 7;
const HEAD: [&str; COLUMNS] = ["PID", "GO", "GOROUTINES", "THREADS", "RSS", "ATTACH", "PROGRAM"];
/// Columns of numbers, aligned to the right.
const RIGHT: [bool; COLUMNS] = [true, false, true, true, true, false, false];

impl Process {
    fn cells(&self) -> [String; COLUMNS] {
        let unknown = || "-".to_owned();
        let program = self.main_package.as_ref().or(self.main_module.as_ref()).or(self.exe.as_ref());
        [
            self.pid.to_string(),
            clean(&self.go_version).into_owned(),
            self.goroutines.map_or_else(unknown, |n| format!("~{n}")),
            self.threads.map_or_else(unknown, |n| n.to_string()),
            self.rss_bytes.map_or_else(unknown, size),
            self.why_not.as_ref().map_or("yes".to_owned(), |why| format!("no: {}", clean(why))),
            program.map_or_else(unknown, |name| clean(name).into_owned()),
        ]
    }
}

fn line(cells: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let padded = cells.iter().zip(widths).zip(RIGHT).map(|((cell, width), right)| {
        let space = " ".repeat(width.saturating_sub(cell.chars().count()));
        if right { space + cell } else { format!("{cell}{space}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Processes {
        let process = |pid, why: Option<&str>| Process {
            pid,
            go_version: "go1.27.3".to_owned(),
            main_module: Some("example.com/app".to_owned()),
            main_package: Some("example.com/app/cmd\u{1b}[2J".to_owned()),
            exe: None,
            goroutines: None,
            threads: Some(9),
            rss_bytes: Some(85_123_456),
            attachable: why.is_none(),
            why_not: why.map(str::to_owned),
        };
        Processes::new(vec![process(7, None), process(4242, Some("traced by 99"))], 2)
    }

    #[test]
    fn the_table_is_aligned_and_clean() {
        let mut out = Vec::new();
        list().text(&mut out, &Palette::plain()).unwrap();
        let expected = "
 PID  GO        GOROUTINES  THREADS       RSS  ATTACH            PROGRAM
   7  go1.27.3           -        9  81.2 MiB  yes               example.com/app/cmd\\x1b[2J
4242  go1.27.3           -        9  81.2 MiB  no: traced by 99  example.com/app/cmd\\x1b[2J
2 more processes could not be examined: run as root to see all
";
        assert_eq!(String::from_utf8(out).unwrap(), expected.trim_start_matches('\n'));
    }

    #[test]
    fn unknown_is_absent_in_json() {
        let mut out = Vec::new();
        list().json(&mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let first = document.pointer("/processes/0").unwrap();
        assert!(first.get("goroutines").is_none() && first.get("why_not").is_none());
        assert_eq!(first.get("main_package").unwrap(), "example.com/app/cmd\u{1b}[2J");
    }
}
