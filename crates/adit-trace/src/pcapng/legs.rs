//! The connections of a story: each talk is one, or two where a relay stands between.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::HashMap;

use adit_proto::escape::escape_line;

use crate::story::{Act, Did, Scheme, Seen, Story, Talk};

/// One connection between two addresses, and what was done on it.
pub(super) struct Leg<'a> {
    pub(super) scheme: Scheme,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) acts: Vec<&'a Act>,
    /// What has to be said of it: which addresses are made up.
    pub(super) comments: Vec<String>,
}

impl Leg<'_> {
    /// Was anything of it seen on the wire?
    pub(super) fn has_packets(&self) -> bool {
        let is_wire = |did: &Did| {
            matches!(did, Did::Segment { .. } | Did::Packet { .. } | Did::Unreachable { .. })
        };
        self.acts.iter().any(|act| is_wire(&act.did))
    }
}

/// All connections, in the order of their talks.
pub(super) fn legs(story: &Story) -> Vec<Leg<'_>> {
    let mut made_up = MadeUp::default();
    let mut legs = Vec::new();
    for talk in &story.talks {
        let to_server = |act: &&Act| matches!(act.seen, Seen::RelayToServer | Seen::Server);
        match &talk.relay {
            None => {
                let acts = talk.acts.iter().collect();
                legs.push(made_up.leg(talk, (&talk.client, &talk.server), acts));
            }
            Some((near, far)) => {
                let (second, first): (Vec<_>, Vec<_>) = talk.acts.iter().partition(to_server);
                legs.push(made_up.leg(talk, (&talk.client, near), first));
                legs.push(made_up.leg(talk, (far, &talk.server), second));
            }
        }
    }
    legs
}

/// Addresses for what has none in IP.
#[derive(Default)]
struct MadeUp {
    clients: u32,
    servers: HashMap<String, u32>,
}

impl MadeUp {
    fn leg<'a>(&mut self, talk: &Talk, ends: (&str, &str), acts: Vec<&'a Act>) -> Leg<'a> {
        let mut comments = Vec::new();
        let mut say = |made_up: SocketAddr, part: &str, text: &str| {
            let name = match text {
                "" => "an unknown address".to_owned(),
                text => escape_line(text.as_bytes(), 120),
            };
            let word = talk.scheme.word();
            comments.push(format!("{made_up} stands for the {part}: {word} {name}"));
            made_up
        };
        let client = parse(ends.0).unwrap_or_else(|| say(self.client(), "client", ends.0));
        let server = parse(ends.1).unwrap_or_else(|| say(self.server(ends.1), "server", ends.1));
        let (client, server) = of_one_family(client, server);
        Leg { scheme: talk.scheme, client, server, acts, comments }
    }

    fn client(&mut self) -> SocketAddr {
        let number = self.clients;
        self.clients = number.wrapping_add(1);
        let [_, high, c, d] = number.to_be_bytes();
        // 127.64.0.0/10 has 2^22 addresses; more clients than that have another port.
        let addr = Ipv4Addr::new(127, 64 + (high & 0x3f), c, d);
        SocketAddr::new(IpAddr::V4(addr), 40_000 + u16::from(high >> 6))
    }

    fn server(&mut self, name: &str) -> SocketAddr {
        let known = u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let number = *self.servers.entry(name.to_owned()).or_insert(known);
        let [.., b, c, d] = number.to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 128 + (b & 0x3f), c, d)), 50_000)
    }
}

/// An address of IP with its port; a zone, which stands in no packet, is passed over.
pub(crate) fn parse(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let (head, tail) = text.split_once('%')?;
        let (_zone, port) = tail.split_once(']')?;
        format!("{head}]{port}").parse().ok()
    })
}

/// A packet has two addresses of one kind.
fn of_one_family(client: SocketAddr, server: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), addr.port()),
        IpAddr::V6(_) => addr,
    };
    if client.is_ipv4() == server.is_ipv4() {
        (client, server)
    } else {
        (mapped(client), mapped(server))
    }
}
