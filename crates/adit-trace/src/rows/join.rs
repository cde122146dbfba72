//! Joining acts to rows, one act after the other, so that a live picture equals one from a file.

use std::collections::VecDeque;
use std::ops::Range;

use super::label::clean;
use super::{
    Close, Datagram, End, Fate, GAP_NS, HEAD_BYTES_MAX, Kind, Message, Observers, Pieces,
    ROW_NS_MAX, Row, SIZES_MAX, Setup, Stage, Trouble,
};
use crate::story::{Act, Did, Seen, Way};

/// A datagram that was sent and not received for so long is lost: 10 s, in nanoseconds.
const FLIGHT_NS_MAX: u64 = 10_000_000_000;

/// At most this many rows wait for what the other side tells of them.
const OPEN_ROWS_MAX: usize = 64;

/// Joins the acts of one talk to rows, in order of time.
///
/// It holds the last rows as long as something can still join them: 50 ms after their last act, a
/// datagram between two programs that were both seen for 10 s.
#[derive(Debug, Default)]
pub struct Joiner {
    observers: Observers,
    open: VecDeque<Row>,
    /// The end of the last row that went out.
    until: Option<u64>,
    /// How far each way was written, and has ended.
    up: Progress,
    down: Progress,
    /// At most this many acts are listed in a row.
    acts_max: usize,
    /// Time does not matter: rows wait for each other however long it takes, and none is a silence.
    is_timeless: bool,
}

#[derive(Debug, Default)]
struct Progress {
    end: u64,
    is_over: bool,
    /// The greatest number of a datagram that came in.
    came: Option<u64>,
}

impl Joiner {
    /// A joiner for a talk that these tell of.
    pub fn new(observers: Observers) -> Self {
        Self { observers, acts_max: usize::MAX, ..Self::default() }
    }

    /// The same, whose rows list at most `acts_max` acts: what is drawn live need not keep them all.
    #[must_use]
    pub fn with_acts_max(mut self, acts_max: usize) -> Self {
        self.acts_max = acts_max;
        self
    }

    /// The same, whose rows do not depend on times, only on the order of acts: without silences.
    #[must_use]
    pub fn timeless(mut self) -> Self {
        self.is_timeless = true;
        self
    }

    /// Takes in the next act and its place in the talk; rows that are finished go to `out`.
    pub fn push(&mut self, index: usize, act: &Act, out: &mut Vec<Row>) {
        self.tick(act.at, out);
        self.take(index, act);
        while self.open.len() > OPEN_ROWS_MAX || self.front_is_whole() {
            self.send_front(out);
        }
    }

