//! The lecture's UDP client with adit: one packet out, one packet in.
//!
//! `cargo run -p examples --bin adit_udp_client -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::time::Duration;

use adit::prelude::*;

fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let client_socket = BlockingClient::connect(format!("udp://{address}"))?;
    let in_from_user = std::io::stdin();
    for line in in_from_user.lines() {
        let send_packet = line?;
        // Upper case is upper case however often it is asked for: a lost packet may be sent again.
        let call = client_socket.call(send_packet.clone()).idempotent();
        match call.within(Duration::from_secs(2)).send() {
            Ok(receive_packet) => println!("{}", String::from_utf8_lossy(&receive_packet)),
            Err(error) => eprintln!("no answer to {send_packet}: {error}"),
        }
    }
    Ok(())
}
// endregion
