//! From lines to a story: who is client, which bytes of the stream, which conversation.

use std::collections::{BTreeSet, HashMap};

use super::{Act, Did, Door, Program, Scheme, Seen, Story, Talk, Way};
use crate::line::{Line, nanos, payload};

/// Makes a story of the lines of one trace, one after the other.
#[derive(Debug, Default)]
pub struct Teller {
    story: Story,
    /// Where the talk with this number stands in the story.
    places: HashMap<u64, usize>,
    /// How far each way of each talk is, as each side sees it: bytes, and datagrams.
    counts: HashMap<(u64, Seen, bool), Count>,
    /// What the trace was written by, as far as that is known yet.
    is_relay: bool,
    role: Option<Seen>,
    next: Option<u64>,
    /// The talks that have acts nobody has taken.
    fresh: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Count {
    bytes: u64,
    datagrams: u64,
}

impl Teller {
    /// The story so far.
    pub fn story(&self) -> &Story {
        &self.story
    }

    /// The story, whole.
    pub fn finish(self) -> Story {
        self.story
    }

    /// Takes the acts that came since the last time out of the story, each with who talks with whom.
    ///
    /// For pictures of what still goes on: the story does not grow with the acts.
    pub fn take_acts(&mut self) -> Vec<(Talk, Vec<Act>)> {
        let fresh = std::mem::take(&mut self.fresh);
        let mut taken = Vec::with_capacity(fresh.len());
        for number in fresh {
            let place = self.places.get(&number).copied();
            let Some(talk) = place.and_then(|place| self.story.talks.get_mut(place)) else {
                continue;
            };
            let acts = std::mem::take(&mut talk.acts);
            if !acts.is_empty() {
                taken.push((talk.clone(), acts));
            }
        }
        taken
    }

    /// Takes what belongs to no conversation, and came since the last time, out of the story.
    pub fn take_general(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.story.general)
    }

