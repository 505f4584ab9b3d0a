//! Report: who waits for whom as a graph in the language of Graphviz: `allgs why --format dot | dot
//! -Tsvg`. Goroutines that want the same of the same object are one node.

use super::Report;
use super::clean::clean;
use crate::analysis::blocked::Want;
use crate::analysis::situations::object_text;
use crate::analysis::wakers::{Agent, Trust, place};
use crate::analysis::why::Why;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io::{self, Write};

/// Numbers that are shown of the goroutines in one node.
const NUMBERS: usize = 6;

/// Writes the graph of those who wait for an object or are waited for.
pub fn write(out: &mut dyn Write, report: &Report<'_>, why: &Why) -> io::Result<()> {
    let nodes = Nodes::of(report, why);
    writeln!(out, "digraph waits {{")?;
    writeln!(out, "    rankdir=LR;\n    node [fontname=\"monospace\", fontsize=10];")?;
    for (number, members) in nodes.members.iter().enumerate() {
        let colour = if members.iter().any(|i| nodes.dead.contains(i)) { ", color=red" } else { "" };
        writeln!(out, "    g{number} [shape=box, label={}{colour}];", quoted(&nodes.label(report, members)))?;
    }
    for (number, object) in why.blocked.objects.iter().enumerate() {
        if !object.waiters.is_empty() {
            writeln!(out, "    o{number} [shape=ellipse, label={}];", quoted(&object_text(object)))?;
        }
    }
    edges(out, &nodes, why)?;
    writeln!(out, "}}")
}

fn edges(out: &mut dyn Write, nodes: &Nodes, why: &Why) -> io::Result<()> {
    for (number, members) in nodes.members.iter().enumerate() {
        let on = members.first().and_then(|i| why.blocked.on(*i as usize));
        for want in on.into_iter().flat_map(|on| &on.wants) {
            writeln!(out, "    g{number} -> o{} [label=\"{}\"];", want.object.0, want.operation.as_str())?;
        }
    }
    for (want, wakers) in why.answers.wants() {
        for waker in wakers {
            let Agent::Goroutine(index) = waker.agent else { continue };
            if let Some(node) = nodes.of.get(&index) {
                let style = if waker.trust == Trust::Certain { "solid" } else { "dashed" };
                writeln!(out, "    o{} -> g{node} [style={style}];", want.object.0)?;
            }
        }
    }
    Ok(())
}

/// Goroutines put together.
struct Nodes {
    members: Vec<Vec<u32>>,
    of: FxHashMap<u32, usize>,
    /// Those in a ring.
    dead: FxHashSet<u32>,
}

impl Nodes {
    fn of(report: &Report<'_>, why: &Why) -> Nodes {
        let wakers = why.answers.wants().flat_map(|(_, wakers)| wakers).filter_map(|w| match w.agent {
            Agent::Goroutine(index) => Some(index),
            _ => None,
        });
        let named: FxHashSet<u32> = wakers.collect();
        let selected: FxHashSet<u32> = report.selection.indices.iter().copied().collect();
        let dead = why.graph.rings.iter().flat_map(|ring| ring.members.iter().copied()).collect();
        let mut nodes = Nodes { members: Vec::new(), of: FxHashMap::default(), dead };
        let mut alike: FxHashMap<&[Want], usize> = FxHashMap::default();
        for (index, on) in (0u32..).zip(&why.blocked.of) {
            let wants = on.as_ref().map_or(&[][..], |on| on.wants.as_slice());
            let waits = !wants.is_empty() && selected.contains(&index);
            if !waits && !named.contains(&index) {
                continue;
            }
            let next = nodes.members.len();
            let alone = named.contains(&index) || nodes.dead.contains(&index);
            let number = if alone { next } else { *alike.entry(wants).or_insert(next) };
            if number == next {
                nodes.members.push(Vec::new());
            }
            if let Some(members) = nodes.members.get_mut(number) {
                members.push(index);
            }
            nodes.of.insert(index, number);
        }
        nodes
    }

    fn label(&self, report: &Report<'_>, members: &[u32]) -> String {
        let rows = || members.iter().filter_map(|i| report.survey.row(*i as usize));
        let ids: Vec<String> = rows().take(NUMBERS).map(|row| row.g.id.0.to_string()).collect();
        let more = members.len().saturating_sub(ids.len());
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        let module = report.target.main_module.as_deref();
        let place = rows().next().map_or_else(String::new, |row| place(&row.stack.frames, module));
        format!("{}{tail}\n{place}", ids.join(", "))
    }
}

/// A string of the language; names come from the target.
fn quoted(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| clean(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(quoted("a\"b\\\nc\x1b"), r#""a\"b\\\nc\\x1b""#);
    }
}
