//! Small text formats: base64 and hexadecimal, times, durations, JSON and log strings. Knows nothing else.

pub mod duration;
pub mod encode;
pub mod json;
pub mod suggest;
pub mod time;