    /// It is `now`, in nanoseconds: rows whose time has passed go to `out`.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Row>) {
        let observers = self.observers;
        let has_passed = |row: &Row| has_passed(row, now, observers);
        while !self.is_timeless && self.open.front().is_some_and(has_passed) {
            self.send_front(out);
        }
    }

    /// The talk is over: the last rows go to `out`.
    pub fn finish(mut self, out: &mut Vec<Row>) {
        while !self.open.is_empty() {
            self.send_front(out);
        }
    }

    /// Is nothing held back?
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    fn front_is_whole(&self) -> bool {
        // The last row can still grow.
        self.open.len() > 1 && self.open.front().is_some_and(is_whole)
    }

    fn send_front(&mut self, out: &mut Vec<Row>) {
        let Some(mut row) = self.open.pop_front() else { return };
        if let Kind::Datagram(datagram) = &mut row.kind {
            datagram.fate = fate(datagram, self.observers);
        }
        if let Some(until) = self.until
            && !self.is_timeless
            && row.at.saturating_sub(until) > GAP_NS
        {
            out.push(Row { at: until, until: row.at, acts: Vec::new(), kind: Kind::Gap });
        }
        self.until = Some(self.until.unwrap_or(0).max(row.until));
        out.push(row);
    }

    fn take(&mut self, index: usize, act: &Act) {
        match &act.did {
            Did::Accept { .. } | Did::Connect { .. } | Did::Open => self.setup(index, act),
            Did::Write { way, off, bytes } | Did::Read { way, off, bytes } => {
                self.bytes(index, act, Span { way: *way, off: off.clone(), bytes, again: false });
            }
            Did::Send { way, msg, len, bytes }
            | Did::Receive { way, msg, len, bytes }
            | Did::Packet { way, msg, len, bytes } => {
                self.datagram(index, act, (*way, *msg, *len), bytes);
            }
            Did::ReadEnd { way } | Did::WriteEnd { way } => self.end(index, act, *way),
            Did::Segment { way, flags, off, bytes, again, .. } => {
                if flags.contains('S') || self.is_third_packet(*way, flags, off) {
                    self.setup(index, act);
                }
                if !off.is_empty() {
                    let span = Span { way: *way, off: off.clone(), bytes, again: *again };
                    self.bytes(index, act, span);
                }
                if flags.contains('F') {
                    self.end(index, act, *way);
                }
                if flags.contains('R') {
                    self.refuse(*way);
                    self.add(index, act, Kind::Reset { way: *way });
                }
            }
            Did::Close { .. } | Did::Over { .. } => self.close(index, act),
            Did::Truncated { .. }
            | Did::Lost { .. }
            | Did::Limit { .. }
            | Did::Error { .. }
            | Did::Drain
            | Did::Unreachable { .. } => {
                let kind = Kind::Trouble(trouble(act));
                self.add(index, act, kind);
            }
        }
    }

    fn add(&mut self, index: usize, act: &Act, kind: Kind) {
        self.open.push_back(Row { at: act.at, until: act.at, acts: vec![index], kind });
    }

    fn setup(&mut self, index: usize, act: &Act) {
        let acts_max = self.acts_max;
        let at = self.open.iter().position(|row| matches!(row.kind, Kind::Setup(_)));
        let at = at.unwrap_or_else(|| {
            self.open.push_back(empty(act.at, Kind::Setup(Setup::default())));
            self.open.len() - 1
        });
        let Some(row) = self.open.get_mut(at) else { return };
        let Kind::Setup(setup) = &mut row.kind else { return };
        match &act.did {
            Did::Accept { fd } => {
                setup.accept = Some(act.seen);
                setup.accept_fd = fd.or(setup.accept_fd);
            }
            Did::Connect { fd, addr, took, code } => {
                setup.connect = Some(act.seen);
                setup.connect_fd = fd.or(setup.connect_fd);
                setup.took = took.or(setup.took);
                setup.addr.clone_from(addr);
                setup.code.clone_from(code);
            }
            Did::Open => setup.is_open = true,
            Did::Segment { way, flags, .. } => {
                setup.packets += 1;
                let name = packet_name(flags);
                if !setup.handshake.iter().any(|(_, known, of)| known == way && *of == name) {
                    setup.handshake.push((act.at, *way, name));
                }
            }
            _ => {}
        }
        touch(row, index, act, acts_max);
    }

    /// A reset in answer to the first packet: nobody listens there.
    fn refuse(&mut self, way: Way) {
        for row in &mut self.open {
            if let Kind::Setup(setup) = &mut row.kind
                && way == Way::Down
                && setup.is_unanswered()
            {
                setup.code = Some("refused".into());
            }
        }
    }

    /// The client's acknowledgement that ends the handshake: later ones are no row.
    fn is_third_packet(&self, way: Way, flags: &str, off: &Range<u64>) -> bool {
        let setup = self.open.iter().find_map(|row| match &row.kind {
            Kind::Setup(setup) => Some(setup),
            _ => None,
        });
        let is_next = setup.is_some_and(|setup| {
            setup.handshake.last().is_some_and(|(_, of, name)| *of != way && *name == "SYN,ACK")
        });
        is_next && off.is_empty() && flags == "A"
    }

    /// Bytes join the row that first told of them, else the last row if it goes the same way.
    fn bytes(&mut self, index: usize, act: &Act, span: Span<'_>) {
        let (stage, acts_max) = (stage(act), self.acts_max);
        let mut rest = span.off.clone();
        let mut is_first = true;
        for row in &mut self.open {
            let Kind::Message(message) = &mut row.kind else { continue };
            if message.way != span.way || !tells_more(message, stage, &rest) {
                continue;
            }
            let here = rest.start..rest.end.min(message.off.end);
            rest.start = here.end;
            message.again += u64::from(span.again && is_first);
            count(message, stage, (here, act.at), is_first);
            touch(row, index, act, acts_max);
            is_first = false;
            if rest.is_empty() {
                return;
            }
        }
        let progress = self.progress(span.way);
        let is_late = rest.start < progress.end && stage > Stage::Written && !span.again;
        progress.end = progress.end.max(rest.end);
        let place = self.growing(span.way, is_late).unwrap_or_else(|| {
            let (off, way) = (rest.clone(), span.way);
            let (stages, head) = (Vec::new(), Vec::new());
            let new = Message { way, off, stages, head, again: 0, is_late };
            self.open.push_back(empty(act.at, Kind::Message(new)));
            self.open.len() - 1
        });
        let Some(row) = self.open.get_mut(place) else { return };
        let Kind::Message(message) = &mut row.kind else { return };
        let skipped = usize::try_from(rest.start - span.off.start).unwrap_or(usize::MAX);
        message.again += u64::from(span.again && is_first);
        message.off = message.off.start.min(rest.start)..message.off.end.max(rest.end);
        extend_head(message, rest.start, span.bytes.get(skipped..).unwrap_or_default());
        count(message, stage, (rest, act.at), is_first);
        touch(row, index, act, acts_max);
    }

    /// The row that bytes of this way can still join: nothing else has happened since.
    fn growing(&self, way: Way, is_late: bool) -> Option<usize> {
        for (place, row) in self.open.iter().enumerate().rev() {
            match &row.kind {
                Kind::Message(message) if message.way == way && message.is_late == is_late => {
                    return Some(place);
                }
                Kind::Message(message) if message.way == way => {}
                _ => return None,
            }
        }
        None
    }

    fn datagram(&mut self, index: usize, act: &Act, what: (Way, u64, u64), bytes: &[u8]) {
        let (way, msg, len) = what;
        let (stage, acts_max) = (stage(act), self.acts_max);
        let mut overtaken_by = None;
        if matches!(stage, Stage::Read | Stage::Passed) {
            let came = &mut self.progress(way).came;
            overtaken_by = came.filter(|before| *before > msg);
            *came = (*came).max(Some(msg));
        }
        let known = self.open.iter_mut().find(|row| match &row.kind {
            Kind::Datagram(datagram) => {
                datagram.way == way && datagram.msg == msg && datagram.at(stage).is_none()
            }
            _ => false,
        });
        if let Some(row) = known {
            if let Kind::Datagram(datagram) = &mut row.kind {
                datagram.stages.push((stage, act.at));
                datagram.overtaken_by = overtaken_by.or(datagram.overtaken_by);
                datagram.stages.sort_unstable();
            }
            return touch(row, index, act, acts_max);
        }
        let head = bytes.iter().take(HEAD_BYTES_MAX).copied().collect();
        let stages = vec![(stage, act.at)];
        let fate = Fate::Unknown;
        let datagram = Datagram { way, msg, len, head, stages, overtaken_by, fate };
        self.add(index, act, Kind::Datagram(datagram));
    }

    fn end(&mut self, index: usize, act: &Act, way: Way) {
        let (stage, acts_max) = (stage(act), self.acts_max);
        let known = self.open.iter_mut().find(|row| match &row.kind {
            Kind::End(end) => end.way == way && !end.stages.contains(&stage),
            _ => false,
        });
        if let Some(row) = known {
            if let Kind::End(end) = &mut row.kind {
                end.stages.push(stage);
                end.stages.sort_unstable();
            }
            return touch(row, index, act, acts_max);
        }
        self.progress(way).is_over = true;
        let other = if way == Way::Up { Way::Down } else { Way::Up };
        let is_last = self.progress(other).is_over;
        self.add(index, act, Kind::End(End { way, stages: vec![stage], is_last }));
    }

    fn close(&mut self, index: usize, act: &Act) {
        let acts_max = self.acts_max;
        let known = self.open.iter().position(|row| match &row.kind {
            Kind::Close(close) => same_program(close.seen, act.seen),
            _ => false,
        });
        let at = known.unwrap_or_else(|| {
            self.open.push_back(empty(act.at, Kind::Close(Close::of(act.seen))));
            self.open.len() - 1
        });
        let Some(row) = self.open.get_mut(at) else { return };
        let Kind::Close(close) = &mut row.kind else { return };
        match &act.did {
            Did::Close { fd } => close.fd = close.fd.or(*fd),
            Did::Over { code, bytes_in, bytes_out, took } => {
                if close.is_clean() {
                    close.code = Some(code.clone());
                }
                close.count((*bytes_in, *bytes_out), *took);
            }
            _ => {}
        }
        touch(row, index, act, acts_max);
    }

    fn progress(&mut self, way: Way) -> &mut Progress {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

/// Bytes of one act.
struct Span<'a> {
    way: Way,
    off: Range<u64>,
    bytes: &'a [u8],
    again: bool,
}

