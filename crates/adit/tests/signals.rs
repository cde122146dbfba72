//! A server that is told to stop. Alone in its file: signals are the whole process's.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use adit::prelude::*;
use adit::{Event, Observer, What};

/// Tells this process to stop as soon as the server is seen to listen.
struct Impatient;

impl Observer for Impatient {
    fn event(&self, event: &Event<'_>) {
        if let What::Listen { .. } = event.what {
            let kill = format!("kill -TERM {}", std::process::id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        }
    }
}

#[test]
fn a_server_that_is_seen_to_listen_may_be_told_to_stop() {
    // Without a handler the signal would end this process.
    let echo = fast(|msg, out| out.send(msg));
    Server::new(echo).observe(Impatient).listen("tcp://127.0.0.1:0", Lines::new()).run().unwrap();
}
