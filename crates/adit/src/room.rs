//! Room: one message to many conversations. Clients never meet directly, they meet in the server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::peer::{Desk, Peer};
use crate::worker::{Mail, Mailbox};

/// Publishes messages to every conversation that has joined. Cheap to clone, usable from any thread.
///
/// Each member has an inbox of `limits.inbox` messages, and of more while they are small: up to
/// `limits.unsent_bytes`. A member that reads too slowly loses the oldest of them, which is counted;
/// nobody else notices. Members on other threads are reached by one
/// bounded mail per thread. Order is kept per publisher.
///
/// ```
/// use adit::prelude::*;
///
/// struct Chat {
///     seat: Seat, // leaves the room when the conversation ends
/// }
/// impl Handler for Chat {
///     fn message(&mut self, msg: &[u8], _: &mut Out<'_>) -> Answer {
///         self.seat.publish(msg); // to the others
///         Answer::Done
///     }
/// }
/// let room = Room::new();
/// let chat = each(move |peer| Chat { seat: room.join(peer) });
/// ```
#[derive(Clone)]
pub struct Room(Arc<Shared>);

struct Shared {
    id: u64,
    /// Rises whenever a thread gets its first or loses its last member.
    version: AtomicU64,
    threads: Mutex<Vec<Mailbox>>,
    dropped: AtomicU64,
}

/// A message on its way to the members on one thread.
#[derive(Clone)]
pub(crate) struct Letter {
    room: Room,
    msg: Bytes,
}

/// What a thread knows of rooms.
#[derive(Default)]
struct Local {
    mailbox: Option<Mailbox>,
    members: HashMap<u64, Vec<Weak<Desk>>>,
    /// The other threads with members, and the version of the room this is true of.
    others: HashMap<u64, (u64, Vec<Mailbox>)>,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::default();
}

/// Makes this thread reachable for rooms.
pub(crate) fn attend(mailbox: Mailbox) {
    LOCAL.with_borrow_mut(|local| local.mailbox = Some(mailbox));
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Room {
    /// A room without members.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Shared {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(1),
            threads: Mutex::default(),
            dropped: AtomicU64::new(0),
        }))
    }

    /// Makes the conversation with `peer` a member, until the seat is dropped.
    pub fn join(&self, peer: &Peer) -> Seat {
        let desk = Rc::clone(peer.desk());
        LOCAL.with_borrow_mut(|local| {
            let members = local.members.entry(self.0.id).or_default();
            members.push(Rc::downgrade(&desk));
            if members.len() == 1
                && let Some(mailbox) = &local.mailbox
            {
                self.threads().push(mailbox.clone());
                self.0.version.fetch_add(1, Ordering::Release);
            }
        });
        Seat { room: self.clone(), desk }
    }

    /// Sends `msg` to every member: one copy, which they share.
    pub fn publish(&self, msg: impl AsRef<[u8]>) {
        self.publish_except(Bytes::copy_from_slice(msg.as_ref()), None);
    }

    /// Messages dropped so far because a member, or a whole thread, was too slow.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    fn publish_except(&self, msg: Bytes, except: Option<&Rc<Desk>>) {
        let letter = Letter { room: self.clone(), msg };
        letter.deliver_except(except);
        LOCAL.with_borrow_mut(|local| {
            let now = self.0.version.load(Ordering::Acquire);
            let mine = local.mailbox.as_ref();
            let (seen, others) = local.others.entry(self.0.id).or_default();
            // The lock is taken only when threads have come or gone.
            if *seen != now {
                let threads = self.threads();
                let is_other = |mailbox: &&Mailbox| mine.is_none_or(|m| !m.same_channel(mailbox));
                *others = threads.iter().filter(is_other).cloned().collect();
                *seen = now;
            }
            for mailbox in others {
                if mailbox.try_send(Mail::Room(letter.clone())).is_err() {
                    self.0.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Mailbox>> {
        // A list of mailboxes is whole at every moment: a panic elsewhere does not spoil it.
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// Delivers a message to the members on this thread.
pub(crate) fn deliver(letter: &Letter) {
    letter.deliver_except(None);
}

impl Letter {
    fn deliver_except(&self, except: Option<&Rc<Desk>>) {
        // Waking may run foreign code: the list is not borrowed meanwhile.
        let members: Vec<_> = LOCAL.with_borrow(|local| {
            let members = local.members.get(&self.room.0.id).into_iter().flatten();
            members.filter_map(Weak::upgrade).collect()
        });
        for desk in members {
            if except.is_some_and(|except| Rc::ptr_eq(except, &desk)) {
                continue;
            }
            let dropped = desk.deliver(self.msg.clone());
            if dropped > 0 {
                self.room.0.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }
}

/// The membership of one conversation in a room; dropping it leaves the room.
pub struct Seat {
    room: Room,
    desk: Rc<Desk>,
}

impl Seat {
    /// Sends `msg` to every member but this one.
    pub fn publish(&self, msg: impl AsRef<[u8]>) {
        self.room.publish_except(Bytes::copy_from_slice(msg.as_ref()), Some(&self.desk));
    }

    /// Messages of rooms that this conversation lost because its peer read too slowly.
    pub fn dropped(&self) -> u64 {
        self.desk.dropped()
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("room", &self.room).finish_non_exhaustive()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // While the thread ends its locals are gone, and the room's members with them.
        let _gone: Result<(), std::thread::AccessError> = LOCAL.try_with(|local| {
            let Ok(mut local) = local.try_borrow_mut() else {
                return;
            };
            let local = &mut *local;
            let Some(members) = local.members.get_mut(&self.room.0.id) else {
                return;
            };
            members.retain(|member| !std::ptr::eq(member.as_ptr(), Rc::as_ptr(&self.desk)));
            if members.is_empty() {
                local.members.remove(&self.room.0.id);
                if let Some(mailbox) = &local.mailbox {
                    self.room.threads().retain(|thread| !thread.same_channel(mailbox));
                    self.room.0.version.fetch_add(1, Ordering::Release);
                }
            }
        });
    }
}
