//! Report: the runtime's own text, byte for byte as the target's release prints it
//! (`runtime/traceback.go`). `runtime.Stack(buf, true)` and `debug=2` profiles have [`Level::User`];
//! a SIGQUIT dump and GOTRACEBACK=system have [`Level::System`].
//!
//! Of goroutines that run on another thread the runtime prints no stack, since it can't see it. Where
//! it is known here it is printed. Where a stack breaks off, the runtime adds a dump of its words;
//! here one line says so.

mod creator;
mod header;
mod names;
mod plan;
mod site;
mod trace;

use crate::addr::Addr;
use crate::image::Image;
use crate::image::layout::rules::Rules;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::{G, M};
use crate::unwind::{Unwinder, Walker};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use std::io::{self, Write};
use std::rc::Rc;

/// How much the text says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Frames of the runtime are left out.
    User,
    /// All frames, and addresses.
    System,
}

/// Goroutines that one thread prints at a time.
const CHUNK: usize = 256;

/// Goroutines whose text is held in memory at a time.
const BATCH: usize = 64 * CHUNK;

/// Writes the text of `gs`, in that order, separated by empty lines.
pub fn write_go(
    out: &mut dyn Write,
    image: &Image,
    snapshot: &Snapshot<'_>,
    gs: &[&G],
    level: Level,
) -> io::Result<()> {
    let unwinder = Unwinder::new(image, snapshot);
    let mut separate = false;
    for batch in gs.chunks(BATCH) {
        let texts: Vec<Vec<u8>> = batch
            .par_chunks(CHUNK)
            .map_init(|| Printer::new(&unwinder, level), |printer, part| printer.print(part))
            .collect();
        for text in texts {
            if separate {
                out.write_all(b"\n")?;
            }
            out.write_all(&text)?;
            separate = true;
        }
    }
    Ok(())
}

/// Prints goroutines; remembers what it found at the addresses it met.
struct Printer<'a> {
    unwinder: &'a Unwinder<'a>,
    walker: Walker<'a>,
    sites: FxHashMap<(Addr, bool), Rc<site::Site>>,
    level: Level,
    out: Vec<u8>,
}

impl<'a> Printer<'a> {
    fn new(unwinder: &'a Unwinder<'a>, level: Level) -> Printer<'a> {
        let (walker, sites) = (unwinder.walker(), FxHashMap::default());
        Printer { unwinder, walker, sites, level, out: Vec::new() }
    }

    fn image(&self) -> &'a Image {
        self.unwinder.image()
    }

    fn rules(&self) -> &'a Rules {
        &self.image().rules
    }

    /// The text of these goroutines.
    fn print(&mut self, gs: &[&G]) -> Vec<u8> {
        for (n, g) in gs.iter().enumerate() {
            if n > 0 {
                self.out.push(b'\n');
            }
            self.goroutine(g);
        }
        std::mem::take(&mut self.out)
    }

    fn goroutine(&mut self, g: &G) {
        let m = self.unwinder.snapshot().m_of(g);
        let verbose = self.level == Level::System || self.is_dying(g, m);
        self.header(g, m, verbose);
        self.stack(g, verbose);
        self.creator(g, verbose);
        self.ancestors(g);
    }

    /// Whether the goroutine made the runtime give up; that one is always printed in full.
    fn is_dying(&self, g: &G, m: Option<&M>) -> bool {
        m.is_some_and(|m| m.curg == g.at && m.throwing >= self.rules().throwing_by_runtime)
    }
}
