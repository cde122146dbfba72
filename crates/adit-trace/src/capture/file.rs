//! The file of a capture: pcapng and classic pcap, from blocks and records to frames.

use std::io::Read;

use super::cursor::{Cursor, Order};
use crate::read::ReadError;

/// A block or record longer than this is refused. Wireshark itself writes none above 256 KiB of
/// packet, and a length field of a damaged file must not decide how much memory is taken.
const BLOCK_BYTES_MAX: u32 = 16 << 20;

/// Interfaces per section. A block that describes one has 20 bytes; a file could hold millions.
const INTERFACES_MAX: usize = 4096;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const NANOS: u64 = 1_000_000_000;

/// One captured frame.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// From 1, as every packet viewer counts.
    pub(super) number: u64,
    /// Nanoseconds since 1970; `None` where the file has no time.
    pub(super) at: Option<u64>,
    /// What its first header is: a LINKTYPE number.
    pub(super) link: u32,
    /// Which interface of the file saw it.
    pub(super) interface: u32,
    /// What was captured of it.
    pub(super) data: Vec<u8>,
    pub(super) comments: Vec<String>,
}

/// The frames of a capture, one after the other.
#[derive(Debug)]
pub(super) struct Frames<R> {
    source: R,
    format: Format,
    count: u64,
    offset: u64,
    /// The program that wrote it, as the section says.
    pub(super) program: String,
    /// Comments on the section, and what is wrong with the file.
    pub(super) notes: Vec<String>,
    /// Packets that the capturing machine dropped.
    pub(super) dropped: u64,
}

#[derive(Debug)]
enum Format {
    Pcap { order: Order, link: u32, tick_nanos: u64 },
    Pcapng { order: Order, interfaces: Vec<Interface> },
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snap: u32,
    ticks_per_second: u64,
    offset_seconds: i64,
}

/// What came of looking for the next block.
enum Next {
    Frame(Frame),
    Other,
    End,
}

/// The kind of capture that a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pcapng,
    /// With the nanoseconds of a tick.
    Pcap(Order, u64),
}

/// Looks at the first bytes of a file; 4 are enough.
pub(super) fn sniff(head: &[u8]) -> Option<Kind> {
    let magic = Cursor::new(head).u32()?;
    Some(match magic {
        SECTION_HEADER => {
            let order = head.get(8..12).map(section_order);
            return (order != Some(None)).then_some(Kind::Pcapng);
        }
        0xa1b2_c3d4 => Kind::Pcap(Order::Big, 1_000),
        0xd4c3_b2a1 => Kind::Pcap(Order::Little, 1_000),
        0xa1b2_3c4d => Kind::Pcap(Order::Big, 1),
        0x4d3c_b2a1 => Kind::Pcap(Order::Little, 1),
        _ => return None,
    })
}

fn section_order(bytes: &[u8]) -> Option<Order> {
    match bytes {
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(Order::Big),
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(Order::Little),
        _ => None,
    }
}

impl<R: Read> Frames<R> {
    /// Reads the header of the file.
    pub(super) fn open(mut source: R) -> Result<Self, ReadError> {
        let no_capture = |why: &str| ReadError::NoCapture(why.to_owned());
        let head = fill(&mut source, 24)?;
        let format = match sniff(&head) {
            None => return Err(ReadError::NoCapture(foreign(&head))),
            Some(Kind::Pcap(order, tick_nanos)) => {
                let mut cursor = Cursor::ordered(&head, order);
                let link = (|| {
                    cursor.skip(20)?;
                    cursor.u32()
                })();
                let link = link.ok_or_else(|| no_capture("the file ends within its header"))?;
                // The upper bits tell of a checksum behind each frame; it is never looked at.
                Format::Pcap { order, link: link & 0xffff, tick_nanos }
            }
            Some(Kind::Pcapng) => {
                let order = head
                    .get(8..12)
                    .and_then(section_order)
                    .ok_or_else(|| no_capture("the file ends within its first block"))?;
                Format::Pcapng { order, interfaces: Vec::new() }
            }
        };
        let is_pcapng = matches!(format, Format::Pcapng { .. });
        let mut frames = Self {
            source,
            format,
            count: 0,
            offset: 24,
            program: String::new(),
            notes: Vec::new(),
            dropped: 0,
        };
        if is_pcapng && !frames.first_section(&head)? {
            return Err(no_capture("the file ends within its first block"));
        }
        Ok(frames)
    }

