//! sys

pub mod tty;
