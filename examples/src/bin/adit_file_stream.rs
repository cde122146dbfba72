//! A file for everybody who connects: a raw stream, for what no codec fits.
//!
//! `cargo run -p examples --bin adit_file_stream -- 127.0.0.1:7000 README.md`
#![forbid(unsafe_code)]

// region: program
use adit::prelude::*;
use examples::announce;

fn main() -> adit::Result {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let path = std::env::args().nth(2).unwrap_or("Cargo.toml".to_owned());
    let send_file = stream(async move |mut connection_socket: Conn| {
        let mut file = tokio::fs::File::open(&path).await?;
        tokio::io::copy(&mut file, &mut connection_socket).await?;
        Ok(()) // the end of the function is the end of the stream
    });
    Server::streams(send_file).listen(format!("tcp://{address}")).on_event(announce).run()
}
// endregion
