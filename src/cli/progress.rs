//! How far a long command has come: one line on a terminal that is drawn again, nothing elsewhere.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use super::term::print_stderr;

/// How often the line is drawn again.
const REDRAW: Duration = Duration::from_millis(100);

/// Characters of the bar.
const WIDTH: u64 = 30;

/// Counts steps and shows them on standard error if that is a terminal. The line is gone when the value is dropped.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Nothing done yet of `total` steps; zero: the total is not known. `what` comes first on the line.
    pub fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, done: 0, drawn: None, shown: io::stderr().is_terminal() }
    }

    /// `steps` more are done.
    pub fn add(&mut self, steps: u64) {
        self.done = self.done.saturating_add(steps);
        if self.shown && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            print_stderr(&format!("\r{}\x1b[K", line(self.what, self.done, self.total)));
        }
    }

    /// How many steps are done.
    pub fn done(&self) -> u64 {
        self.done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            print_stderr("\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    if total == 0 {
        return format!("{what} {done}");
    }
    // More may be done than was counted before: keys are made meanwhile.
    let part = |of: u64| done.min(total).saturating_mul(of) / total;
    let full = part(WIDTH);
    let bar = |mark: &str, times: u64| mark.repeat(usize::try_from(times).unwrap_or(0));
    format!("{what} [{}{}] {:>3} % {done} of {total}", bar("#", full), bar(".", WIDTH - full), part(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_how_far_it_is() {
        assert_eq!(line("Sealing", 7, 0), "Sealing 7");
        assert_eq!(line("Sealing", 0, 3), format!("Sealing [{}]   0 % 0 of 3", ".".repeat(30)));
        assert_eq!(
            line("Sealing", 1, 3),
            format!("Sealing [{}{}]  33 % 1 of 3", "#".repeat(10), ".".repeat(20))
        );
        assert_eq!(line("Sealing", 4, 3), format!("Sealing [{}] 100 % 4 of 3", "#".repeat(30)));
    }

    #[test]
    fn steps_are_counted_also_where_nothing_is_shown() {
        let mut progress = Progress::new("Counting", 0);
        progress.add(2);
        progress.add(3);
        assert_eq!(progress.done(), 5);
    }
}
