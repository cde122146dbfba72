//! The table of datagram peers: bounded, and cheap to fill with strangers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use adit_net::datagram::{DatagramPeer, Local};
use tokio::time::Instant;

use super::flow::{Flow, Key};
use crate::Limits;
use crate::handler::Handler;

/// The peers of one socket.
pub(super) struct Peers<H> {
    flows: HashMap<u64, Flow<H>>,
    numbers: HashMap<Key, u64>,
    /// When a flow may have to be looked at. Moved only when it comes up: a datagram costs nothing
    /// here, and a flow has exactly one entry.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    most: usize,
    life_new: Duration,
    life: Duration,
}

impl<H: Handler> Peers<H> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            flows: HashMap::new(),
            numbers: HashMap::new(),
            deadlines: BinaryHeap::new(),
            most: limits.datagram_peers.max(1),
            life_new: limits.datagram_peer_new,
            life: limits.datagram_peer,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.flows.len() >= self.most
    }

    pub(super) fn find(&self, peer: &DatagramPeer, local: Option<Local>) -> Option<u64> {
        self.numbers.get(&(peer.clone(), local)).copied()
    }

    pub(super) fn get(&mut self, number: u64) -> Option<&mut Flow<H>> {
        self.flows.get_mut(&number)
    }

    /// The flows of a peer, to whichever of our addresses it talks.
    pub(super) fn all_of(&self, peer: &DatagramPeer) -> Vec<u64> {
        let flows = self.flows.iter().filter(|(_, flow)| flow.peer() == peer);
        flows.map(|(number, _)| *number).collect()
    }

    /// The flows that owe no answer.
    pub(super) fn not_owing(&self) -> Vec<u64> {
        let flows = self.flows.iter().filter(|(_, flow)| !flow.is_owing());
        flows.map(|(number, _)| *number).collect()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.flows.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, flow: Flow<H>) {
        let number = flow.number();
        self.deadlines.push(Reverse((self.deadline(&flow), number)));
        self.numbers.insert((flow.peer().clone(), flow.local()), number);
        self.flows.insert(number, flow);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Flow<H>> {
        let flow = self.flows.remove(&number)?;
        self.numbers.remove(&(flow.peer().clone(), flow.local()));
        // Entries of flows that are gone are passed over when they come up; if most are, the heap is
        // made anew, so that it stays in proportion.
        if self.deadlines.len() > 64 + 2 * self.flows.len() {
            self.deadlines.retain(|Reverse((_, number))| self.flows.contains_key(number));
        }
        Some(flow)
    }

    /// When the next flow may expire.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// A flow that has expired.
    pub(super) fn expired(&mut self, now: Instant) -> Option<u64> {
        self.first_due(|deadline| deadline <= now)
    }

    /// The flow that will expire first: a stranger heard once goes before a peer that is alive.
    pub(super) fn oldest(&mut self) -> Option<u64> {
        self.first_due(|_| true)
    }

    fn first_due(&mut self, is_due: impl Fn(Instant) -> bool) -> Option<u64> {
        while let Some(Reverse((at, number))) = self.deadlines.peek().copied() {
            if !is_due(at) {
                return None;
            }
            let Some(flow) = self.flows.get(&number) else {
                self.deadlines.pop();
                continue;
            };
            let deadline = self.deadline(flow);
            if deadline <= at {
                return Some(number);
            }
            // Heard of meanwhile: its true turn is later.
            self.deadlines.pop();
            self.deadlines.push(Reverse((deadline, number)));
        }
        None
    }

    fn deadline(&self, flow: &Flow<H>) -> Instant {
        let life = if flow.heard() > 1 { self.life } else { self.life_new };
        flow.last() + life
    }
}
