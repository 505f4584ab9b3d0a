//! Analysis: which frames of a stack matter to a person. Two questions: is a frame the runtime's own
//! business (hidden unless all is asked for), and which frame says where in the program a goroutine is.
//!
//! Both go by the function's name, as the runtime's own `showframe` does (runtime/traceback.go).

use crate::unwind::{Frame, FrameKind};

/// Packages of the standard library, by the first element of their path. A program's own packages
/// begin with a host name, or with the name of its main module, which is asked first.
const STANDARD: &[&str] = &[
    "archive",
    "bufio",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "type",
    "unicode",
    "unique",
    "unsafe",
    "vendor",
    "weak",
];

/// Packages that only carry a wait: the frame that says more is further out.
const PLUMBING: &[&str] = &[
    "bufio",
    "crypto/tls",
    "internal",
    "io",
    "net",
    "os",
    "os/exec",
    "os/signal",
    "runtime",
    "sync",
    "syscall",
    "time",
    "type",
    "vendor",
];

/// Runtime functions that are not where a goroutine of the runtime itself is, but how it got parked or
/// started.
const MACHINERY: &[&str] = &[
    "runtime.goexit",
    "runtime.gopark",
    "runtime.goparkunlock",
    "runtime.mcall",
    "runtime.mstart",
    "runtime.systemstack",
    "runtime.systemstack_switch",
];

/// The import path of the package that a function belongs to; empty for C.
///
/// The dots of a path's last element are escaped in symbol names (`gopkg.in/yaml%2ev3.Unmarshal`), so
/// the first dot after the last slash ends the path. Type arguments may hold slashes and come later.
pub fn package(function: &str) -> &str {
    let plain = function.split_once('[').map_or(function, |(before, _)| before);
    let last = plain.rfind('/').map_or(0, |slash| slash + 1);
    let dot = plain.get(last..).and_then(|name| name.find(['.', ':']));
    dot.and_then(|dot| plain.get(..last + dot)).unwrap_or("")
}

/// A function's name without the directories of its package: `transport.(*Conn).Read`.
pub fn short_name(function: &str) -> &str {
    let package = package(function);
    package.rfind('/').and_then(|slash| function.get(slash + 1..)).unwrap_or(function)
}

/// Whether a frame is the runtime's own business, which its traceback leaves out of a user's stack. A
/// panic is the user's.
pub fn is_runtimes_own(frame: &Frame) -> bool {
    if frame.kind == FrameKind::C {
        return false;
    }
    match frame.function.strip_prefix("runtime.") {
        Some(name) => name != "gopanic" && !is_exported(name),
        None => !frame.function.contains('.'),
    }
}

/// Whether a name of the runtime is exported: `Gosched`, `(*Frames).Next`.
fn is_exported(name: &str) -> bool {
    let (receiver, function) = name.rsplit_once('.').unwrap_or(("", name));
    let upper = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    let receiver = receiver.trim_start_matches("(*").trim_end_matches(')');
    upper(function) && (receiver.is_empty() || upper(receiver))
}

/// Index of the frame that says where in the program a goroutine is: the innermost of the program's own
/// code; in a stack without any, the innermost that does more than carry a wait; else the outermost.
pub fn deciding(frames: &[Frame], main_module: Option<&str>) -> Option<usize> {
    let first = |wanted: &dyn Fn(&str) -> bool| {
        frames.iter().position(|f| f.kind == FrameKind::Go && wanted(package(&f.function)))
    };
    first(&|package| is_programs_own(package, main_module))
        .or_else(|| first(&|package| !package.is_empty() && !is_plumbing(package)))
        .or_else(|| frames.iter().rposition(|f| !MACHINERY.contains(&&*f.function)))
        .or(frames.len().checked_sub(1))
}

/// Whether a function is of the standard library, as far as its name tells.
pub fn is_standard(function: &str, main_module: Option<&str>) -> bool {
    let package = package(function);
    !package.is_empty() && package != "main" && !is_programs_own(package, main_module)
}

fn is_programs_own(package: &str, main_module: Option<&str>) -> bool {
    let of_main = main_module.is_some_and(|module| is_within(package, module));
    let first = package.split('/').next().unwrap_or(package);
    !package.is_empty() && (of_main || !STANDARD.contains(&first))
}

