//! The lecture's TCP client with adit: keyboard, socket, screen.
//!
//! `cargo run -p examples --bin adit_tcp_client -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use adit::{BoxError, Dial};
use tokio::io::{AsyncWriteExt as _, copy, stdin, stdout};

fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let runtime = tokio::runtime::Runtime::new()?;
    let talked = runtime.block_on(talk(format!("tcp://{address}")));
    // The server has ended: nobody waits for a key to be pressed.
    runtime.shutdown_background();
    talked
}

async fn talk(address: String) -> Result<(), BoxError> {
    let client_socket = Dial::new().connect(address).await?;
    let (mut in_from_server, mut out_to_server) = client_socket.split();
    tokio::spawn(async move {
        let mut in_from_user = stdin();
        copy(&mut in_from_user, &mut out_to_server).await
        // Here out_to_server is dropped: our direction ends, the answer is still to come.
    });
    let mut screen = stdout();
    copy(&mut in_from_server, &mut screen).await?;
    screen.flush().await?;
    Ok(())
}
// endregion
