//! What a running server prints on stdout and stderr. Nobody ever waits for whoever reads that, be it a pipe that nobody
//! empties or a terminal that is held: a thread for each stream writes, and what does not fit into its queue is lost and
//! counted.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most bytes that wait for a stream's thread; as many again may be in its hands.
const MAX_QUEUED: usize = 256 << 10;

/// Stack of a stream's thread, which does little. All of it is locked when memory is locked.
const STACK: usize = 64 << 10;

/// One stream and its queue.
struct Stream {
    name: &'static str,
    open: fn() -> Box<dyn Write>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    bytes: Vec<u8>,
    /// There is a thread; without one, whoever prints writes himself.
    is_running: bool,
    /// The thread has bytes in its hands.
    is_writing: bool,
    lost: u64,
}

static STDOUT: Stream = Stream::new("kes-stdout", || Box::new(io::stdout()));
static STDERR: Stream = Stream::new("kes-stderr", || Box::new(io::stderr()));

/// Starts the threads, for a process that must not wait for its readers from now on. Panics are reported the same way.
pub fn start() -> io::Result<()> {
    STDOUT.start()?;
    STDERR.start()?;
    std::panic::set_hook(Box::new(|panic| error(&format!("{panic}\n"))));
    Ok(())
}

/// Prints `text`, whole lines, on stdout.
pub fn print(text: &str) {
    STDOUT.print(text);
}

/// Prints `text`, whole lines, on stderr.
pub fn error(text: &str) {
    STDERR.print(text);
}

/// How many texts were lost because nobody read the stream.
pub fn lost() -> u64 {
    STDOUT.queue().lost + STDERR.queue().lost
}

/// Waits until everything is written, or as long as `patience`.
pub fn flush(patience: Duration) {
    let end = Instant::now() + patience;
    STDOUT.flush(end);
    STDERR.flush(end);
}

impl Stream {
    const fn new(name: &'static str, open: fn() -> Box<dyn Write>) -> Self {
        let queue = Queue { bytes: Vec::new(), is_running: false, is_writing: false, lost: 0 };
        Self { name, open, queue: Mutex::new(queue), changed: Condvar::new() }
    }

    fn start(&'static self) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(self.name.into()).stack_size(STACK);
        thread.spawn(move || self.run())?;
        self.queue().is_running = true;
        Ok(())
    }

    fn print(&self, text: &str) {
        let mut queue = self.queue();
        if !queue.is_running {
            return self.write(text.as_bytes());
        }
        if queue.bytes.len() + text.len() > MAX_QUEUED {
            queue.lost += 1;
            return;
        }
        queue.bytes.extend_from_slice(text.as_bytes());
        drop(queue);
        self.changed.notify_all();
    }

    /// Writes what is queued, for ever.
    fn run(&self) {
        let mut bytes = Vec::new();
        loop {
            let queue = self.changed.wait_while(self.queue(), |queue| queue.bytes.is_empty());
            let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut queue.bytes, &mut bytes);
            queue.is_writing = true;
            drop(queue);
            self.write(&bytes);
            bytes.clear();
            self.queue().is_writing = false;
            self.changed.notify_all();
        }
    }

    fn write(&self, bytes: &[u8]) {
        // A stream that is closed or full does not matter to the server.
        let mut stream = (self.open)();
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    fn flush(&self, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        let is_busy = |queue: &mut Queue| !queue.bytes.is_empty() || queue.is_writing;
        drop(self.changed.wait_timeout_while(self.queue(), left, is_busy));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    static IS_HELD: AtomicBool = AtomicBool::new(true);
    static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    /// A reader that takes nothing until it is let go.
    struct Held;

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            while IS_HELD.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            WRITTEN.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_lost_is_counted() {
        static STREAM: Stream = Stream::new("held", || Box::new(Held));
        STREAM.start().unwrap();
        let line = "x".repeat(1023) + "\n";
        let count = 4 * MAX_QUEUED / line.len();
        (0..count).for_each(|_| STREAM.print(&line));
        STREAM.flush(Instant::now());
        let lost = STREAM.queue().lost as usize;
        assert!((1..count).contains(&lost), "{lost}");
        IS_HELD.store(false, Ordering::SeqCst);
        STREAM.flush(Instant::now() + Duration::from_secs(60));
        assert_eq!(WRITTEN.lock().unwrap().len(), (count - lost) * line.len(), "whole lines");
        STREAM.print("more\n");
        STREAM.flush(Instant::now() + Duration::from_secs(60));
        assert!(WRITTEN.lock().unwrap().ends_with(b"\nmore\n"));
    }
}
