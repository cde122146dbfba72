//! A server that writes down what happens on its sockets, to be drawn by `adit explain`.
//!
//! `cargo run -p examples --bin adit_traced -- 127.0.0.1:7000 server.jsonl`
#![forbid(unsafe_code)]

// region: program
use adit::event::Payload;
use adit::prelude::*;
use adit::system::files::create_private;
use adit::trace::{About, Trace};
use examples::announce;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let path = std::env::args().nth(2).unwrap_or("server.jsonl".to_owned());
    let about = About { program: "adit_traced".to_owned(), ..About::default() };
    let file = create_private(path.as_ref())?; // what is said stands in it: for its owner alone
    let trace = Trace::to(file, &about, Payload::First(64));

    let shout = fast(|msg, out| out.send(msg.to_ascii_uppercase()));
    let server = Server::new(shout).listen(format!("tcp://{address}"), Lines::new());
    server.on_event(announce).observe(trace.clone()).run()?;

    let end = trace.finish(); // the last lines are written
    println!("{} lines, {} events dropped", end.lines, end.dropped);
    Ok(())
}
// endregion
