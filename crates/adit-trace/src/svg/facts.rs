//! What a conversation comes to: bytes each way, sockets, and how it ended.

use std::borrow::Cow;

use crate::story::{Act, Did, Door, Program, Seen, Story, Talk, Way};

/// Sums over a conversation.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) up: Flow,
    pub(crate) down: Flow,
    pub(crate) client_fd: Option<i32>,
    pub(crate) server_fd: Option<i32>,
    /// Somebody says that it stands.
    pub(crate) is_open: bool,
    pub(crate) client_is_closed: bool,
    pub(crate) server_is_closed: bool,
    /// The first word for an end that was none in order.
    pub(crate) trouble: Option<String>,
    /// The word for its end.
    pub(crate) code: Option<String>,
    pub(crate) sees_client: bool,
    pub(crate) sees_server: bool,
}

/// One way of a conversation.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) written: Tally,
    pub(crate) read: Tally,
    /// On the wire: segments with payload, or datagrams.
    pub(crate) wire: Tally,
    /// Its writer has finished.
    pub(crate) is_over: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Flow {
    /// The most that anybody saw of it.
    pub(crate) fn most(&self) -> Tally {
        let tallies = [self.written, self.read, self.wire];
        tallies.into_iter().max_by_key(|tally| (tally.bytes, tally.count)).unwrap_or_default()
    }
}

impl Facts {
    pub(crate) fn of(talk: &Talk) -> Self {
        let mut facts = Self::default();
        for act in &talk.acts {
            facts.add(act);
        }
        facts
    }

    fn add(&mut self, act: &Act) {
        let faces_client = matches!(act.seen, Seen::Server | Seen::RelayToClient);
        self.sees_client |= act.seen == Seen::Client;
        self.sees_server |= act.seen == Seen::Server;
        match &act.did {
            Did::Accept { fd } => self.socket(act.seen, *fd),
            Did::Connect { fd, code, .. } => {
                self.socket(act.seen, *fd);
                self.fail(code.as_deref());
            }
            Did::Open => self.is_open = true,
            Did::Write { way, off, .. } => {
                self.flow(*way).written.add(off.end.saturating_sub(off.start));
            }
            Did::Read { way, off, .. } => {
                self.flow(*way).read.add(off.end.saturating_sub(off.start));
            }
            Did::Send { way, len, .. } => self.flow(*way).written.add(*len),
            Did::Receive { way, len, .. } => self.flow(*way).read.add(*len),
            Did::Packet { way, len, .. } => self.flow(*way).wire.add(*len),
            Did::Segment { way, flags, off, again, .. } => {
                self.is_open = true;
                if off.end > off.start && !again {
                    self.flow(*way).wire.add(off.end - off.start);
                }
                self.flow(*way).is_over |= flags.contains('F');
                self.fail(flags.contains('R').then_some("reset"));
            }
            Did::ReadEnd { way } | Did::WriteEnd { way } => self.flow(*way).is_over = true,
            Did::Close { fd } => {
                self.socket(act.seen, *fd);
                self.close(faces_client);
            }
            Did::Over { code, .. } => {
                self.close(faces_client);
                self.code.get_or_insert_with(|| code.to_string());
            }
            Did::Lost { code, .. } | Did::Error { code, .. } => self.fail(Some(&**code)),
            Did::Unreachable { .. } => self.fail(Some("unreachable")),
            Did::Truncated { .. } => self.fail(Some("truncated")),
            Did::Limit { .. } | Did::Drain => {}
        }
    }

    /// A descriptor of one of the two programs; a relay's own are not theirs.
    fn socket(&mut self, seen: Seen, fd: Option<i32>) {
        match seen {
            Seen::Client => self.client_fd = self.client_fd.or(fd),
            Seen::Server => self.server_fd = self.server_fd.or(fd),
            Seen::RelayToClient | Seen::RelayToServer | Seen::Wire => {}
        }
    }

    /// What faces the client ends the server's side of it.
    fn close(&mut self, faces_client: bool) {
        match faces_client {
            true => self.server_is_closed = true,
            false => self.client_is_closed = true,
        }
    }

    fn fail(&mut self, code: Option<&str>) {
        if let (Some(code), None) = (code, &self.trouble) {
            self.trouble = Some(code.to_owned());
        }
    }

    fn flow(&mut self, way: Way) -> &mut Flow {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// One word for where it stands: `open`, `ok`, `reset`.
    pub(crate) fn state(&self) -> Cow<'_, str> {
        match (&self.trouble, &self.code) {
            (Some(trouble), _) => trouble.into(),
            (None, Some(code)) => code.into(),
            (None, None) if self.client_is_closed && self.server_is_closed => "closed".into(),
            (None, None) => "open".into(),
        }
    }

    /// Did it end as it should, or has it not ended?
    pub(crate) fn is_clean(&self) -> bool {
        self.trouble.is_none()
            && self.code.as_deref().is_none_or(|code| matches!(code, "ok" | "drained"))
    }
}

/// When the first and the last act were.
pub(crate) fn span(talk: &Talk) -> (u64, u64) {
    let first = talk.acts.first().map_or(0, |act| act.at);
    (first, talk.acts.last().map_or(first, |act| act.at.max(first)))
}

/// The program that plays a part, if it wrote a trace.
pub(crate) fn program(story: &Story, seen: Seen) -> Option<&Program> {
    story.programs.iter().find(|program| program.seen == seen && !program.name.is_empty())
}

/// The socket that listened where this conversation's server is, or its relay.
pub(crate) fn door<'a>(story: &'a Story, talk: &Talk) -> Option<&'a Door> {
    let faces = talk.relay.as_ref().map_or(&talk.server, |(to_client, _)| to_client);
    let same = |door: &&Door| door.scheme == talk.scheme && door.addr == *faces;
    // A server that listens everywhere has another address in each conversation.
    let port = |addr: &str| addr.rsplit_once(':').map(|(_, port)| port.to_owned());
    let near = |door: &&Door| door.scheme == talk.scheme && port(&door.addr) == port(faces);
    story.doors.iter().find(same).or_else(|| story.doors.iter().find(near))
}

/// A moment, in milliseconds as far as that can be read: `501.200`, later `1234.5 s`.
pub(crate) fn moment(nanos: u64) -> String {
    const SECONDS_100: u64 = 100_000_000_000;
    if nanos < SECONDS_100 {
        return format!("{}.{:03}", nanos / 1_000_000, nanos / 1_000 % 1_000);
    }
    format!("{}.{} s", nanos / 1_000_000_000, nanos / 100_000_000 % 10)
}

/// `1 write`, `2 writes`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

pub(crate) fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
