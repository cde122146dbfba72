//! A chat: clients never meet directly, they meet in the server's room.
//!
//! `cargo run -p examples --bin adit_chat -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use adit::prelude::*;
use examples::announce;

struct Chat {
    name: String,
    seat: Seat, // dropped with the conversation: it leaves the room
}

impl Handler for Chat {
    fn opened(&mut self, _: &Peer, out: &mut Out<'_>) {
        out.send(format!("welcome, {}", self.name));
    }

    fn message(&mut self, msg: &[u8], _: &mut Out<'_>) -> Answer {
        self.seat.publish([self.name.as_bytes(), b": ", msg].concat()); // to the others
        Answer::Done
    }
}

fn main() -> adit::Result {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let room = Room::new();
    let chat = each(move |peer| Chat { name: peer.remote().place_text(), seat: room.join(peer) });
    Server::new(chat).listen(format!("tcp://{address}"), Lines::new()).on_event(announce).run()
}
// endregion
