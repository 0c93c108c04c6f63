//! Places where a test can end the process or make it panic. Compiled to nothing without the feature `fault-points`.

/// Ends the process at once, as `kill -9` would, if the environment variable `KES_FAULT` is `OPERATION:MOMENT`, and
/// panics if `KES_PANIC` is.
#[cfg(feature = "fault-points")]
pub fn point(operation: &str, moment: &str) {
    let is_here = |wanted: String| wanted.split_once(':') == Some((operation, moment));
    if std::env::var("KES_FAULT").is_ok_and(is_here) {
        std::process::abort();
    }
    if std::env::var("KES_PANIC").is_ok_and(is_here) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

/// Does nothing: this build has no fault points.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_operation: &str, _moment: &str) {}
