//! The conversations that a worker knows of, and the frames of each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use adit_proto::worker::{Frame, Kind, encode};
use bytes::Bytes;

use super::line::{Mouth, Order, Said};

/// The open conversations of one process, by their numbers.
#[derive(Default)]
pub(super) struct Table(RefCell<HashMap<u64, Mouth>>);

impl Table {
    /// Writes the frame that an order is. One for a conversation of an earlier process is none.
    pub(super) fn take(&self, order: Order, out: &mut Vec<u8>) {
        let mut open = self.0.borrow_mut();
        let taken;
        let (number, kind, payload) = match &order {
            Order::Open(number, variables, _) => (*number, Kind::Open, &variables[..]),
            Order::Data(number, bytes) => (*number, Kind::Data, &bytes[..]),
            Order::End(number) => (*number, Kind::End, &[][..]),
            Order::Close(number) => (*number, Kind::Close, &[][..]),
            Order::Taken(number, bytes) => {
                taken = (*bytes as u64).to_be_bytes();
                (*number, Kind::Taken, &taken[..])
            }
        };
        if kind != Kind::Open && !open.contains_key(&number) {
            return;
        }
        encode(Frame { number, kind, payload }, out);
        match order {
            Order::Open(number, _, mouth) => drop(open.insert(number, mouth)),
            Order::Close(number) => drop(open.remove(&number)),
            _ => {}
        }
    }

    /// Hands a frame of the worker on. One for a conversation that is over is dropped.
    ///
    /// # Errors
    /// The worker may not say that.
    pub(super) fn say(&self, frame: Frame<'_>) -> Result<(), String> {
        let said = match frame.kind {
            Kind::Data => Said::Data(Bytes::copy_from_slice(frame.payload)),
            Kind::End => Said::End,
            Kind::Close => Said::Failed("it said so".into()),
            kind => return Err(format!("a frame of the kind {kind:?}, which is the server's")),
        };
        if let Some(mouth) = self.0.borrow_mut().get_mut(&frame.number) {
            mouth.say(said);
        }
        Ok(())
    }

    /// Every conversation ends, for this reason.
    pub(super) fn fail(&self, how: &Arc<str>) {
        for (_, mut mouth) in self.0.borrow_mut().drain() {
            // Where there is no room, that nothing follows says it.
            mouth.say(Said::Failed(Arc::clone(how)));
        }
    }
}
