//! Places where a crash test can end the process. Compiled to nothing without the feature `fault-points`.

/// Ends the process at once, as `kill -9` would, if the environment variable `KES_FAULT` is `OPERATION:MOMENT`.
#[cfg(feature = "fault-points")]
pub fn point(operation: &str, moment: &str) {
    let Ok(wanted) = std::env::var("KES_FAULT") else { return };
    if wanted.split_once(':') == Some((operation, moment)) {
        std::process::abort();
    }
}

/// Does nothing: this build has no fault points.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_operation: &str, _moment: &str) {}
