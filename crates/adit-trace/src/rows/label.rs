//! Labels: sizes, durations and foreign bytes as one line of text of a known width.

use adit_proto::escape::{escape_line, is_unsafe};

use super::{Close, Fate, Kind, Message, Pieces, Row, Stage};
use crate::story::Way;

impl Row {
    /// Which way its arrow points; none for what has no arrow.
    pub fn way(&self) -> Option<Way> {
        match &self.kind {
            Kind::Setup(_) => Some(Way::Up),
            Kind::Message(message) => Some(message.way),
            Kind::Datagram(datagram) => Some(datagram.way),
            Kind::End(end) => Some(end.way),
            Kind::Reset { way } => Some(*way),
            Kind::Close(_) | Kind::Trouble(_) | Kind::Gap => None,
        }
    }

    /// Did something go wrong here: a failure, a reset, a missing datagram?
    pub fn is_trouble(&self) -> bool {
        match &self.kind {
            Kind::Setup(setup) => setup.code.is_some(),
            Kind::Datagram(datagram) => datagram.fate == Fate::Missing,
            Kind::Close(close) => !close.is_clean(),
            Kind::Reset { .. } | Kind::Trouble(_) => true,
            Kind::Message(_) | Kind::End(_) | Kind::Gap => false,
        }
    }

    /// What stands on its arrow, at most `columns` wide: `78 B "GET / HTTP/1.1"`.
    pub fn label(&self, columns: usize) -> String {
        let text = match &self.kind {
            Kind::Setup(setup) => match (&setup.code, setup.took) {
                (Some(code), _) => format!("not connected ({})", clean(code)),
                (None, Some(took)) => format!("connected ({})", duration(took)),
                (None, None) if setup.is_unanswered() => "no answer".to_owned(),
                (None, None) => "connected".to_owned(),
            },
            Kind::Message(message) => {
                let lead = size(message.off.end.saturating_sub(message.off.start));
                return with_payload(&lead, &message.head, columns);
            }
            Kind::Datagram(datagram) => {
                let lead = format!("#{} {}", datagram.msg, size(datagram.len));
                return with_payload(&lead, &datagram.head, columns);
            }
            Kind::End(_) => "FIN".to_owned(),
            Kind::Reset { .. } => "RST".to_owned(),
            Kind::Close(close) => match &close.code {
                Some(code) if !close.is_clean() => format!("over: {}", clean(code)),
                _ => "close".to_owned(),
            },
            Kind::Trouble(trouble) => trouble.text.clone(),
            Kind::Gap => format!("{} of silence", duration(self.until.saturating_sub(self.at))),
        };
        cut(&text, columns)
    }

    /// What each side did for it: `10 writes, 1 read of 100 B`; empty if there is nothing to add.
    pub fn note(&self) -> String {
        match &self.kind {
            Kind::Setup(setup) => match setup.packets {
                0 => String::new(),
                packets => plural(packets, "packet"),
            },
            Kind::Message(message) => message.note(),
            Kind::Datagram(datagram) => match datagram.fate {
                Fate::Missing => "not seen to arrive".to_owned(),
                Fate::Late => "late, or once more".to_owned(),
                Fate::Arrived | Fate::Unknown => datagram
                    .overtaken_by
                    .map_or_else(String::new, |msg| format!("arrived after #{msg}")),
            },
            Kind::End(end) if end.is_last => "finished too".to_owned(),
            Kind::End(end) => match end.way {
                Way::Up => "client has finished; server may still answer".to_owned(),
                Way::Down => "server has finished; client may still send".to_owned(),
            },
            Kind::Reset { .. } => "thrown away".to_owned(),
            Kind::Close(close) => close.sums().unwrap_or_default(),
            Kind::Trouble(_) | Kind::Gap => String::new(),
        }
    }
}

impl Close {
    /// `in 6 B, out 6 B, 3 ms`; without bytes that nobody counted.
    pub(crate) fn sums(&self) -> Option<String> {
        let (bytes_in, bytes_out) = self.bytes;
        Some(format!("{}{}", counted(bytes_in, bytes_out), duration(self.took?)))
    }
}

/// `in 6 B, out 6 B, `, or as much of it as is known.
pub(crate) fn counted(bytes_in: Option<u64>, bytes_out: Option<u64>) -> String {
    let part = |word: &str, bytes: Option<u64>| {
        bytes.map_or_else(String::new, |bytes| format!("{word} {}, ", size(bytes)))
    };
    part("in", bytes_in) + &part("out", bytes_out)
}

impl Message {
    /// `1 write, 2 reads`: how it was cut into pieces at each stage that was seen.
    fn note(&self) -> String {
        let mut note = match &*self.stages {
            [came, passed]
                if came.stage == Stage::Came
                    && passed.stage == Stage::Passed
                    && came.count == passed.count
                    && came.count > 0 =>
            {
                format!("relayed in {}", plural(came.count, "piece"))
            }
            stages => stages.iter().map(Pieces::note).collect::<Vec<_>>().join(", "),
        };
        if self.again > 0 {
            note.push_str(&format!(", {} sent again", self.again));
        }
        if self.is_late {
            note.push_str(", waited in the buffer");
        }
        note
    }
}