fn is_plumbing(package: &str) -> bool {
    let in_tree = |root: &str| is_within(package, root);
    PLUMBING.contains(&package) || ["runtime", "internal", "sync", "vendor"].into_iter().any(in_tree)
}

/// Whether `package` is `root` or below it.
fn is_within(package: &str, root: &str) -> bool {
    package.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::unwind::Trust;

    fn stack(functions: &[&str]) -> Vec<Frame> {
        let frame = |name: &&str| Frame {
            function: (*name).into(),
            file: None,
            line: 0,
            pc: Addr::NULL,
            entry: Addr::NULL,
            inlined: false,
            kind: FrameKind::Go,
            trust: Trust::Exact,
        };
        functions.iter().map(frame).collect()
    }

    fn decide<'a>(functions: &[&'a str], module: Option<&str>) -> Option<&'a str> {
        deciding(&stack(functions), module).and_then(|i| functions.get(i).copied())
    }

    #[test]
    fn packages_of_all_kinds_of_names() {
        for (name, expected) in [
            ("main.main", "main"),
            ("net/http.(*conn).serve", "net/http"),
            ("gopkg.in/yaml%2ev3.Unmarshal", "gopkg.in/yaml%2ev3"),
            ("example.com/a/b.F[...]", "example.com/a/b"),
            ("main.F[go.shape.struct { example.com/x.T }]", "main"),
            ("type:.eq.main.T", "type"),
            ("pthread_cond_wait", ""),
            ("", ""),
            ("/", ""),
        ] {
            assert_eq!(package(name), expected, "{name}");
        }
        assert_eq!(short_name("google.golang.org/grpc/transport.(*Conn).Read"), "transport.(*Conn).Read");
        assert_eq!(short_name("main.F[example.com/x.T]"), "main.F[example.com/x.T]");
    }

    #[test]
    fn the_deciding_frame_is_the_programs_own() {
        let read = ["runtime.gopark", "internal/poll.(*FD).Read", "net.(*conn).Read", "bufio.(*Reader).Peek"];
        let served = [&read[..], &["net/http.(*conn).serve", "runtime.goexit"]].concat();
        assert_eq!(decide(&served, None), Some("net/http.(*conn).serve"));
        let handled = [&read[..], &["example.com/app.handle", "net/http.(*conn).serve"]].concat();
        assert_eq!(decide(&handled, None), Some("example.com/app.handle"));
        // A module may be named like a package of the standard library.
        assert_eq!(decide(&["sync.(*Mutex).Lock", "log/app.F", "main.main"], None), Some("main.main"));
        assert_eq!(decide(&["sync.(*Mutex).Lock", "log/app.F", "main.main"], Some("log")), Some("log/app.F"));
    }

    #[test]
    fn the_runtimes_own_goroutines_are_where_they_loop() {
        assert_eq!(
            decide(
                &["runtime.gopark", "runtime.bgsweep", "runtime.gcenable.gowrap1", "runtime.goexit"],
                None
            ),
            Some("runtime.gcenable.gowrap1")
        );
        assert_eq!(
            decide(&["runtime.gopark", "runtime.runfinq", "runtime.goexit"], None),
            Some("runtime.runfinq")
        );
        assert_eq!(decide(&["runtime.goexit"], None), Some("runtime.goexit"));
        assert_eq!(decide(&[], None), None);
    }

    #[test]
    fn frames_of_the_runtime_are_told_from_the_users() {
        let own = |name: &str| stack(&[name]).first().map(is_runtimes_own);
        assert_eq!(own("runtime.gopark"), Some(true));
        assert_eq!(own("runtime.(*timer).stop"), Some(true));
        assert_eq!(own("runtime.(*Pinner).unpin"), Some(true));
        assert_eq!(own("runtime.gopanic"), Some(false));
        assert_eq!(own("runtime.Gosched"), Some(false));
        assert_eq!(own("runtime.(*Frames).Next"), Some(false));
        assert_eq!(own("main.main"), Some(false));
        assert_eq!(own("_rt0_amd64"), Some(true));
    }
}
