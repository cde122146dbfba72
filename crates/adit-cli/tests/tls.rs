//! The command over TLS: whom it trusts, what it says, how it ends, and who may do what.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

#[path = "tls/ends.rs"]
mod ends;
#[path = "tls/memory.rs"]
mod memory;
#[path = "tls/secrets.rs"]
mod secrets;
#[path = "tls/settings.rs"]
mod settings;
#[path = "tls/trust.rs"]
mod trust;
#[path = "tls/wrong_ports.rs"]
mod wrong_ports;

use common::{Files, Server, serve};

/// `adit serve` with a certificate.
#[track_caller]
fn serve_tls(files: &Files, words: &[&str]) -> Server {
    let Files { cert, key, .. } = files;
    serve(&[&["--tls", "--cert", cert, "--key", key], words].concat())
}
