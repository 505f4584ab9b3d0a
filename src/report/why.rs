//! Report: why goroutines are stuck, as text for people: the situations, worst first; or, for goroutines
//! that were asked for by number, what each waits for and the chain to the end.

use super::clean::clean;
use super::style::{Palette, paint};
use super::text::{COLUMNS, header};
use super::units::counted;
use super::{Report, model};
use crate::analysis::blocked::{BlockedOn, Want};
use crate::analysis::graph::{Fate, Root};
use crate::analysis::situations::{Situation, SituationKind, object_text, wish_verb};
use crate::analysis::survey::Row;
use crate::analysis::wakers::{Agent, Trust, Waker, place};
use crate::analysis::why::Why;
use std::io::{self, Write};

/// Writes the situations in which a selected goroutine is, at most `limit`.
pub fn situations(
    out: &mut dyn Write,
    report: &Report<'_>,
    why: &Why,
    limit: Option<usize>,
    p: &Palette,
) -> io::Result<()> {
    header(out, report, p)?;
    let selected =
        |s: &&Situation| s.goroutines.iter().any(|i| report.selection.indices.binary_search(i).is_ok());
    let all: Vec<&Situation> = why.situations.iter().filter(selected).collect();
    if all.is_empty() {
        return writeln!(out, "\nno goroutine waits");
    }
    let shown = all.get(..limit.unwrap_or(all.len())).unwrap_or(&all);
    for situation in shown {
        writeln!(out)?;
        one_situation(out, situation, p)?;
    }
    let left = all.len().saturating_sub(shown.len());
    if left > 0 {
        let text = format!("\n{} left out by --limit", counted(left as u64, "more situation"));
        writeln!(out, "{}", paint(p.dim, text))?;
    }
    Ok(())
}

fn one_situation(out: &mut dyn Write, situation: &Situation, p: &Palette) -> io::Result<()> {
    let (name, style) = match situation.kind {
        SituationKind::Deadlock => ("DEADLOCK", p.bad),
        SituationKind::DeadEnd => ("DEAD END", p.bad),
        SituationKind::WaitsBehind => ("BLOCKED", p.waits),
        SituationKind::Io => ("I/O", p.busy),
        SituationKind::Time => ("TIME", p.busy),
        SituationKind::Idle => ("IDLE", p.dim),
    };
    let plain = matches!(situation.kind, SituationKind::Io | SituationKind::Time | SituationKind::Idle);
    let trust = if plain { String::new() } else { format!(" ({})", situation.trust.as_str()) };
    let mut lines = situation.text.iter();
    let head = lines.next().map_or("", String::as_str);
    let label = format!("{name}{trust}: ");
    paragraph(out, &label, head, 0, |text| paint(style, text))?;
    for line in lines {
        paragraph(out, "    ", line, 8, |text| text.to_owned())?;
    }
    Ok(())
}

/// Writes words in lines of at most [`COLUMNS`]; the first line begins with `label`, the others with
/// `indent` spaces, four at least.
fn paragraph(
    out: &mut dyn Write,
    label: &str,
    text: &str,
    indent: usize,
    style: impl Fn(&str) -> String,
) -> io::Result<()> {
    let text = clean(text);
    let mut line = String::new();
    let mut column = label.chars().count();
    write!(out, "{}", style(label))?;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column + width + 1 > COLUMNS && !line.is_empty() {
            writeln!(out, "{}", line.trim_end())?;
            line = " ".repeat(indent.max(4));
            column = indent.max(4);
        }
        line += word;
        line.push(' ');
        column += width + 1;
    }
    writeln!(out, "{}", line.trim_end())
}

/// Writes each selected goroutine with what it waits for, who could wake it, and its chain.
pub fn goroutines(out: &mut dyn Write, report: &Report<'_>, why: &Why, p: &Palette) -> io::Result<()> {
    header(out, report, p)?;
    let teller = Teller { report, why, p };
    for index in &report.selection.indices {
        if let Some(row) = report.survey.row(*index as usize) {
            writeln!(out)?;
            teller.goroutine(out, *index, row)?;
        }
    }
    Ok(())
}

/// Links of a chain that are shown.
const LINKS: usize = 20;

struct Teller<'a> {
    report: &'a Report<'a>,
    why: &'a Why,
    p: &'a Palette,
}

