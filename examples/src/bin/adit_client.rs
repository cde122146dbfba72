//! The short client with adit: a line is a call, over TCP, UDP and Unix sockets alike.
//!
//! `cargo run -p examples --bin adit_client -- udp://127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use adit::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("udp://127.0.0.1:7000".to_owned());
    let server = BlockingClient::connect(address)?;
    for line in std::io::stdin().lines() {
        match server.call(line?).within(std::time::Duration::from_secs(2)).send() {
            Ok(reply) => println!("{}", String::from_utf8_lossy(&reply)),
            Err(error) if error.safe_to_retry() => eprintln!("try again: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
// endregion
