//! Runs the real program as a client: in pipes and on a terminal of its own (by `script`), alive or to its end.
#![allow(dead_code)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::support::{Server, program};

/// Nothing that a test waits for takes this long, on the slowest of machines.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: code(output.status),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The exit status as a shell has it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// Names and values of the environment of a client; it has no others but `PATH` and `TERM`.
pub type Env<'a> = &'a [(&'a str, &'a str)];

pub fn client(dir: &Path, env: Env<'_>, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    prepare(&mut command, dir, env);
    command.args(args).stdin(Stdio::null());
    command
}

fn prepare(command: &mut Command, dir: &Path, env: Env<'_>) {
    command.current_dir(dir).env_clear().env("TERM", "xterm").env("KES", program());
    command.env("PATH", std::env::var_os("PATH").unwrap()).envs(env.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Runs the program in pipes to its end, with `input` on its standard input.
pub fn piped(dir: &Path, env: Env<'_>, args: &[&str], input: &str) -> Ran {
    let mut child = client(dir, env, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not want it may have ended already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

/// A shell line on a terminal of its own; `$KES` is the program.
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    pub fn start(dir: &Path, env: Env<'_>, line: &str) -> Self {
        let mut command = Command::new("script");
        prepare(&mut command, dir, env);
        let mut child = command
            .args(["-qefc", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` is installed");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut output, shared) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = output.read(&mut piece) {
                bytes.extend_from_slice(&piece[..n]);
                *shared.lock().unwrap() = String::from_utf8_lossy(&bytes).replace('\r', "");
            }
        });
        Self { keys: child.stdin.take().unwrap(), child, shown }
    }

    pub fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until `is_so` of what has been shown.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        wait_for(&format!("{what} in {:?}", self.shown()), || is_so(&self.shown()));
    }

    pub fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end; the exit status and all that was shown.
    pub fn end(mut self) -> (i32, String) {
        let mut status = None;
        wait_for("the end of the program", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // The reader has all of it when the other end is closed.
        wait_for("the rest of the output", || Arc::strong_count(&self.shown) == 1);
        (code(status.unwrap()), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a shell line on a terminal to its end.
pub fn on_terminal(dir: &Path, env: Env<'_>, line: &str) -> (i32, String) {
    Terminal::start(dir, env, line).end()
}

/// A program that goes on, in pipes.
pub struct Running {
    pub child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = collect(child.stdout.take().unwrap());
        let errors = collect(child.stderr.take().unwrap());
        Self { child, lines, errors }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }

    /// Sends a signal by its name and waits for the end.
    pub fn stop(mut self, signal: &str) -> i32 {
        send_signal(self.child.id(), signal);
        end(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&lines);
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).for_each(|line| shared.lock().unwrap().push(line));
    });
    lines
}

pub fn send_signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success());
}

/// Waits for the end of a process; its exit status as a shell has it.
pub fn end(child: &mut Child) -> i32 {
    let mut status = None;
    wait_for("the end of the program", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    code(status.unwrap())
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "no sign of {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for some characters of one line.
pub fn is_like(text: &str, pattern: &str) -> bool {
    fn line_is_like(line: &str, pattern: &str) -> bool {
        match pattern.split_once('*') {
            None => line == pattern,
            Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
                (0..=rest.len()).any(|at| rest.is_char_boundary(at) && line_is_like(&rest[at..], after))
            }),
        }
    }
    let (lines, patterns): (Vec<_>, Vec<_>) = (text.split('\n').collect(), pattern.split('\n').collect());
    lines.len() == patterns.len()
        && lines.iter().zip(patterns).all(|(line, pattern)| line_is_like(line, pattern))
}

/// The API key of the identity `app`.
pub fn api_key(server: &Server) -> String {
    let ran = piped(server.dir.path(), &[], &["identity", "app.key"], "");
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out.trim().to_owned()
}
