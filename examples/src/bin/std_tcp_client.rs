//! The lecture's TCP client with the standard library alone: keyboard, socket, screen.
//!
//! `cargo run -p examples --bin std_tcp_client -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::io::{Result, copy, stdin, stdout};
use std::net::{Shutdown, TcpStream};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let client_socket = TcpStream::connect(address)?;
    let mut in_from_server = client_socket.try_clone()?;
    let mut out_to_server = client_socket;
    // Two directions, two threads: what comes from the server is shown while the user types.
    std::thread::spawn(move || {
        let mut in_from_user = stdin().lock();
        copy(&mut in_from_user, &mut out_to_server)?;
        // The user has finished, the server has not: only our direction ends.
        out_to_server.shutdown(Shutdown::Write)
    });
    copy(&mut in_from_server, &mut stdout())?;
    Ok(())
}
// endregion
