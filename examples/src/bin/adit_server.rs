//! The lecture's servers with adit, all three in one: TCP, TCP concurrent, UDP.
//!
//! `cargo run -p examples --bin adit_server -- 7000`
#![forbid(unsafe_code)]

// region: program
use adit::prelude::*;

fn main() -> adit::Result {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let (welcome_socket, server_socket) = (format!("tcp://{address}"), format!("udp://{address}"));
    // One connection_socket for each client, all at once: that is how adit serves, without asking.
    // region: server
    let upper = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    Server::new(upper)
        .listen(welcome_socket, Lines::new())
        .listen_datagrams(server_socket)
        .on_event(announce)
        .run()
    // endregion
}

/// Prints where the server listens: with port 0 only the system knows.
fn announce(event: &Event<'_>) {
    if let What::Listen { addr, .. } = event.what {
        println!("listening on {addr}");
    }
}
// endregion