    /// The next frame; `None` at the end, wanted or not.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            let next = match &self.format {
                Format::Pcap { .. } => self.record()?,
                Format::Pcapng { .. } => self.block()?,
            };
            match next {
                Next::Other => {}
                Next::End => return Ok(None),
                Next::Frame(mut frame) => {
                    self.count = self.count.saturating_add(1);
                    frame.number = self.count;
                    return Ok(Some(frame));
                }
            }
        }
    }

    fn record(&mut self) -> Result<Next, ReadError> {
        let Format::Pcap { order, link, tick_nanos } = self.format else {
            return Ok(Next::End);
        };
        let head = self.read(16)?;
        if head.is_empty() {
            return Ok(Next::End);
        }
        let mut cursor = Cursor::ordered(&head, order);
        let fields = (cursor.u32(), cursor.u32(), cursor.u32());
        let (Some(seconds), Some(ticks), Some(captured)) = fields else { return Ok(self.cut()) };
        if head.len() < 16 {
            return Ok(self.cut());
        }
        if captured > BLOCK_BYTES_MAX {
            return Ok(self.damaged(&format!("a frame of {captured} bytes")));
        }
        let data = self.read(captured)?;
        if data.len() < to_usize(captured) {
            return Ok(self.cut());
        }
        let nanos = u64::from(ticks).saturating_mul(tick_nanos);
        let at = u64::from(seconds).saturating_mul(NANOS).saturating_add(nanos);
        Ok(Next::Frame(Frame { at: Some(at), link, data, ..Frame::default() }))
    }

    /// The first block, whose first 24 bytes were looked at to find out what the file is.
    fn first_section(&mut self, head: &[u8]) -> Result<bool, ReadError> {
        let Format::Pcapng { order, .. } = self.format else { return Ok(false) };
        let mut cursor = Cursor::ordered(head, order);
        let length = cursor.skip(4).and_then(|()| cursor.u32()).unwrap_or(0);
        if !(28..=BLOCK_BYTES_MAX).contains(&length) {
            let why = format!("its first block claims {length} bytes");
            return Err(ReadError::NoCapture(why));
        }
        let rest = padded(length).saturating_sub(24);
        let tail = self.read(rest)?;
        if tail.len() < to_usize(rest) {
            return Ok(false);
        }
        let whole = [head, &tail].concat();
        let body = whole.get(12..whole.len().saturating_sub(4)).unwrap_or_default();
        self.section(body, order);
        Ok(true)
    }

    fn block(&mut self) -> Result<Next, ReadError> {
        let Format::Pcapng { mut order, .. } = self.format else { return Ok(Next::End) };
        let mut head = self.read(8)?;
        if head.is_empty() {
            return Ok(Next::End);
        }
        let mut used = 8;
        if head.starts_with(&SECTION_HEADER.to_be_bytes()) {
            // A section has its own order, and says so behind the length that needs it.
            head.extend(self.read(4)?);
            used = 12;
            match head.get(8..12).map(section_order) {
                None => return Ok(self.cut()),
                Some(None) => return Ok(self.damaged("a section without byte order")),
                Some(Some(new)) => order = new,
            }
        }
        let mut cursor = Cursor::ordered(&head, order);
        let (Some(kind), Some(length)) = (cursor.u32(), cursor.u32()) else {
            return Ok(self.cut());
        };
        if length.saturating_sub(used) < 4 || length > BLOCK_BYTES_MAX {
            return Ok(self.damaged(&format!("a block of {length} bytes")));
        }
        let rest = padded(length).saturating_sub(used);
        let mut body = self.read(rest)?;
        if body.len() < to_usize(rest) {
            return Ok(self.cut());
        }
        let tail = body.split_off(body.len().saturating_sub(4));
        if Cursor::ordered(&tail, order).u32() != Some(length) {
            return Ok(self.damaged("a block whose two lengths differ"));
        }
        Ok(self.take(kind, &body, order))
    }

    fn take(&mut self, kind: u32, body: &[u8], order: Order) -> Next {
        let cursor = Cursor::ordered(body, order);
        let taken = match kind {
            SECTION_HEADER => {
                self.section(body, order);
                Some(Next::Other)
            }
            1 => self.interface(cursor).map(|()| Next::Other),
            2 | 6 => self.packet(cursor, kind == 2),
            3 => self.simple_packet(cursor),
            5 => {
                self.statistics(cursor);
                Some(Next::Other)
            }
            // Names, secrets, journals, and what is yet to be invented.
            _ => Some(Next::Other),
        };
        taken.unwrap_or_else(|| self.damaged(&format!("a block of kind {kind} that is too short")))
    }

    /// `body` is what follows the byte order: version, length of the section, options.
    fn section(&mut self, body: &[u8], order: Order) {
        self.format = Format::Pcapng { order, interfaces: Vec::new() };
        let mut cursor = Cursor::ordered(body, order);
        let Some(major) = cursor.u16() else { return };
        if major != 1 {
            self.note(format!("the format of the file has version {major}, 1 is known"));
        }
        if cursor.skip(10).is_none() {
            return;
        }
        for (code, value) in options(cursor) {
            match code {
                1 => self.note(format!("comment on the capture: {}", text(value))),
                4 if self.program.is_empty() => self.program = text(value),
                _ => {}
            }
        }
    }

    fn interface(&mut self, mut cursor: Cursor<'_>) -> Option<()> {
        let (link, _reserved, snap) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let mut new =
            Interface { link: link.into(), snap, ticks_per_second: 1_000_000, offset_seconds: 0 };
        let Format::Pcapng { order, interfaces } = &mut self.format else { return None };
        for (code, value) in options(cursor) {
            let mut value = Cursor::ordered(value, *order);
            match code {
                9 => new.ticks_per_second = value.u8().map_or(1_000_000, ticks_per_second),
                14 => new.offset_seconds = value.u64().map_or(0, u64::cast_signed),
                _ => {}
            }
        }
        if interfaces.len() < INTERFACES_MAX {
            interfaces.push(new);
        }
        Some(())
    }

    /// An enhanced packet, or an obsolete one, which has a short interface number and drops.
    fn packet(&mut self, mut cursor: Cursor<'_>, is_obsolete: bool) -> Option<Next> {
        let interface = match is_obsolete {
            true => {
                let number = cursor.u16()?;
                cursor.skip(2)?;
                number.into()
            }
            false => cursor.u32()?,
        };
        let ticks = u64::from(cursor.u32()?) << 32 | u64::from(cursor.u32()?);
        let (captured, _length) = (to_usize(cursor.u32()?), cursor.u32()?);
        let data = cursor.take(captured)?.to_vec();
        // The last block of a careless writer may lack its padding, and then has no options either.
        cursor.skip(padding(captured).min(cursor.rest().len()))?;
        let comments = options(cursor).filter(|(code, _)| *code == 1).map(|(_, it)| text(it));
        let comments = comments.take(COMMENTS_MAX).collect();
        let Some(seen) = self.interface_of(interface) else {
            return Some(
                self.damaged(&format!("a packet of interface {interface}, not described")),
            );
        };
        let at = Some(seen.nanos(ticks));
        Some(Next::Frame(Frame { at, link: seen.link, interface, data, comments, number: 0 }))
    }

    fn simple_packet(&mut self, mut cursor: Cursor<'_>) -> Option<Next> {
        let length = cursor.u32()?;
        let Some(seen) = self.interface_of(0) else {
            return Some(self.damaged("a packet of interface 0, not described"));
        };
        let snap = if seen.snap == 0 { u32::MAX } else { seen.snap };
        let captured = to_usize(length.min(snap)).min(cursor.rest().len());
        let data = cursor.take(captured)?.to_vec();
        Some(Next::Frame(Frame { link: seen.link, data, ..Frame::default() }))
    }

    fn statistics(&mut self, mut cursor: Cursor<'_>) {
        let Format::Pcapng { order, .. } = self.format else { return };
        if cursor.skip(12).is_none() {
            return;
        }
        // 5: dropped by the interface, 7: by the operating system.
        for (_, value) in options(cursor).filter(|(code, _)| matches!(code, 5 | 7)) {
            let count = Cursor::ordered(value, order).u64().unwrap_or(0);
            self.dropped = self.dropped.saturating_add(count);
        }
    }

    fn interface_of(&self, number: u32) -> Option<Interface> {
        match &self.format {
            Format::Pcapng { interfaces, .. } => interfaces.get(to_usize(number)).copied(),
            Format::Pcap { .. } => None,
        }
    }

    fn read(&mut self, count: u32) -> Result<Vec<u8>, ReadError> {
        let bytes = fill(&mut self.source, count)?;
        let read = u64::try_from(bytes.len()).unwrap_or(0);
        self.offset = self.offset.saturating_add(read);
        Ok(bytes)
    }

    fn cut(&mut self) -> Next {
        let (offset, count) = (self.offset, self.count);
        self.note(format!("the capture ends in the middle, at byte {offset}, after frame {count}"));
        Next::End
    }

    fn damaged(&mut self, what: &str) -> Next {
        let (offset, count) = (self.offset, self.count);
        self.note(format!(
            "the capture is damaged before byte {offset}: {what}; nothing behind frame {count} is read"
        ));
        Next::End
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}

