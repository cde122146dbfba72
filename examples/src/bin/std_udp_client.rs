//! The lecture's UDP client with the standard library alone: one packet out, one packet in.
//!
//! `cargo run -p examples --bin std_udp_client -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::io::{ErrorKind, Result, stdin};
use std::net::UdpSocket;
use std::time::Duration;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let client_socket = UdpSocket::bind("0.0.0.0:0")?;
    client_socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let in_from_user = stdin();
    let mut receive_packet = [0; 65_535];
    for line in in_from_user.lines() {
        let send_packet = line?;
        client_socket.send_to(send_packet.as_bytes(), &address)?;
        match client_socket.recv_from(&mut receive_packet) {
            // From whoever sent it: a late answer, or a stranger's, is taken for this one.
            Ok((length, _server)) => {
                println!("{}", String::from_utf8_lossy(&receive_packet[..length]));
            }
            // The packet is lost, or its answer is. Which of the two, nobody can tell.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                eprintln!("no answer to {send_packet}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
// endregion
