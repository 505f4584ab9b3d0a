//! Cli: says on a terminal what takes so long. Nothing is shown of what is done within a second, and
//! nothing stays.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long nothing is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// From one picture to the next.
const PERIOD: Duration = Duration::from_millis(200);

/// Goes to the beginning of the line and erases it.
const ERASE: &str = "\r\x1b[K";

struct State {
    phase: &'static str,
    over: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A line on stderr that tells the phase; gone with this.
pub struct StatusLine {
    shared: Shared,
    drawing: Option<JoinHandle<()>>,
}

impl StatusLine {
    /// Begins if `wanted` and stderr is a terminal.
    pub fn start(wanted: bool) -> StatusLine {
        let screen = wanted && io::stderr().is_terminal();
        StatusLine::on(screen.then(|| Box::new(io::stderr()) as Box<dyn Write + Send>), PATIENCE)
    }

    fn on(screen: Option<Box<dyn Write + Send>>, patience: Duration) -> StatusLine {
        let shared: Shared = Arc::new((Mutex::new(State { phase: "", over: false }), Condvar::new()));
        let drawing = screen.and_then(|screen| {
            let shared = Arc::clone(&shared);
            // Without a thread to spare there is no line.
            thread::Builder::new().spawn(move || draw(&shared, screen, patience)).ok()
        });
        StatusLine { shared, drawing }
    }

    /// The next phase begins.
    pub fn phase(&self, phase: &'static str) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).phase = phase;
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.shared.1.notify_all();
        if let Some(drawing) = self.drawing.take() {
            // It only writes: it cannot panic.
            let _ = drawing.join();
        }
    }
}

fn draw(shared: &Shared, mut screen: Box<dyn Write + Send>, patience: Duration) {
    let begin = Instant::now();
    let (mut wait, mut drawn) = (patience, false);
    let mut state = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let woken = shared.1.wait_timeout_while(state, wait, |state| !state.over);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
        if state.over {
            break;
        }
        let picture = format!("{ERASE}allgs: {} ({} s)", state.phase, begin.elapsed().as_secs());
        // A terminal that is gone ends nothing.
        let _ = screen.write_all(picture.as_bytes()).and_then(|()| screen.flush());
        (wait, drawn) = (PERIOD, true);
    }
    if drawn {
        let _ = screen.write_all(ERASE.as_bytes()).and_then(|()| screen.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Screen(mpsc::Sender<String>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_phase_is_told_and_nothing_stays() {
        let (send, pictures) = mpsc::channel();
        let line = StatusLine::on(Some(Box::new(Screen(send))), Duration::ZERO);
        line.phase("unwinding");
        // The first picture may be of before.
        let told = (0..100).map(|_| pictures.recv_timeout(Duration::from_secs(60)).unwrap());
        assert!({ told }.any(|picture| picture.contains("allgs: unwinding (")));
        drop(line);
        assert_eq!(pictures.iter().last().as_deref(), Some(ERASE));
    }

    #[test]
    fn what_is_done_soon_is_not_told() {
        let (send, pictures) = mpsc::channel();
        drop(StatusLine::on(Some(Box::new(Screen(send))), Duration::from_secs(3600)));
        assert_eq!(pictures.iter().count(), 0);
    }
}