/// Comments that are kept of one frame.
const COMMENTS_MAX: usize = 8;

/// Notes on the file itself.
const NOTES_MAX: usize = 32;

impl Interface {
    fn nanos(self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks).saturating_mul(u128::from(NANOS));
        let nanos = nanos.checked_div(u128::from(self.ticks_per_second)).unwrap_or(0);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let offset = i128::from(self.offset_seconds).saturating_mul(i128::from(NANOS));
        u64::try_from(nanos.saturating_add(offset).max(0)).unwrap_or(u64::MAX)
    }
}

/// `if_tsresol`: a power of ten, or of two where the highest bit is set. What is finer than 64 bits
/// can hold is taken as the finest.
fn ticks_per_second(resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7f);
    let base: u64 = if resolution & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(exponent).unwrap_or(u64::MAX)
}

/// The options of a block, to the end mark or to the first that is broken.
fn options(mut cursor: Cursor<'_>) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, length) = (cursor.u16()?, usize::from(cursor.u16()?));
        if code == 0 {
            return None;
        }
        let value = cursor.take(length)?;
        // The last option of some writers is not padded.
        cursor.skip(padding(length).min(cursor.rest().len()))?;
        Some((code, value))
    })
}

/// A text of the file, of which no more is kept than can be shown.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..TEXT_BYTES_MAX).unwrap_or(value)).into_owned()
}