impl Teller<'_> {
    fn goroutine(&self, out: &mut dyn Write, index: u32, row: Row<'_>) -> io::Result<()> {
        let title = paint(self.p.title, format!("goroutine {}:", row.g.id.0));
        let reason = row.wait_reason.map_or_else(String::new, |reason| format!(", {}", clean(reason)));
        writeln!(out, "{title} {}{reason}, in {}", model::status(row.g.status), clean(&self.place(row)))?;
        let Some(on) = self.why.blocked.on(index as usize) else {
            return writeln!(out, "    it waits for nothing");
        };
        self.waits(out, on)?;
        for want in &on.wants {
            self.want(out, *want, on.wants.len() > 1)?;
        }
        for waker in self.why.answers.without_object(index) {
            self.waker(out, waker)?;
        }
        self.chain(out, index)
    }

    fn waits(&self, out: &mut dyn Write, on: &BlockedOn) -> io::Result<()> {
        let mut text = format!("waits for: {}, {}", on.kind, on.operation.as_str());
        if let Some(call) = &on.call {
            text += &format!(", {call}");
        }
        if let Some(fd) = &on.fd {
            text += &format!(", descriptor {} {}", fd.number, fd.kind);
            let parts = [&fd.local, &fd.remote].into_iter().flatten().map(String::as_str).chain(fd.state);
            text = parts.fold(text, |text, part| text + " " + part);
        }
        if let Some(left) = on.deadline_in {
            text += &format!(", ends by itself in {:.3} s", left as f64 / 1e9);
        }
        writeln!(out, "    {}", clean(&text))
    }

    fn want(&self, out: &mut dyn Write, want: Want, one_of_many: bool) -> io::Result<()> {
        let Some(object) = self.why.blocked.object(want.object) else { return Ok(()) };
        let case = if one_of_many { "case: " } else { "" };
        let waiters = counted(object.waiters.len() as u64, "goroutine");
        let text =
            format!("{case}{} {}, for which {waiters} wait", wish_verb(want.operation), object_text(object));
        writeln!(out, "    {}", clean(&text))?;
        let wakers = self.why.answers.of(want);
        if wakers.is_empty() {
            return writeln!(
                out,
                "        {}",
                paint(self.p.dim, "nothing was found that could end this wait")
            );
        }
        wakers.iter().try_for_each(|waker| self.waker(out, waker))
    }

    fn waker(&self, out: &mut dyn Write, waker: &Waker) -> io::Result<()> {
        let who = match waker.agent {
            Agent::Goroutine(index) => format!("goroutine {}", self.id(index)),
            Agent::Time => "a timer".to_owned(),
            Agent::Outside => "somebody outside".to_owned(),
        };
        let doubt = if waker.trust == Trust::Certain {
            String::new()
        } else {
            format!(" ({})", waker.trust.as_str())
        };
        writeln!(out, "        {}", clean(&format!("{who}{doubt} {}", waker.because)))
    }

    /// The chain from a goroutine to its end.
    fn chain(&self, out: &mut dyn Write, index: u32) -> io::Result<()> {
        let graph = &self.why.graph;
        let mut numbers = vec![self.id(index).to_string()];
        let mut at = index;
        while let Some(step) =
            graph.next.get(at as usize).copied().flatten().filter(|_| numbers.len() < LINKS)
        {
            numbers.push(self.id(step.to).to_string());
            at = step.to;
            if at == index {
                break;
            }
        }
        if numbers.len() > 1 {
            writeln!(out, "    chain: {}", numbers.join(" -> "))?;
        }
        match graph.roots.get(index as usize) {
            Some(Root::Ring(ring)) => {
                let ring = graph.rings.get(*ring as usize);
                let members = ring.map_or(0, |ring| ring.members.len());
                writeln!(out, "    it ends in a circle of {}", counted(members as u64, "goroutine"))
            }
            Some(Root::Goroutine(root)) if graph.fates.get(*root as usize) == Some(&Fate::Stuck) => {
                writeln!(out, "    nothing was found that could wake goroutine {}", self.id(*root))
            }
            _ => Ok(()),
        }
    }

    fn id(&self, index: u32) -> u64 {
        self.report.survey.goroutines().get(index as usize).map_or(0, |g| g.id.0)
    }

    fn place(&self, row: Row<'_>) -> String {
        place(&row.stack.frames, self.report.target.main_module.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_between_words() {
        let mut out = Vec::new();
        let text = "word ".repeat(40);
        paragraph(&mut out, "HEAD: ", text.trim_end(), 8, str::to_owned).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert_eq!(text.split_whitespace().filter(|w| *w == "word").count(), 40);
        assert!(text.lines().nth(1).unwrap().starts_with("        word"), "{text}");
    }
}
