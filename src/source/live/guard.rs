//! Source, live: SIGINT, SIGTERM and SIGHUP while a target is stopped. Were they obeyed at once, the
//! kernel would let the target go and nothing would be harmed, but output would be cut off. With
//! [`install`] they wait for the end of the stop, which [`pending`] makes come early; outside of a
//! stop they do what they always do.

use crate::error::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

struct State {
    /// No target is stopped: signals act at once.
    free: Arc<AtomicBool>,
    /// The signal that came during a stop; 0 when none did.
    caught: Arc<AtomicUsize>,
    /// Stops in progress.
    holds: AtomicUsize,
}

static STATE: OnceLock<State> = OnceLock::new();

/// Held while handlers are installed: once is enough.
static INSTALLING: Mutex<()> = Mutex::new(());

/// From now on a signal to end waits for the end of a stop. For programs: a library leaves its
/// host's signals alone unless told.
pub fn install() -> Result<()> {
    let _only_us = INSTALLING.lock();
    if STATE.get().is_some() {
        return Ok(());
    }
    let free = Arc::new(AtomicBool::new(true));
    let caught = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal).unwrap_or_default();
        // In this order: what acts at once must not be noted first.
        flag::register_conditional_default(signal, Arc::clone(&free))
            .and_then(|_| flag::register_usize(signal, Arc::clone(&caught), number))
            .map_err(|e| Error::new(ErrorKind::Io, "cannot install signal handlers").because(e))?;
    }
    STATE.get_or_init(|| State { free, caught, holds: AtomicUsize::new(0) });
    Ok(())
}

/// The signal that came while a target was stopped and was not obeyed yet.
pub fn pending() -> Option<i32> {
    let number = STATE.get()?.caught.load(Ordering::Relaxed);
    i32::try_from(number).ok().filter(|n| *n != 0)
}

/// Does what the pending signal would have done, if there is one: usually ends this process. To be
/// called once the target goes on and output is cleaned up.
pub fn obey() {
    if let Some(signal) = pending() {
        // On failure the signal is unknown to the system: nothing to obey.
        drop(low_level::emulate_default_handler(signal));
    }
}

/// The error for work that a signal ended.
pub(super) fn interrupted(signal: i32) -> Error {
    let name = low_level::signal_name(signal).unwrap_or("a signal");
    Error::new(ErrorKind::Interrupted, format_args!("ended by {name}"))
}

/// While one exists, signals to end wait.
#[derive(Debug)]
pub(super) struct Hold(());

impl Hold {
    pub(super) fn new() -> Hold {
        if let Some(state) = STATE.get() {
            state.holds.fetch_add(1, Ordering::SeqCst);
            state.free.store(false, Ordering::SeqCst);
        }
        Hold(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(state) = STATE.get() {
            let before = state.holds.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if !matches!(before, Ok(n) if n > 1) {
                state.free.store(true, Ordering::SeqCst);
            }
        }
    }
}