const TEXT_BYTES_MAX: usize = 512;

/// Up to `count` bytes; memory grows with what is there, not with what is claimed.
fn fill(source: &mut impl Read, count: u32) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    source.by_ref().take(count.into()).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    Ok(bytes)
}

/// A length with its padding; one that has no room for it is refused as too long anyway.
fn padded(length: u32) -> u32 {
    length.checked_next_multiple_of(4).unwrap_or(length)
}

/// How many bytes fill up the last word.
fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What a file is that is no capture, where that can be told.
fn foreign(head: &[u8]) -> String {
    match head {
        [] => "the file is empty",
        [0x1f, 0x8b, ..] => "it is compressed: gunzip it first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed: unzstd it first",
        [b's', b'n', b'o', b'o', b'p', 0, ..] => "it is a snoop file: editcap -F pcapng turns it",
        [0xa1, 0xb2, 0xcd, 0x34, ..] | [0x34, 0xcd, 0xb2, 0xa1, ..] => {
            "it is a pcap file as changed by Kuznetsov: editcap -F pcapng turns it"
        }
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => "its first block has no byte order",
        [b'{', ..] => "it is JSON, perhaps a trace",
        _ if head.len() < 4 => "it is shorter than any capture",
        _ => "it begins as neither pcapng nor pcap does",
    }
    .to_owned()
}
