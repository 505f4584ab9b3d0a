//! Image, layout: Go's version strings. The only type by which releases are told apart; it is compared
//! inside this folder alone.

use std::fmt;

/// A release: `go1.MINOR.PATCH`. The major number is 1 in all that is decoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Release {
    /// 18 to 27 and later.
    pub minor: u16,
    /// 0 for the first.
    pub patch: u16,
}

impl Release {
    /// Release 1.`minor`.`patch`.
    pub const fn new(minor: u16, patch: u16) -> Release {
        Release { minor, patch }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}.{}", self.minor, self.patch)
    }
}

/// The version of the Go toolchain that built a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoVersion {
    /// The text as the toolchain wrote it, e.g. `go1.24.3 X:nogreenteagc`.
    pub text: String,
    /// The release, if the text names one. `devel` builds name the release they lead to, or none.
    pub release: Option<Release>,
    /// Whether the text says no more than the release: no vendor's suffix, no experiment, no
    /// release candidate. Built-in tables are exact for these alone.
    pub plain: bool,
}

impl GoVersion {
    /// Reads a version text. Anything is accepted; what can't be understood has no release.
    pub fn parse(text: &str) -> GoVersion {
        let found = find_release(text);
        GoVersion {
            text: text.to_owned(),
            release: found.map(|(release, _)| release),
            plain: found.is_some_and(|(_, rest)| rest.is_empty()),
        }
    }
}

/// First `go1.MINOR[.PATCH]` in the text and what follows it.
fn find_release(text: &str) -> Option<(Release, &str)> {
    let (before, mut rest) = text.split_once("go1.")?;
    let mut number = || {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (now, later) = rest.split_at(digits);
        rest = later;
        now.parse::<u16>().ok()
    };
    let minor = number()?;
    let mut patch = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (now, later) = after.split_at(digits);
        patch = now.parse().ok()?;
        rest = later;
    }
    let rest = if before.is_empty() { rest } else { text };
    Some((Release { minor, patch }, rest))
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_all_shapes() {
        let plain = |t: &str| (GoVersion::parse(t).release, GoVersion::parse(t).plain);
        assert_eq!(plain("go1.18"), (Some(Release::new(18, 0)), true));
        assert_eq!(plain("go1.27.3"), (Some(Release::new(27, 3)), true));
        assert_eq!(plain("go1.27.3 X:nogreenteagc"), (Some(Release::new(27, 3)), false));
        assert_eq!(plain("go1.21rc2"), (Some(Release::new(21, 0)), false));
        assert_eq!(plain("devel go1.25-abcdef Mon"), (Some(Release::new(25, 0)), false));
        assert_eq!(plain("devel +abc"), (None, false));
        assert_eq!(plain("go1.22.4-fips"), (Some(Release::new(22, 4)), false));
        assert_eq!(plain("go1.99999999"), (None, false));
    }
}
