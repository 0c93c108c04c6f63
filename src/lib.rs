//! `kes`: a key encryption server that speaks the KES protocol.
//!
//! Each module is a room that knows one thing. From the outside in: [`cli`] reads the command line, [`config`] the
//! configuration file, [`net`] owns sockets and threads, [`tls`] the handshake and the client's identity, [`http`] turns
//! bytes into requests, [`api`] answers them, [`keyring`] holds the keys, [`keystore`] and [`seal`] keep them on disk.
//! Commands that ask a server do it through [`client`].

pub mod api;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod console;
pub mod crypto;
pub mod feed;
pub mod http;
pub mod keyring;
pub mod keystore;
pub mod log;
pub mod metrics;
pub mod name;
pub mod net;
pub mod policy;
pub mod seal;
#[allow(unsafe_code)]
pub mod sys;
pub mod text;
pub mod tls;
