//! Report, the runtime's own text: the line over each goroutine (`goroutineheader` of
//! `runtime/traceback.go`).

use super::Printer;
use crate::addr::Addr;
use crate::image::Image;
use crate::image::layout::field::Field;
use crate::image::layout::rules::{BubbleText, Durable, LabelsInHeader};
use crate::runtime::labels::labels;
use crate::runtime::{G, M, Status};
use std::io::Write as _;

/// `synctestGroup.root`, 1.24 (`runtime/synctest.go`).
const GROUP_ROOT: Field<Addr> = Field::at(88);

/// `synctestBubble.id`, since 1.25 (`runtime/synctest.go`).
const BUBBLE_ID: Field<u64> = Field::at(72);

impl Printer<'_> {
    /// Prints the line over `g`.
    pub(super) fn header(&mut self, g: &G, m: Option<&M>, verbose: bool) {
        self.add(format_args!("goroutine {}", g.id.0));
        if verbose && self.rules().header_gp_m {
            match m {
                Some(m) => self.add(format_args!(" gp={} m={} mp={}", g.at, m.id, m.at)),
                None => self.add(format_args!(" gp={} m=nil", g.at)),
            }
        }
        let status = status(g, self.image());
        self.add(format_args!(" [{status}"));
        if g.status == Status::Leaked {
            self.add(format_args!(" (leaked)"));
        }
        if g.scan {
            self.add(format_args!(" (scan)"));
        }
        if self.is_durable(g) && !status.ends_with("(durable)") {
            self.add(format_args!(" (durable)"));
        }
        if let Some(minutes) = minutes(g) {
            self.add(format_args!(", {minutes} minutes"));
        }
        if !g.lockedm.is_null() {
            self.add(format_args!(", locked to thread"));
        }
        self.bubble(g);
        let labels_at = shown_labels(self.image());
        if labels_at == LabelsInHeader::Inside {
            self.labels(g, " labels:{", |_| true);
        }
        self.add(format_args!("]"));
        if labels_at == LabelsInHeader::After {
            self.labels(g, " {", needs_quotes);
        }
        self.add(format_args!(":\n"));
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory can't fail.
        let _ = self.out.write_fmt(text);
    }

    /// Whether it waits for something inside of its bubble only.
    fn is_durable(&self, g: &G) -> bool {
        let rules = self.rules();
        let idle = !g.bubble.is_null() && rules.idle_in_synctest.contains(&g.waitreason);
        match rules.durable {
            Durable::Never => false,
            Durable::IdleReason => idle,
            Durable::IdleReasonWaiting => idle && g.status == Status::Waiting,
        }
    }

    fn bubble(&mut self, g: &G) {
        if g.bubble.is_null() {
            return;
        }
        let memory = self.unwinder.memory();
        let text = match self.rules().bubble {
            BubbleText::None => None,
            BubbleText::Group => GROUP_ROOT
                .read(memory, g.bubble)
                .and_then(|root| self.image().layouts.g.goid.read(memory, root))
                .map(|id| format!(", synctest group {id}"))
                .ok(),
            BubbleText::Bubble => {
                BUBBLE_ID.read(memory, g.bubble).map(|id| format!(", synctest bubble {id}")).ok()
            }
        };
        self.out.extend(text.unwrap_or_default().bytes());
    }

    fn labels(&mut self, g: &G, open: &str, quoted: fn(&str) -> bool) {
        let labels = labels(g, self.image(), self.unwinder.memory()).unwrap_or_default();
        if labels.is_empty() {
            return;
        }
        self.out.extend(open.bytes());
        for (n, (key, value)) in labels.iter().enumerate() {
            if n > 0 {
                self.out.extend(b", ");
            }
            write_label(&mut self.out, key, quoted);
            self.out.extend(b": ");
            write_label(&mut self.out, value, quoted);
        }
        self.out.push(b'}');
    }
}

/// The word for what it does: the reason, if it waits for one.
fn status<'a>(g: &G, image: &'a Image) -> &'a str {
    if matches!(g.status, Status::Waiting | Status::Leaked) && g.waitreason != 0 {
        let reason = image.wait_reasons.get(usize::from(g.waitreason));
        return reason.map_or("unknown wait reason", String::as_str);
    }
    match g.status {
        Status::Idle => "idle",
        Status::Runnable => "runnable",
        Status::Running => "running",
        Status::Syscall => "syscall",
        Status::Waiting => "waiting",
        Status::Dead => "dead",
        Status::Copystack => "copystack",
        Status::Preempted => "preempted",
        Status::Leaked => "leaked",
        Status::DeadExtra => "waiting for cgo callback",
        Status::Unknown(_) => "???",
    }
}

/// Full minutes for which it is known to be blocked, if there are any.
fn minutes(g: &G) -> Option<u64> {
    matches!(g.status, Status::Waiting | Status::Syscall).then_some(())?;
    let minutes = g.waiting_at_least?.as_secs() / 60;
    (minutes >= 1).then_some(minutes)
}

/// Where labels stand, if the target prints them: the build's setting decides, else the release's
/// default. What the environment of the process says is not looked at.
fn shown_labels(image: &Image) -> LabelsInHeader {
    let rules = &image.rules;
    let settings = image.build.settings.iter().find(|(key, _)| key == "DefaultGODEBUG");
    let set = settings.and_then(|(_, list)| {
        list.split(',').filter_map(|one| one.strip_prefix("tracebacklabels=")).next_back()
    });
    match set {
        Some("1") => rules.labels_in_header,
        Some(_) => LabelsInHeader::Nowhere,
        // What is printed inside of the brackets must be asked for.
        None if rules.labels_in_header == LabelsInHeader::Inside => LabelsInHeader::Nowhere,
        None => rules.labels_in_header,
    }
}

/// Whether a text has other characters than those that are printed bare.
fn needs_quotes(text: &str) -> bool {
    !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_'))
}

fn write_label(out: &mut Vec<u8>, text: &str, quoted: fn(&str) -> bool) {
    if !quoted(text) {
        out.extend(text.bytes());
        return;
    }
    out.push(b'"');
    for c in text.chars() {
        write_escaped(out, c);
    }
    out.push(b'"');
}

/// One character of a quoted text (`printquoted` of `runtime/print.go`).
fn write_escaped(out: &mut Vec<u8>, c: char) {
    let text = match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\\' | '"' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        '\0'..'\x7f' => format!("\\x{:02x}", u32::from(c)),
        '\x7f'..='\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        _ => format!("\\U{:08x}", u32::from(c)),
    };
    out.extend(text.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_as_the_runtime_does() {
        let written = |text: &str, quoted: fn(&str) -> bool| {
            let mut out = Vec::new();
            write_label(&mut out, text, quoted);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written("/pay_1.0", needs_quotes), "/pay_1.0");
        assert_eq!(written("/pay_1.0", |_| true), "\"/pay_1.0\"");
        assert_eq!(written("a b", needs_quotes), "\"a b\"");
        assert_eq!(written("", needs_quotes), "");
        let odd = "\n\r\t\\\"\u{1}\u{7f}\u{e9}\u{1f600}~";
        assert_eq!(written(odd, needs_quotes), r#""\n\r\t\\\"\x01\u007f\u00e9\U0001f600~""#);
    }
}
