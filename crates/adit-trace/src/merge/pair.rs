//! Which conversation of one trace is which of the other.

use core::net::SocketAddr;
use std::collections::BTreeMap;

use crate::pcapng::parse;
use crate::story::{Seen, Story, Talk};

/// The matching conversations, as places in the two stories. `shift` brings times of `b` to `a`'s.
pub(super) fn pairs(a: &Story, b: &Story, shift: i64) -> Vec<(usize, usize)> {
    let mut pairs = Pairs {
        a: &a.talks,
        b: &b.talks,
        seen: (a.talks.iter().map(observers).collect(), b.talks.iter().map(observers).collect()),
        shift,
        used: (vec![false; a.talks.len()], vec![false; b.talks.len()]),
        found: Vec::new(),
    };
    // Those whose both ends are known first: what is left may be one whose client has no name.
    pairs.find(Client::Same);
    pairs.find(Client::Unknown);
    pairs.found
}

/// Who has seen something of a talk.
pub(super) fn observers(talk: &Talk) -> Vec<Seen> {
    let mut all: Vec<_> = talk.acts.iter().map(|act| act.seen).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// May these be one address? A socket that is bound to all addresses has the same port.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => {
            let is_same_ip = a.ip().to_canonical() == b.ip().to_canonical();
            a.port() == b.port() && (is_same_ip || is_any(&a) || is_any(&b))
        }
        _ => a == b,
    }
}

pub(super) fn is_wildcard(addr: &str) -> bool {
    parse(addr).is_some_and(|addr| is_any(&addr))
}

fn is_any(addr: &SocketAddr) -> bool {
    addr.ip().to_canonical().is_unspecified()
}

/// Unix clients have no name most of the time.
fn is_unknown(addr: &str) -> bool {
    matches!(addr, "" | "unnamed" | "(unnamed)")
}

/// What has to be known of the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Same,
    Unknown,
}

/// By what an address is looked up: its port, which a wildcard has too, or its name.
fn mark(addr: &str) -> String {
    parse(addr).map_or_else(|| addr.to_owned(), |addr| addr.port().to_string())
}

/// The two ends of a connection.
type Leg<'a> = (&'a str, &'a str);

fn legs(talk: &Talk) -> Vec<Leg<'_>> {
    match &talk.relay {
        None => vec![(&talk.client, &talk.server)],
        Some((near, far)) => vec![(&talk.client, near), (far, &talk.server)],
    }
}

struct Pairs<'a> {
    a: &'a [Talk],
    b: &'a [Talk],
    /// Who has seen something of each.
    seen: (Vec<Vec<Seen>>, Vec<Vec<Seen>>),
    shift: i64,
    used: (Vec<bool>, Vec<bool>),
    found: Vec<(usize, usize)>,
}

/// Conversations with one port that are compared with each other; more would take long.
const GROUP_MAX: usize = 1024;

impl Pairs<'_> {
    fn find(&mut self, client: Client) {
        let mut groups = (group(self.a, client), group(self.b, client));
        for (key, mut a) in std::mem::take(&mut groups.0) {
            let Some(mut b) = groups.1.remove(&key) else { continue };
            a.retain(|at| !self.used.0[*at]);
            b.retain(|at| !self.used.1[*at]);
            a.sort_by_key(|at| begin(&self.a[*at]));
            b.sort_by_key(|at| begin(&self.b[*at]));
            a.truncate(GROUP_MAX);
            b.truncate(GROUP_MAX);
            let mut near = Vec::new();
            for one in &a {
                self.match_one(*one, (&a, &b), client, &mut near);
            }
            near.sort_unstable();
            for (_, one, other) in near {
                self.take(one, other);
            }
        }
    }

    /// Where a port was used again, and each side has as many conversations, the first is the first,
    /// however far their clocks are apart. Else those that are closest in time are one: `near`.
    fn match_one(
        &mut self,
        one: usize,
        (a, b): (&[usize], &[usize]),
        client: Client,
        near: &mut Vec<(u64, usize, usize)>,
    ) {
        let fitting = b.iter().copied().filter(|other| self.fits(one, *other, client));
        let fitting: Vec<usize> = fitting.collect();
        let Some(first) = fitting.first() else { return };
        let rivals = a.iter().filter(|rival| self.fits(**rival, *first, client));
        let rivals: Vec<usize> = rivals.copied().collect();
        let place = rivals.iter().position(|rival| *rival == one);
        match place.filter(|_| rivals.len() == fitting.len()).and_then(|place| fitting.get(place)) {
            Some(other) => self.take(one, *other),
            None => near.extend(fitting.iter().map(|other| (self.apart(one, *other), one, *other))),
        }
    }

    fn take(&mut self, one: usize, other: usize) {
        if !self.used.0[one] && !self.used.1[other] {
            self.used.0[one] = true;
            self.used.1[other] = true;
            self.found.push((one, other));
        }
    }

    fn fits(&self, one: usize, other: usize, client: Client) -> bool {
        let (a, b) = (&self.a[one], &self.b[other]);
        let same_client = |a: &str, b: &str| match client {
            Client::Same => !is_unknown(a) && !is_unknown(b) && is_same(a, b),
            Client::Unknown => is_unknown(a) || is_unknown(b),
        };
        let is_one_leg = |a: &Leg<'_>, b: &Leg<'_>| {
            let same_server = match client {
                Client::Same => is_same(a.1, b.1) || a.1.is_empty() || b.1.is_empty(),
                Client::Unknown => is_same(a.1, b.1) && !a.1.is_empty(),
            };
            same_client(a.0, b.0) && same_server
        };
        let (seen, others) = (&self.seen.0[one], &self.seen.1[other]);
        a.scheme == b.scheme
            && legs(a).iter().any(|a| legs(b).iter().any(|b| is_one_leg(a, b)))
            && !seen.iter().any(|one| others.contains(one))
    }

    fn apart(&self, one: usize, other: usize) -> u64 {
        let other = begin(&self.b[other]).saturating_add_signed(self.shift);
        begin(&self.a[one]).abs_diff(other)
    }
}

/// The talks by what is looked up of them: the client's port, or the server's.
fn group(talks: &[Talk], client: Client) -> BTreeMap<(&'static str, String), Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, talk) in talks.iter().enumerate() {
        for leg in legs(talk) {
            let key = match client {
                Client::Same if is_unknown(leg.0) => continue,
                Client::Same => mark(leg.0),
                Client::Unknown => mark(leg.1),
            };
            groups.entry((talk.scheme.word(), key)).or_default().push(place);
        }
    }
    groups
}

fn begin(talk: &Talk) -> u64 {
    talk.acts.first().map_or(0, |act| act.at)
}
