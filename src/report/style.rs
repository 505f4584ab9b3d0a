//! Report: colours, by meaning. A plain palette prints nothing but the text.

use anstyle::{AnsiColor, Style};

/// Styles by what they mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Palette {
    /// Column heads and titles.
    pub title: Style,
    /// What the eye looks for: functions.
    pub name: Style,
    /// Where it is: files, addresses, creators.
    pub dim: Style,
    /// Goroutines that run or could.
    pub busy: Style,
    /// Goroutines that wait.
    pub waits: Style,
    /// What went wrong.
    pub bad: Style,
}

impl Palette {
    /// No colours.
    pub fn plain() -> Palette {
        Palette::default()
    }

    /// The sixteen colours that every terminal lets its user choose.
    pub fn coloured() -> Palette {
        let fg = |c: AnsiColor| c.on_default();
        Palette {
            title: Style::new().bold(),
            name: fg(AnsiColor::Cyan),
            dim: Style::new().dimmed(),
            busy: fg(AnsiColor::Green),
            waits: fg(AnsiColor::Yellow),
            bad: fg(AnsiColor::Red).bold(),
        }
    }
}

/// `text` in a style; the style's codes take no room and are left out when plain.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}
