//! Small text formats: base64 and hexadecimal, times, durations, JSON, log strings and shell patterns. Knows nothing else.

pub mod duration;
pub mod encode;
pub mod glob;
pub mod json;
pub mod suggest;
pub mod time;
