//! The table of datagram peers: bounded, and cheap to fill with strangers.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use adit_net::datagram::{DatagramPeer, Local};
use adit_proto::amplification::Credit;
use adit_proto::sources::{Excess, Source};
use tokio::time::Instant;

use super::flow::Flow;
use crate::handler::Handler;
use crate::observe;
use crate::{Limit, Limits};

/// The peers of one socket.
pub(super) struct Peers<H> {
    flows: HashMap<u64, Flow<H>>,
    /// The flows of a peer, one for each address of ours that it talks to, which is nearly always one.
    numbers: HashMap<DatagramPeer, Vec<(Option<Local>, u64)>>,
    sources: HashMap<Source, Rc<Share>>,
    /// Sources without a flow that have been sent so much that a new one would be sent more. Else whoever
    /// answers with "nobody is there", which ends its flow, would be sent the more for it.
    leaving: VecDeque<Source>,
    /// When a flow may have to be looked at. Moved only when it comes up: a datagram costs nothing
    /// here, and a flow has exactly one entry.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    most: usize,
    per_source: Limit<usize>,
    amplification: Limit<u32>,
    exempt_loopback: bool,
    life_new: Duration,
    life: Duration,
}

/// What the flows of one source have in common: their number, which is that of the owners of this, and
/// what they may be sent. It lives as long as one of them does.
pub(super) struct Share(Option<Cell<Credit>>);

impl Share {
    /// Counts a datagram that came.
    pub(super) fn received(&self, bytes: usize) {
        if let Some(cell) = &self.0 {
            let mut credit = cell.get();
            credit.received(bytes);
            cell.set(credit);
        }
    }

    /// May an answer of so many bytes be sent? Counts it if so.
    pub(super) fn may_send(&self, bytes: usize) -> bool {
        self.0.as_ref().is_none_or(|cell| {
            let mut credit = cell.get();
            let may_send = credit.may_send(observe::now(), bytes);
            cell.set(credit);
            may_send
        })
    }

    fn is_behind(&self) -> bool {
        self.0.as_ref().is_some_and(|cell| cell.get().is_behind(observe::now()))
    }
}

impl<H: Handler> Peers<H> {
    /// An empty table. `amplification` is how much is answered per byte received.
    pub(super) fn new(limits: &Limits, amplification: Limit<u32>) -> Self {
        Self {
            flows: HashMap::new(),
            numbers: HashMap::new(),
            sources: HashMap::new(),
            leaving: VecDeque::new(),
            per_source: limits.per_source,
            amplification,
            exempt_loopback: limits.exempt_loopback,
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
        let numbers = self.numbers.get(peer)?;
        numbers.iter().find(|(at, _)| *at == local).map(|(_, number)| *number)
    }

    pub(super) fn get(&mut self, number: u64) -> Option<&mut Flow<H>> {
        self.flows.get_mut(&number)
    }

    /// The flows of a peer, to whichever of our addresses it talks.
    pub(super) fn all_of(&self, peer: &DatagramPeer) -> Vec<u64> {
        let numbers = self.numbers.get(peer).into_iter().flatten();
        numbers.map(|(_, number)| *number).collect()
    }

    /// The part of a newcomer in what its source may have; none if that is not counted.
    pub(super) fn share(&mut self, peer: &DatagramPeer) -> Result<Option<Rc<Share>>, Excess> {
        let Some(source) = self.source(peer) else { return Ok(None) };
        self.sweep();
        let credit = self.amplification.at().map(Credit::new);
        let new = || Rc::new(Share(credit.map(Cell::new)));
        let share = self.sources.entry(source).or_insert_with(new);
        // One owner is the table.
        match self.per_source {
            Limit::At(most) if Rc::strong_count(share) > most => Err(Excess::Open(most)),
            _ => Ok(Some(Rc::clone(share))),
        }
    }

    /// Forgets the source of a peer that has just left, or was not let in, if it was the last one.
    pub(super) fn release(&mut self, peer: &DatagramPeer, share: Option<Rc<Share>>) {
        if let (Some(share), Some(source)) = (share, self.source(peer))
            && Rc::strong_count(&share) <= 2
        {
            if share.is_behind() {
                self.leaving.push_back(source);
            } else {
                self.sources.remove(&source);
            }
        }
    }

    /// Forgets sources that have left: those that nothing has to be remembered of any more, which are none
    /// 2 s after their last answer, and the first ones if there are more than there may be peers. Each call
    /// looks at two, and brings one at most.
    fn sweep(&mut self) {
        for _ in 0..2 {
            let Some(source) = self.leaving.front() else { return };
            let share = self.sources.get(source);
            // Who has come back leaves again.
            let has_left = share.filter(|share| Rc::strong_count(share) == 1);
            if has_left.is_some_and(|share| share.is_behind()) && self.leaving.len() <= self.most {
                return;
            }
            if has_left.is_some() {
                self.sources.remove(source);
            }
            self.leaving.pop_front();
        }
    }

    /// Whoever sends on loopback is on this host, and has one address for all its programs.
    fn source(&self, peer: &DatagramPeer) -> Option<Source> {
        match peer {
            DatagramPeer::Udp(peer)
                if !(self.exempt_loopback && peer.ip().to_canonical().is_loopback()) =>
            {
                Some(Source::of(peer.ip()))
            }
            _ => None,
        }
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
        self.numbers.entry(flow.peer().clone()).or_default().push((flow.local(), number));
        self.flows.insert(number, flow);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Flow<H>> {
        let mut flow = self.flows.remove(&number)?;
        if let Some(numbers) = self.numbers.get_mut(flow.peer()) {
            numbers.retain(|(_, other)| *other != number);
            if numbers.is_empty() {
                self.numbers.remove(flow.peer());
            }
        }
        let share = flow.leave_share();
        self.release(flow.peer(), share);
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

    /// A flow that has expired. One that owes an answer is not forgotten before it.
    pub(super) fn expired(&mut self, now: Instant) -> Option<u64> {
        let later = now + self.life_new.max(PUT_OFF);
        while let Some(number) = self.first_due(|deadline| deadline <= now) {
            if !self.flows.get(&number).is_some_and(Flow::is_owing) {
                return Some(number);
            }
            self.deadlines.pop();
            self.deadlines.push(Reverse((later, number)));
        }
        None
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

/// For how long, at the least, a flow that owes an answer is not looked at again.
const PUT_OFF: Duration = Duration::from_millis(10);
