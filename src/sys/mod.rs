//! sys
pub mod fault;
pub mod file;