/// Where on its way an act saw what it tells of.
pub(crate) fn stage(act: &Act) -> Stage {
    let is_relay = matches!(act.seen, Seen::RelayToClient | Seen::RelayToServer);
    match &act.did {
        _ if act.seen == Seen::Wire => Stage::Wire,
        Did::Write { .. } | Did::Send { .. } | Did::WriteEnd { .. } if is_relay => Stage::Passed,
        Did::Write { .. } | Did::Send { .. } | Did::WriteEnd { .. } => Stage::Written,
        _ if is_relay => Stage::Came,
        _ => Stage::Read,
    }
}

fn packet_name(flags: &str) -> &'static str {
    match (flags.contains('S'), flags.contains('A')) {
        (true, true) => "SYN,ACK",
        (true, false) => "SYN",
        _ => "ACK",
    }
}

fn same_program(one: Seen, other: Seen) -> bool {
    let is_relay = |seen| matches!(seen, Seen::RelayToClient | Seen::RelayToServer);
    one == other || (is_relay(one) && is_relay(other))
}

fn empty(at: u64, kind: Kind) -> Row {
    Row { at, until: at, acts: Vec::new(), kind }
}

fn touch(row: &mut Row, index: usize, act: &Act, acts_max: usize) {
    row.until = row.until.max(act.at);
    if row.acts.len() < acts_max {
        row.acts.push(index);
    }
}

