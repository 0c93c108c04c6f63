//! Commands that go on until somebody ends them. The work is done by a thread of its own, so that signals are obeyed at
//! once even while the work waits for a server, or for a reader of its output.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::{
    cli::{Failure, term},
    sys::{
        signals::{ViewSignal, block_for_view, wait_in_view},
        tty,
    },
};

/// How long a terminal may take for the few bytes that show its cursor again.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often it is looked at whether anybody still reads the output.
const LOOK: Duration = Duration::from_secs(1);

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &[u8] = b"\x1b[?25h";

/// What the work sees of its terminal.
#[derive(Debug)]
pub struct Screen {
    is_drawn: bool,
    was_resized: Mutex<bool>,
    changed: Condvar,
}

impl Screen {
    /// Waits, but not longer than until the terminal has another size. True if it has.
    pub fn wait(&self, time: Duration) -> bool {
        let resized = self.was_resized.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(resized, time, |resized| !*resized);
        let (mut resized, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *resized)
    }

    /// Shows `page` in place of what was there. Lines that are too long are cut, and lines that do not fit left out.
    pub fn draw(&self, page: &str) -> Result<(), Failure> {
        let (columns, rows) = tty::size(io::stdout().as_fd()).unwrap_or((80, 24));
        let mut text = String::from("\x1b[H");
        for (place, line) in page.lines().take(rows).enumerate() {
            if place > 0 {
                text.push_str("\r\n");
            }
            text.push_str(&cut(line, columns));
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        term::print(&text)
    }

    fn resize(&self) {
        *self.was_resized.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// The first `columns` characters of a line; escape sequences of colours have no width.
fn cut(line: &str, columns: usize) -> String {
    let (mut text, mut width, mut in_escape) = (String::with_capacity(line.len()), 0, false);
    for c in line.chars() {
        let has_width = !in_escape && c != '\x1b';
        if has_width {
            width += 1;
        }
        in_escape = (in_escape && c != 'm') || c == '\x1b';
        if !has_width || width <= columns {
            text.push(c);
        }
    }
    text
}

/// Does `work` until it ends, or until the user has seen enough. With `is_drawn` the screen belongs to the work: it is
/// cleared at first, and the cursor hidden.
pub fn run(
    is_drawn: bool,
    work: impl FnOnce(&Screen) -> Result<(), Failure> + Send + 'static,
) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::new(format!("cannot wait for signals: {error}"));
    block_for_view().map_err(failed)?;
    let screen = Arc::new(Screen { is_drawn, was_resized: Mutex::new(false), changed: Condvar::new() });
    let shared = Arc::clone(&screen);
    let worker = thread::Builder::new()
        .spawn(move || {
            let begun = if is_drawn { term::print(&format!("{HIDE_CURSOR}\x1b[2J")) } else { Ok(()) };
            let failure = match begun.and_then(|()| work(&shared)) {
                Ok(()) | Err(Failure::OutputClosed) => return end(&shared, 0),
                Err(failure) => failure,
            };
            shared.restore();
            failure.report();
            std::process::exit(1);
        })
        .map_err(failed)?;
    loop {
        match wait_in_view(LOOK) {
            Some(ViewSignal::Interrupt) => end(&screen, 0),
            Some(ViewSignal::Terminate) => end(&screen, 143),
            Some(ViewSignal::Resize) => screen.resize(),
            None if tty::is_abandoned(io::stdout().as_fd()) => end(&screen, 0),
            // It ends the program itself, unless it has panicked.
            None if worker.is_finished() => end(&screen, 1),
            None => {}
        }
    }
}

/// Ends the program with the terminal as it was.
fn end(screen: &Screen, code: i32) {
    screen.restore();
    std::process::exit(code);
}

impl Screen {
    /// Shows the cursor again below the page. A terminal that takes nothing does not hold this up.
    fn restore(&self) {
        let Ok(out) = io::stdout().as_fd().try_clone_to_owned() else { return };
        if !self.is_drawn {
            return;
        }
        let (done, wait) = mpsc::channel();
        // Not through the standard library's handle, which the work may hold while it waits.
        let write = move || {
            let mut out = File::from(out);
            let _ = out.write_all(SHOW_CURSOR).and_then(|()| out.write_all(b"\r\n"));
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(write).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        assert_eq!(cut("Hello", 5), "Hello");
        assert_eq!(cut("Hello", 3), "Hel");
        assert_eq!(cut("\x1b[31mHello\x1b[0m world", 3), "\x1b[31mHel\x1b[0m");
        assert_eq!(cut("· ä", 2), "· ");
        assert_eq!(cut("", 0), "");
    }
}
