//! A server and its client inside a tokio program of your own.
//!
//! `cargo run -p examples --bin adit_in_tokio -- 127.0.0.1:0`
#![forbid(unsafe_code)]

// region: program
use std::time::Duration;

use adit::prelude::*;

#[tokio::main]
async fn main() -> adit::Result {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let upper = task(async |msg: Bytes| {
        tokio::time::sleep(Duration::from_millis(10)).await; // anything that tokio can wait for
        Ok(msg.to_ascii_uppercase().into())
    });
    let server = Server::new(upper).listen(format!("tcp://{address}"), Lines::new()).start()?;
    println!("listening on {}", server.addr(0));

    let client = Client::connect(server.addr(0)).await?;
    let (hello, world) = tokio::join!(client.call("hello").send(), client.call("world").send());
    println!("{} {}", String::from_utf8_lossy(&hello?), String::from_utf8_lossy(&world?));
    client.finish().await?;

    let report = server.drain(Duration::from_secs(5)).await;
    println!("cut {}", report.cut);
    Ok(())
}
// endregion