/// Does a piece that was seen here tell something new of bytes that are in this message already?
fn tells_more(message: &Message, stage: Stage, off: &Range<u64>) -> bool {
    if !message.off.contains(&off.start) {
        return false;
    }
    match message.at(stage) {
        // On the wire the same bytes may go by again.
        Some(pieces) => stage == Stage::Wire || pieces.off.end <= off.start,
        None => true,
    }
}

fn count(message: &mut Message, stage: Stage, what: (Range<u64>, u64), is_first: bool) {
    let (off, at) = what;
    let bytes = off.end.saturating_sub(off.start);
    let place = message.stages.partition_point(|pieces| pieces.stage < stage);
    if message.stages.get(place).is_none_or(|pieces| pieces.stage != stage) {
        let (off, sizes) = (off.clone(), Vec::new());
        let new = Pieces { stage, count: 0, bytes: 0, off, first: at, last: at, sizes };
        message.stages.insert(place, new);
    }
    let Some(pieces) = message.stages.get_mut(place) else { return };
    if pieces.count == 1 && pieces.sizes.is_empty() {
        pieces.sizes.push(pieces.bytes);
    }
    if !pieces.sizes.is_empty() && pieces.sizes.len() < SIZES_MAX {
        pieces.sizes.push(bytes);
    }
    pieces.count += u64::from(is_first);
    pieces.bytes = pieces.bytes.saturating_add(bytes);
    pieces.off = pieces.off.start.min(off.start)..pieces.off.end.max(off.end);
    pieces.last = pieces.last.max(at);
}

