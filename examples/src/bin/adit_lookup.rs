//! Names to addresses: what is remembered is answered at once, the rest later, all in order.
//!
//! `cargo run -p examples --bin adit_lookup -- 127.0.0.1:7000`
#![forbid(unsafe_code)]

// region: program
use std::{cell::RefCell, collections::HashMap, rc::Rc};

use adit::prelude::*;
use examples::announce;

/// One for each I/O thread: neither locks nor `Send`.
type Cache = Rc<RefCell<HashMap<String, String>>>;
struct Lookup(Cache);

impl Handler for Lookup {
    fn message(&mut self, msg: &[u8], out: &mut Out<'_>) -> Answer {
        let name = String::from_utf8_lossy(msg).into_owned();
        if let Some(address) = self.0.borrow().get(&name) {
            out.send(format!("{address} (remembered)"));
            return Answer::Done;
        }
        let cache = Rc::clone(&self.0);
        Answer::later(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let first = found.ok().and_then(|mut found| found.next());
            let address = first.map_or("unknown".to_owned(), |first| first.ip().to_string());
            let mut cache = cache.borrow_mut();
            if cache.len() < 10_000 {
                cache.insert(name, address.clone()); // clients fill it, so it has a bound
            }
            Ok(address.into())
        })
    }
}

fn main() -> adit::Result {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".to_owned());
    let lookup = per_thread(Cache::default, |cache, _peer| Lookup(cache.clone()));
    Server::new(lookup).listen(format!("tcp://{address}"), Lines::new()).on_event(announce).run()
}
// endregion
