//! `kes server`.

use std::process::ExitCode;

use super::{Failure, ServerArgs};

/// Serves until a signal ends it.
pub fn run(_args: &ServerArgs) -> Result<ExitCode, Failure> {
    Err(Failure::new("this build has no server"))
}
