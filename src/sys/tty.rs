//! The controlling terminal: asks for a password without showing it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsRawFd, BorrowedFd},
};

use crate::crypto::SecretBytes;

/// Longest password that is read, in bytes.
const MAX_PASSWORD: usize = 1024;

/// `/dev/tty`, whatever the standard streams are connected to.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Fails if the process has no terminal.
    pub fn open() -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open("/dev/tty").map(Self)
    }

    /// Shows `prompt` and reads one line without echo. Backspace and Ctrl-U work; Ctrl-C gives
    /// [`io::ErrorKind::Interrupted`], with the terminal as it was before.
    pub fn ask(&mut self, prompt: &str) -> io::Result<SecretBytes> {
        // Signal keys are read as bytes like any other, so that no signal can end the process while echo is off.
        let raw = Raw::enter(&self.0)?;
        self.0.write_all(prompt.as_bytes())?;
        let line = read_line(&mut self.0);
        drop(raw);
        self.0.write_all(b"\n")?;
        line
    }
}

/// Columns and rows of a terminal; `None` if it is none, or does not know.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the structure, which lives until the call returns.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// Whether nobody reads any more what is written there: the other end of the pipe or of the terminal is gone.
pub fn is_abandoned(output: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: output.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one structure, which lives until the call returns; a timeout of zero does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

fn read_line(input: &mut impl Read) -> io::Result<SecretBytes> {
    let mut line = SecretBytes::with_capacity(MAX_PASSWORD);
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(line),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match byte[0] {
            b'\n' | b'\r' | 0x04 => return Ok(line),
            0x03 | 0x1c => return Err(io::ErrorKind::Interrupted.into()),
            0x08 | 0x7f => line.truncate(last_character(&line)),
            0x15 => line.clear(),
            other if line.len() < MAX_PASSWORD => line.extend(&[other]),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "password is too long")),
        }
    }
}

/// Where the last character begins: bytes of the form 10xxxxxx continue a character of UTF-8.
fn last_character(line: &[u8]) -> usize {
    line.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0)
}

/// While it lives, the terminal shows nothing and hands out each key at once.
struct Raw {
    terminal: File,
    before: libc::termios,
}

impl Raw {
    fn enter(terminal: &File) -> io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let mut before = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is open, and tcgetattr fills the whole structure if it succeeds.
        let before = unsafe {
            if libc::tcgetattr(terminal.as_raw_fd(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        let mut raw = before;
        raw.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG);
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        // Not TCSAFLUSH: what has been typed ahead is part of the password.
        // SAFETY: the descriptor is open and the structure comes from tcgetattr.
        if unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSADRAIN, &raw) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open and the structure comes from tcgetattr.
        unsafe { libc::tcsetattr(self.terminal.as_raw_fd(), libc::TCSADRAIN, &self.before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_edited_and_given_up() {
        let read = |keys: &str| read_line(&mut keys.as_bytes());
        assert_eq!(&read("secret\nmore").unwrap()[..], b"secret");
        assert_eq!(&read("seä\x7f\x08cret\r").unwrap()[..], b"scret");
        assert_eq!(&read("\x7fwrong\x15right\x04").unwrap()[..], b"right");
        assert_eq!(&read("ends here").unwrap()[..], b"ends here");
        assert_eq!(read("se\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(read(&"x".repeat(MAX_PASSWORD + 1)).is_err());
        assert_eq!(read(&"x".repeat(MAX_PASSWORD)).unwrap().len(), MAX_PASSWORD);
    }
}
