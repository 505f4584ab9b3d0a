//! Report, the runtime's own text: how functions are named, and which are left out
//! (`funcNamePiecesForPrint`, `showfuncinfo`, `isExportedRuntime` of `runtime/traceback.go`).

use crate::image::layout::rules::{Brackets, FuncKind, Rules};
use std::borrow::Cow;

/// A function's name as the runtime prints it.
pub(super) fn printed(name: &str, brackets: Brackets) -> Cow<'_, str> {
    if name == "runtime.gopanic" {
        return Cow::Borrowed("panic");
    }
    let shortened = match brackets {
        Brackets::AsIs => None,
        Brackets::Dots => shorten(name),
        Brackets::KeepMiddle => shorten_both(name),
    };
    shortened.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// The name cut at its first `[` and its last `]`: what is before, between and after.
fn cut(name: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = name.split_once('[')?;
    let (inside, after) = rest.rsplit_once(']')?;
    Some((before, inside, after))
}

/// Since 1.21: the type arguments become `...`.
fn shorten(name: &str) -> Option<String> {
    let (before, _, after) = cut(name)?;
    Some(format!("{before}[...]{after}"))
}

/// Since 1.27: a generic method of a generic type has two lists, and keeps what is between them.
fn shorten_both(name: &str) -> Option<String> {
    let (before, inside, after) = cut(name)?;
    if !inside.contains('[') {
        return Some(format!("{before}[...]{after}"));
    }
    match gap(inside) {
        Gap::Between(from, to) => {
            let between = inside.get(from..to)?;
            Some(format!("{before}[...]{between}[...]{after}"))
        }
        Gap::None => Some(format!("{before}[...]{after}")),
        Gap::Malformed => None,
    }
}

/// Where the inside of the outermost brackets is outside of all.
enum Gap {
    /// Nowhere: there is one list.
    None,
    /// Between the two lists, in bytes.
    Between(usize, usize),
    /// The brackets make no sense.
    Malformed,
}

fn gap(inside: &str) -> Gap {
    let mut depth = 1_i64;
    let mut closed = None;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => continue,
        }
        match (byte, depth, closed) {
            (b'[', 1, Some(closed)) => return Gap::Between(closed, at),
            (b']', 0, _) => closed = Some(at + 1),
            (b']', ..0, _) => return Gap::Malformed,
            _ => {}
        }
    }
    if depth == 1 && closed.is_none() { Gap::None } else { Gap::Malformed }
}

/// Whether a function appears where the runtime's own frames are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shown {
    /// Yes.
    Always,
    /// No.
    Never,
    /// Unless it would be the first one.
    NotFirst,
    /// A wrapper of the compiler, otherwise shown: only when it called a panic.
    IfPanics,
}

impl Shown {
    pub(super) fn of(name: &str, kind: FuncKind, rules: &Rules) -> Shown {
        if matches!(kind, FuncKind::RunFinalizers | FuncKind::RunCleanups) && rules.finalizers_shown {
            return Shown::Always;
        }
        if name == "runtime.gopanic" {
            return Shown::NotFirst;
        }
        let users =
            name.contains('.') && name.strip_prefix("runtime.").is_none_or(|rest| is_exported(rest, rules));
        match (users, kind) {
            (true, FuncKind::Wrapper) => Shown::IfPanics,
            (true, _) => Shown::Always,
            (false, _) => Shown::Never,
        }
    }

    /// Whether it appears: `first` when nothing was printed yet, `callee` is what it called.
    pub(super) fn appears(self, first: bool, callee: FuncKind) -> bool {
        match self {
            Shown::Always => true,
            Shown::Never => false,
            Shown::NotFirst => !first,
            Shown::IfPanics => is_panic(callee),
        }
    }
}

/// Whether a wrapper that called this is shown (`elideWrapperCalling`).
fn is_panic(callee: FuncKind) -> bool {
    matches!(callee, FuncKind::Gopanic | FuncKind::Sigpanic | FuncKind::Panicwrap)
}

/// Whether what follows `runtime.` is exported. Until 1.22 only the first letter counts; since then
/// also methods of exported types are.
fn is_exported(name: &str, rules: &Rules) -> bool {
    let upper = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    if !rules.exported_methods_shown {
        return upper(name);
    }
    match name.rsplit_once('.') {
        None => upper(name),
        Some((receiver, method)) => {
            let pointer = receiver.strip_prefix("(*").and_then(|r| r.strip_suffix(')'));
            let receiver = pointer.unwrap_or(receiver);
            upper(method) && (receiver.is_empty() || upper(receiver))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layout::table::Chosen;
    use crate::image::layout::version::GoVersion;

    #[test]
    fn type_arguments_are_left_out_by_release() {
        let name = "main.F[go.shape.int,go.shape.*main.T[int]].func1";
        assert_eq!(printed(name, Brackets::AsIs), name);
        assert_eq!(printed(name, Brackets::Dots), "main.F[...].func1");
        assert_eq!(printed(name, Brackets::KeepMiddle), "main.F[...].func1");
        let both = "main.(*T[go.shape.int]).m[go.shape.[]string]";
        assert_eq!(printed(both, Brackets::Dots), "main.(*T[...]");
        assert_eq!(printed(both, Brackets::KeepMiddle), "main.(*T[...]).m[...]");
        assert_eq!(printed("main.a[b][c][d]", Brackets::KeepMiddle), "main.a[...][...]");
        for odd in ["main.f]x[", "main.a[b]]c[[d]", "main.a[b", "main.a[[b]"] {
            assert_eq!(printed(odd, Brackets::KeepMiddle), odd, "{odd}");
        }
        assert_eq!(printed("runtime.gopanic", Brackets::KeepMiddle), "panic");
    }

    #[test]
    fn what_is_the_runtimes_own_by_release() {
        let shown = |version: &str, name: &str, kind| {
            let rules = Rules::of(&Chosen::of(&GoVersion::parse(version)).unwrap()).unwrap();
            Shown::of(name, kind, &rules)
        };
        let normal = |version, name| shown(version, name, FuncKind::Normal) == Shown::Always;
        for version in ["go1.18.10", "go1.22.12", "go1.23.0", "go1.27.0"] {
            assert!(normal(version, "main.main") && normal(version, "runtime/debug.freeOSMemory"));
            assert!(normal(version, "runtime.GC") && normal(version, "internal/runtime/maps.fatal"));
            assert!(!normal(version, "runtime.gopark") && !normal(version, "_rt0_amd64_linux"));
            assert!(!normal(version, "runtime.(*mheap).Free"));
            assert_eq!(shown(version, "main.T.M", FuncKind::Wrapper), Shown::IfPanics);
            assert_eq!(shown(version, "runtime.gopanic", FuncKind::Gopanic), Shown::NotFirst);
        }
        for name in ["runtime.(*Frames).Next", "runtime.Error.Error"] {
            assert!(normal("go1.23.0", name));
        }
        assert!(!normal("go1.22.12", "runtime.(*Frames).Next"));
        assert!(normal("go1.22.12", "runtime.Error.Error"));
        assert!(!normal("go1.23.0", "runtime.Frames.next"));
        let finalizers = |version| shown(version, "runtime.runFinalizers", FuncKind::RunFinalizers);
        assert_eq!((finalizers("go1.25.0"), finalizers("go1.24.0")), (Shown::Always, Shown::Never));
    }
}