impl Pieces {
    /// `10 writes`, `1 read`, `2 segments`, `3 pieces came`, `1 passed on`.
    pub fn note(&self) -> String {
        match (self.stage, self.count) {
            (Stage::Read, 0) => "read with the one before".to_owned(),
            (Stage::Wire, 0) => "in the segment before".to_owned(),
            (Stage::Passed, 0) => "passed on with the one before".to_owned(),
            (Stage::Written | Stage::Came, 0) => "more of the one before".to_owned(),
            (Stage::Written, count) => plural(count, "write"),
            (Stage::Came, count) => format!("{} came", plural(count, "piece")),
            (Stage::Wire, count) => plural(count, "segment"),
            (Stage::Passed, count) => format!("passed on in {}", thousands(count)),
            (Stage::Read, count) => plural(count, "read"),
        }
    }

    /// `1448 B + 612 B`: the sizes of the pieces, where there are several; at most `columns` wide.
    pub fn sums(&self, columns: usize) -> String {
        let sizes: Vec<String> = self.sizes().iter().map(|bytes| bytes.to_string()).collect();
        let text = sizes.join(" + ");
        let is_all = u64::try_from(sizes.len()).is_ok_and(|known| known >= self.count);
        match is_all && width(&text) + 2 <= columns {
            true => text + " B",
            false => cut(&format!("{} in {}", size(self.bytes), self.note()), columns),
        }
    }
}

/// `1 write`, `2 writes`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", thousands(count)),
    }
}

/// A number with commas: `998,000`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: exact up to 99,999, then with a unit: `78 B`, `1.21 MB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=99_999 => format!("{bytes} B"),
        _ => scaled(bytes, &[(1_000, "kB"), (1_000_000, "MB"), (1_000_000_000, "GB")]),
    }
}

/// A number of nanoseconds with the unit that fits: `85.0 us`, `0.10 ms`, `1.50 s`.
pub fn duration(nanos: u64) -> String {
    match nanos {
        0..=999 => format!("{nanos} ns"),
        _ => scaled(nanos, &[(1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s")]),
    }
}

/// Three digits and the largest unit that is not greater.
fn scaled(number: u64, units: &[(u64, &str)]) -> String {
    let fitting = units.iter().rev().find(|(unit, _)| number >= *unit).or_else(|| units.first());
    let Some((unit, word)) = fitting else { return number.to_string() };
    let (whole, hundredths) = (number / unit, number % unit * 100 / unit);
    match whole {
        0..=9 => format!("{whole}.{hundredths:02} {word}"),
        10..=99 => format!("{whole}.{} {word}", hundredths / 10),
        _ => format!("{whole} {word}"),
    }
}

/// Foreign text as one line without anything a terminal obeys.
pub fn clean(text: &str) -> String {
    if is_printable(text) || !text.contains(is_unsafe) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match is_unsafe(char) {
            true => safe.push_str(&escape_line(char.encode_utf8(&mut [0; 4]).as_bytes(), 16)),
            false => safe.push(char),
        }
    }
    safe
}

/// How many columns a text takes on a terminal. What is not sure to be narrow counts as wide.
pub fn width(text: &str) -> usize {
    // Nearly every text is, and every picture asks for the width of each of its words.
    if text.is_ascii() {
        return text.len();
    }
    text.chars().map(char_width).sum()
}

/// Nothing but printable ASCII. Looks at all of it, without a branch, which is faster than to stop early.
fn is_printable(text: &str) -> bool {
    text.bytes().fold(true, |is_printable, byte| is_printable & matches!(byte, b' '..=b'~'))
}

fn char_width(char: char) -> usize {
    match char {
        '\0'..='\u{10ff}' | '\u{1160}'..='\u{1fff}' => 1,
        '\u{2010}'..='\u{25ff}' | '\u{fffd}' => 1,
        _ => 2,
    }
}

/// A text that is at most `columns` wide; what does not fit ends in `...`.
///
/// Control characters are shown, not obeyed: nothing that comes out moves a cursor.
pub fn cut(text: &str, columns: usize) -> String {
    let text = clean(text);
    if width(&text) <= columns {
        return text;
    }
    let dots = columns.min(3);
    let (mut kept, mut room) = (String::new(), columns - dots);
    for char in text.chars() {
        let Some(left) = room.checked_sub(char_width(char)) else { break };
        room = left;
        kept.push(char);
    }
    kept.push_str("...".get(..dots).unwrap_or_default());
    kept
}

/// `78 B "GET / HTTP/1.1"`: the payload as far as there is room for at least some of it.
fn with_payload(lead: &str, bytes: &[u8], columns: usize) -> String {
    const ROOM_MIN: usize = 6;
    let room = columns.saturating_sub(width(lead) + 3);
    if bytes.is_empty() || room < ROOM_MIN {
        return cut(lead, columns);
    }
    // Escapes stay whole: the bytes that fit are found before they are put together.
    let mut text = escape_line(bytes, room);
    let mut chars_max = room - 3;
    while width(&text) > room && chars_max > 0 {
        text = escape_line(bytes, chars_max);
        chars_max = chars_max.saturating_sub(3);
    }
    match width(&text) <= room {
        true => format!("{lead} \"{text}\""),
        false => cut(lead, columns),
    }
}
