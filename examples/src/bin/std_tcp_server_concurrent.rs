//! The lecture's concurrent TCP server with the standard library alone: one thread for each client.
//!
//! `cargo run -p examples --bin std_tcp_server_concurrent -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let welcome_socket = TcpListener::bind(address)?;
    println!("listening on tcp {}", welcome_socket.local_addr()?);
    loop {
        let (connection_socket, client) = welcome_socket.accept()?;
        // The thread owns the new socket; this loop goes on to welcome the next client.
        std::thread::spawn(move || {
            if let Err(error) = serve(&connection_socket) {
                eprintln!("lost {client}: {error}");
            }
        });
    }
}

fn serve(mut connection_socket: &TcpStream) -> Result<()> {
    for line in BufReader::new(connection_socket).lines() {
        let answer = line?.to_ascii_uppercase() + "\n";
        connection_socket.write_all(answer.as_bytes())?;
    }
    Ok(())
}
// endregion
