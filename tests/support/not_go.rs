//! A process that is not of Go.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A child that waits for input; killed when this is dropped.
pub struct NotGo(pub Child);

impl NotGo {
    /// Starts it and lets it answer once: a child is there before the kernel has loaded its program.
    pub fn start() -> NotGo {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        child.stdin.as_mut().expect("stdin").write_all(b"loaded\n").expect("it reads");
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut answer).expect("it answers");
        assert_eq!(answer, "loaded\n");
        NotGo(child)
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for NotGo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