    /// Takes the notes that came since the last time out of the story.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story.notes)
    }

    /// Drops everything about this conversation: it is over.
    pub fn forget(&mut self, number: u64) {
        let Some(place) = self.places.remove(&number) else { return };
        self.story.talks.swap_remove(place);
        if let Some(moved) = self.story.talks.get(place) {
            self.places.insert(moved.number, place);
        }
        for seen in Seen::ALL {
            self.counts.remove(&(number, seen, true));
            self.counts.remove(&(number, seen, false));
        }
    }

    /// Takes in one line of JSON.
    ///
    /// # Errors
    /// It is no line of a trace: why, in words. Nothing of it is taken.
    pub fn line(&mut self, text: &str) -> Result<(), String> {
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match line.v {
            1 => {}
            0 => return Err("no event: the field \"v\" is missing".to_owned()),
            v => return Err(format!("schema version {v}; this adit reads version 1")),
        }
        if let Some(missing) = self.next.and_then(|next| line.n.checked_sub(next))
            && missing > 0
            && line.ev != "trace"
        {
            self.story.notes.push(format!("{missing} lines are missing before line n={}", line.n));
        }
        self.next = line.n.checked_add(1);
        self.take(&line);
        Ok(())
    }

    fn take(&mut self, line: &Line<'_>) {
        match &*line.ev {
            "trace" => self.begin(line),
            "listen" => self.listen(line),
            "drop" => self.drop(line),
            "talk" => self.introduce(line),
            "note" => self.story.notes.extend(line.text.as_deref().map(str::to_owned)),
            // Not acts: what they sum up is in the story already.
            "summary" | "counts" | "reload" | "message" | "socket" | "bind" => {}
            _ => self.act(line),
        }
    }

    fn begin(&mut self, line: &Line<'_>) {
        let word = |field: &Option<std::borrow::Cow<'_, str>>| field.as_deref().map(str::to_owned);
        self.is_relay = line.role.as_deref() == Some("relay");
        self.role = match line.role.as_deref() {
            Some("server") => Some(Seen::Server),
            Some("client") => Some(Seen::Client),
            Some("wire") => Some(Seen::Wire),
            _ => None,
        };
        let seen = if self.is_relay { Seen::RelayToClient } else { self.role.unwrap_or_default() };
        self.story.start = word(&line.start).unwrap_or_default();
        let usual = if self.is_relay { "relay" } else { "exact" };
        self.story.badge.calls = word(&line.calls).unwrap_or_else(|| usual.to_owned());
        self.story.badge.wire = word(&line.wire).unwrap_or_else(|| "none".to_owned());
        self.story.badge.clock = word(&line.clock).unwrap_or_else(|| "one clock".to_owned());
        let seen = explicit(line).unwrap_or(seen);
        let name = word(&line.prog).unwrap_or_default();
        self.story.programs.push(Program { name, pid: line.pid.unwrap_or(0), seen });
    }

    /// The app word (`addr`, `reach`) and the call (`fd`) tell of the same door.
    fn listen(&mut self, line: &Line<'_>) {
        self.role.get_or_insert(Seen::Server);
        let (scheme, addr) = scheme_and_place(line.addr.as_deref().unwrap_or_default());
        let known = self
            .story
            .doors
            .iter_mut()
            .find(|door| door.scheme == scheme && door.addr == addr && door.until.is_none());
        let door = match known {
            Some(door) => door,
            None => {
                let since = nanos(line.t);
                let until = line.until.map(nanos);
                let n = line.orig.unwrap_or(line.n);
                let new = Door { scheme, addr, since, until, n, ..Door::default() };
                self.story.doors.push(new);
                let Some(door) = self.story.doors.last_mut() else { return };
                door
            }
        };
        door.fd = line.fd.or(door.fd);
        if let Some(reach) = &line.reach {
            door.reach = reach.to_string();
        }
    }

    fn drop(&mut self, line: &Line<'_>) {
        let count = line.count.unwrap_or(0);
        if line.place.as_deref() == Some("trace") {
            self.story.dropped = self.story.dropped.saturating_add(count);
            if line.noted == Some(true) {
                return;
            }
            self.story.notes.push(format!("{count} events were dropped: the disk was too slow"));
        }
    }

    /// A story that is written back introduces its talks, with all their addresses.
    fn introduce(&mut self, line: &Line<'_>) {
        let Some(number) = line.conn else { return };
        let place = self.talk(number);
        self.meet(place, line, Seen::Server);
        if let (Some((near, far)), Some(talk)) = (&line.relay, self.story.talks.get_mut(place)) {
            talk.relay = Some((near.to_string(), far.to_string()));
        }
    }

    fn seen(&self, line: &Line<'_>) -> Seen {
        if let Some(seen) = explicit(line) {
            return seen;
        }
        match (line.role.as_deref(), self.is_relay) {
            (Some("client"), true) => Seen::RelayToServer,
            (_, true) => Seen::RelayToClient,
            (Some("client"), false) => Seen::Client,
            (Some("server"), false) => Seen::Server,
            (Some("wire"), false) => Seen::Wire,
            _ => self.role.unwrap_or(Seen::Client),
        }
    }

    fn act(&mut self, line: &Line<'_>) {
        let seen = self.seen(line);
        let at = nanos(line.t);
        let n = line.orig.unwrap_or(line.n);
        let Some(number) = line.conn else {
            if line.ev == "close" {
                return self.close_door(line);
            }
            if let Some(did) = self.did(line, seen, Scheme::Tcp, 0) {
                self.story.general.push(Act { at, n, seen, did });
            }
            return;
        };
        let place = self.talk(number);
        let scheme = self.meet(place, line, seen);
        if let Some(did) = self.did(line, seen, scheme, number)
            && let Some(talk) = self.story.talks.get_mut(place)
        {
            talk.acts.push(Act { at, n, seen, did });
            self.fresh.insert(number);
        }
    }

    fn close_door(&mut self, line: &Line<'_>) {
        let door = self
            .story
            .doors
            .iter_mut()
            .find(|door| door.fd.is_some() && door.fd == line.fd && door.until.is_none());
        if let Some(door) = door {
            door.until = Some(nanos(line.t));
        }
    }

    /// Where the talk with this number is; a new one if there is none.
    fn talk(&mut self, number: u64) -> usize {
        let scheme = self.story.doors.first().map_or(Scheme::Tcp, |door| door.scheme);
        let talks = &mut self.story.talks;
        *self.places.entry(number).or_insert_with(|| {
            let place = talks.len();
            talks.push(Talk { number, scheme, ..Talk::default() });
            place
        })
    }

    /// Learns from a line who talks with whom, and how.
    fn meet(&mut self, place: usize, line: &Line<'_>, seen: Seen) -> Scheme {
        let Some(talk) = self.story.talks.get_mut(place) else { return Scheme::Tcp };
        if let Some(scheme) = line.scheme.as_deref().and_then(Scheme::of) {
            talk.scheme = scheme;
        }
        let peer = line.peer.as_deref().unwrap_or_default();
        let local = line.local.as_deref().unwrap_or_default();
        let know = |known: &mut String, text: &str| {
            if known.is_empty() {
                text.clone_into(known);
            }
        };
        match seen {
            Seen::Client => {
                know(&mut talk.server, peer);
                know(&mut talk.client, local);
            }
            Seen::Server | Seen::Wire => {
                know(&mut talk.client, peer);
                know(&mut talk.server, local);
            }
            Seen::RelayToClient => {
                know(&mut talk.client, peer);
                know(&mut talk.relay.get_or_insert_default().0, local);
            }
            Seen::RelayToServer => {
                know(&mut talk.server, peer);
                know(&mut talk.relay.get_or_insert_default().1, local);
            }
        }
        talk.scheme
    }

    fn did(&mut self, line: &Line<'_>, seen: Seen, scheme: Scheme, number: u64) -> Option<Did> {
        let short = |field: &Option<std::borrow::Cow<'_, str>>| -> Box<str> {
            field.as_deref().unwrap_or_default().into()
        };
        let is_in = line.dir.as_deref() == Some("in");
        let way = match line.way.as_deref() {
            Some("up") => Way::Up,
            Some("down") => Way::Down,
            _ => way(seen, is_in),
        };
        Some(match &*line.ev {
            "accept" => Did::Accept { fd: line.fd },
            "connect" => Did::Connect {
                fd: line.fd,
                addr: short(&line.peer),
                took: line.dt.map(nanos),
                code: line.code.as_deref().map(Into::into),
            },
            "open" => Did::Open,
            "data" => self.data(line, (number, seen, is_in), scheme),
            "truncated" => Did::Truncated { len: line.len.unwrap_or(0) },
            "half_close" if is_in => Did::ReadEnd { way },
            "half_close" => Did::WriteEnd { way },
            // The call has a descriptor, the end of the conversation has a reason.
            "close" if line.code.is_none() => Did::Close { fd: line.fd },
            "close" => Did::Over {
                code: short(&line.code),
                bytes_in: line.bytes_in,
                bytes_out: line.bytes_out,
                took: line.dt.map_or(0, nanos),
            },
            "lost" => {
                Did::Lost { code: short(&line.code), unconfirmed: line.unconfirmed.unwrap_or(0) }
            }
            "limit" => Did::Limit {
                name: short(&line.name),
                action: short(&line.action),
                count: line.count.unwrap_or(1),
            },
            "error" => Did::Error {
                code: short(&line.code),
                text: short(&line.text),
                place: short(&line.place),
            },
            "drain" => Did::Drain,
            "frame" => frame(line, way, scheme),
            "icmp" => Did::Unreachable { way },
            _ => return None,
        })
    }

    fn data(&mut self, line: &Line<'_>, key: (u64, Seen, bool), scheme: Scheme) -> Did {
        let (_, seen, is_in) = key;
        let (way, len, bytes) = (way(seen, is_in), line.len.unwrap_or(0), payload(line));
        let count = self.counts.entry(key).or_default();
        if scheme.is_datagram() {
            let msg = line.msg.unwrap_or(count.datagrams);
            count.datagrams = msg.saturating_add(1);
            return match is_in {
                true => Did::Receive { way, msg, len, bytes },
                false => Did::Send { way, msg, len, bytes },
            };
        }
        let (from, to) = line.off.unwrap_or_else(|| (count.bytes, count.bytes.saturating_add(len)));
        let off = from..to.max(from);
        count.bytes = off.end;
        match is_in {
            true => Did::Read { way, off, bytes },
            false => Did::Write { way, off, bytes },
        }
    }
}