/// Keeps the first bytes of a message, as far as they follow each other.
fn extend_head(message: &mut Message, from: u64, bytes: &[u8]) {
    let known = u64::try_from(message.head.len()).unwrap_or(u64::MAX);
    if message.off.start.saturating_add(known) == from {
        let room = HEAD_BYTES_MAX.saturating_sub(message.head.len());
        message.head.extend(bytes.iter().take(room));
    }
}

fn has_passed(row: &Row, now: u64, observers: Observers) -> bool {
    // Whoever sees both ends waits for the other one: what is on its way is not lost.
    if let Kind::Datagram(datagram) = &row.kind
        && observers.both_ends()
        && [Stage::Written, Stage::Read].iter().any(|stage| datagram.at(*stage).is_none())
    {
        return now.saturating_sub(row.at) > FLIGHT_NS_MAX;
    }
    let is_old = now.saturating_sub(row.at) > ROW_NS_MAX;
    now.saturating_sub(row.until) > GAP_NS || (is_old && matches!(row.kind, Kind::Message(_)))
}

/// Has everything been told of this row that anybody can tell?
fn is_whole(row: &Row) -> bool {
    let Kind::Message(message) = &row.kind else { return false };
    let ends_at = |stage| message.at(stage).map(|pieces| pieces.off.end);
    let whole = |from, to| ends_at(from).is_some() && ends_at(from) == ends_at(to);
    match ends_at(Stage::Came).is_some() {
        false => whole(Stage::Written, Stage::Read),
        // Programs beside the relay may have more to tell; then they have told something before.
        true => whole(Stage::Came, Stage::Passed) && ends_at(Stage::Written).is_none(),
    }
}

fn fate(datagram: &Datagram, observers: Observers) -> Fate {
    let last = datagram.stages.last().map(|(stage, _)| *stage);
    let first = datagram.stages.first().map(|(stage, _)| *stage);
    match (first, last) {
        (Some(Stage::Written | Stage::Came | Stage::Wire), Some(Stage::Read)) => Fate::Arrived,
        (Some(Stage::Came), Some(Stage::Passed)) if !observers.both_ends() => Fate::Arrived,
        (_, Some(Stage::Read)) if observers.both_ends() => Fate::Late,
        (Some(Stage::Written), _) if observers.both_ends() => Fate::Missing,
        (_, Some(Stage::Came)) if observers.relay => Fate::Missing,
        (Some(Stage::Passed), _) if !observers.both_ends() => Fate::Late,
        _ => Fate::Unknown,
    }
}

fn trouble(act: &Act) -> Trouble {
    let (code, text): (&str, String) = match &act.did {
        Did::Truncated { len } => ("truncated", format!("datagram cut off: only {len} B kept")),
        Did::Lost { code, unconfirmed } => {
            ("lost", format!("{unconfirmed} B sent and never confirmed ({})", clean(code)))
        }
        Did::Limit { name, action, count } => {
            let times = if *count == 1 { String::new() } else { format!(", {count} times") };
            ("limit", format!("limit {} met: {}{times}", clean(name), clean(action)))
        }
        Did::Error { code, text, place } => {
            let place = if place.is_empty() { String::new() } else { clean(place) + ": " };
            (code, format!("{place}{} ({})", clean(text), clean(code)))
        }
        Did::Drain => ("drain", "the server was told to stop".to_owned()),
        Did::Unreachable { .. } => ("unreachable", "nobody listens there (ICMP)".to_owned()),
        _ => ("", String::new()),
    };
    Trouble { seen: act.seen, code: clean(code).into(), text }
}
