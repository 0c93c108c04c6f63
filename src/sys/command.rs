//! Runs a program for what it prints: without a shell, for a bounded time, with nothing of our environment.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use super::checked;
use crate::crypto::SecretBytes;

/// All that the program finds in its environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often is asked whether a program has ended that has closed its output.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What the program printed on its standard output, in memory that is wiped. It is an error if it prints more than `limit`
/// bytes, ends with another status than 0, or takes longer than `time`; then it and the processes that it started are
/// killed. Its standard input is empty, its standard error is ours, and of the environment it has `PATH` alone.
pub fn output(program: &[OsString], time: Duration, limit: usize) -> io::Result<SecretBytes> {
    let end = Instant::now() + time;
    let (name, arguments) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(name)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own, so that all of it can be ended.
        .process_group(0)
        .spawn()?;
    let result = read_all(&mut child, end, limit).and_then(|text| wait(&mut child, end).map(|()| text));
    if result.is_err() {
        // A child that has ended by itself is not waited for again.
        let _ = child.wait();
    }
    result
}

fn read_all(child: &mut Child, end: Instant, limit: usize) -> io::Result<SecretBytes> {
    let mut from = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut text = SecretBytes::with_capacity(4096);
    let mut piece = SecretBytes::from(vec![0; 4096]);
    loop {
        let read = wait_for_input(&from, end).and_then(|()| from.read(&mut piece));
        match read {
            Ok(0) => return Ok(text),
            Ok(n) => text.extend(piece.get(..n).unwrap_or_default()),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => {
                kill_group(child);
                return Err(cause);
            }
        }
        if text.len() > limit {
            kill_group(child);
            return Err(io::Error::other(format!("it prints more than {limit} bytes")));
        }
    }
}

fn wait(child: &mut Child, end: Instant) -> io::Result<()> {
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("it ends with {status}"))),
            None if Instant::now() >= end => {
                kill_group(child);
                return Err(too_slow());
            }
            None => std::thread::sleep(ASK_EVERY),
        }
    }
}

/// Returns when there is something to read, or the end of it.
fn wait_for_input(from: &ChildStdout, end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        let mut wanted = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the pointer is to one structure, as the count says, and it lives until the call returns.
        match checked(unsafe { libc::poll(&mut wanted, 1, millis) }) {
            Ok(0) if left.is_zero() => return Err(too_slow()),
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}

fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: takes numbers only. The child has not been waited for, so that its number is still its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it takes too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn run(script: &str, time: Duration, limit: usize) -> io::Result<SecretBytes> {
        output(&["/bin/sh".into(), "-c".into(), script.into()], time, limit)
    }

    #[test]
    fn what_a_program_prints_is_all_that_counts() {
        assert_eq!(&run("printf 'a\\nb\\n'", LONG, 4).unwrap()[..], b"a\nb\n");
        assert_eq!(&run("cat", LONG, 4).unwrap()[..], b"", "its input is empty");
        let environment = String::from_utf8(run("env", LONG, 4096).unwrap().to_vec()).unwrap();
        assert!(
            environment
                .lines()
                .all(|line| ["PATH", "PWD", "SHLVL", "_"].contains(&line.split('=').next().unwrap())),
            "{environment}"
        );
    }

    #[test]
    fn a_program_that_fails_or_prints_too_much_gives_nothing() {
        for (script, cause) in [
            ("printf abcde; exit 3", "exit status: 3"),
            ("printf abcde", "more than 4 bytes"),
            ("cat /dev/zero", "more than 4 bytes"),
            ("kill -9 $$", "signal: 9"),
        ] {
            let error = run(script, LONG, if script.ends_with('3') { 9 } else { 4 }).unwrap_err().to_string();
            assert!(error.contains(cause), "{script}: {error}");
        }
        assert!(output(&["/no/such/program".into()], LONG, 4).is_err());
        assert!(output(&[], LONG, 4).is_err());
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
        let short = Duration::from_millis(50);
        for script in ["sleep 1000", "exec >&-; sleep 1000", "sleep 1000 & sleep 1000"] {
            assert_eq!(run(script, short, 4).unwrap_err().kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }
}
