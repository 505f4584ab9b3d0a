//! Base: the one error type of the library. A message names the thing and the reason; the hint, kept
//! apart, is the next step for the person.

use std::fmt;

/// What kind of failure it is: for callers and tests, which match on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such process, or it ended while it was looked at.
    NoSuchProcess,
    /// The kernel refused.
    PermissionDenied,
    /// The target is not a Go program.
    NotGo,
    /// A Go program of a release, word size or processor that is not decoded.
    Unsupported,
    /// The executable is missing, damaged, or another one than the target ran.
    BadExecutable,
    /// The core file is damaged beyond use.
    BadCore,
    /// The layout of the runtime's structures could not be settled.
    Layout,
    /// Memory of the target could not be read.
    Memory,
    /// A file could not be read or written.
    Io,
    /// The request itself makes no sense.
    Usage,
    /// A signal asked this program to end while the target was stopped; the target goes on.
    Interrupted,
}

/// A failure of the library. `Display` is one line without the hint and without the cause.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure that says `message`: lower case, no full stop, names the thing and the reason.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Error {
        Error { kind, message: message.to_string(), hint: None, source: None }
    }

    /// Adds the next step for the person who reads it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Error {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds what caused it.
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Box::new(source));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The next step, if one is known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Result of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;