/// Who saw it, where the line says so itself.
fn explicit(line: &Line<'_>) -> Option<Seen> {
    Seen::of(line.seen.as_deref()?)
}

/// What was seen on the wire.
fn frame(line: &Line<'_>, way: Way, scheme: Scheme) -> Did {
    let (bytes, len) = (payload(line), line.len.unwrap_or(0));
    if scheme.is_datagram() {
        return Did::Packet { way, msg: line.msg.unwrap_or(0), len, bytes };
    }
    let (from, to) = line.off.unwrap_or((0, len));
    Did::Segment {
        way,
        flags: line.flags.as_deref().unwrap_or_default().into(),
        off: from..to.max(from),
        bytes,
        window: line.win.unwrap_or(0),
        again: line.again.unwrap_or(false),
    }
}

/// Which way bytes go that come in, or go out, where they were seen.
fn way(seen: Seen, is_in: bool) -> Way {
    let faces_client = matches!(seen, Seen::Server | Seen::RelayToClient | Seen::Wire);
    if faces_client == is_in { Way::Up } else { Way::Down }
}

/// `tcp 127.0.0.1:7000`, or the place alone.
fn scheme_and_place(addr: &str) -> (Scheme, String) {
    match addr.split_once(' ').map(|(word, place)| (Scheme::of(word), place)) {
        Some((Some(scheme), place)) => (scheme, place.to_owned()),
        _ => (Scheme::Tcp, addr.to_owned()),
    }
}
