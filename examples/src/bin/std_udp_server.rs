//! The lecture's UDP server with the standard library alone: one socket for all clients.
//!
//! `cargo run -p examples --bin std_udp_server -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::io::Result;
use std::net::UdpSocket;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let server_socket = UdpSocket::bind(address)?;
    println!("listening on udp {}", server_socket.local_addr()?);
    // As long as the longest packet: what does not fit would be cut off without a word.
    let mut receive_packet = [0; 65_535];
    loop {
        // There is no connection: each packet says anew who sent it, and each answer where it goes.
        let (length, client) = server_socket.recv_from(&mut receive_packet)?;
        let send_packet = receive_packet[..length].to_ascii_uppercase();
        if let Err(error) = server_socket.send_to(&send_packet, client) {
            eprintln!("no answer to {client}: {error}");
        }
    }
}
// endregion
