//! Captures of packets, as tcpdump and Wireshark write them: from pcapng or pcap to a story.
//!
//! Nothing in a capture is trusted: lengths are checked in one place, memory is bounded, and a file
//! that is cut or damaged gives what stands before that, with a note.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

mod cursor;
mod file;
mod layers;
mod stream;
mod talks;

use std::io::{BufReader, Read};

use crate::read::ReadError;
use crate::story::{Program, Seen, Story};
use crate::time;

/// Is this the beginning of a capture? The first 12 bytes are enough.
///
/// ```
/// assert!(adit_trace::capture::is_capture(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0]));
/// assert!(!adit_trace::capture::is_capture(b"{\"v\":1,\"n\":0}"));
/// ```
pub fn is_capture(head: &[u8]) -> bool {
    file::sniff(head).is_some()
}

/// Reads a capture in pcapng or pcap to its end.
///
/// Every TCP connection and every pair of UDP addresses is a conversation. The number of an act is
/// that of its frame, from 1 as in every packet viewer. The client is who sent the SYN, or the first
/// datagram; where the beginning is missing, the lower port is the server's, and a note says so.
///
/// # Errors
/// The source cannot be read, or it is no capture.
pub fn read(source: impl Read) -> Result<Story, ReadError> {
    let mut frames = file::Frames::open(BufReader::new(source))?;
    let mut talks = talks::Talks::default();
    let mut comments = Vec::new();
    while let Some(frame) = frames.next()? {
        talks.take(&frame);
        let room = COMMENTS_MAX.saturating_sub(comments.len());
        let number = frame.number;
        comments.extend(frame.comments.into_iter().take(room).map(|text| (number, text)));
    }
    let (mut story, first) = talks.finish();
    if let Some(first) = first {
        story.start = time::rfc3339(first);
    }
    let is_drawn = frames.notes.iter().any(|note| note.contains(DRAWN));
    story.badge.calls = "none".to_owned();
    story.badge.wire = if is_drawn { "none" } else { "exact" }.to_owned();
    story.programs.push(Program { name: frames.program, pid: 0, seen: Seen::Wire });
    story.dropped = frames.dropped;
    if frames.dropped > 0 {
        let dropped = frames.dropped;
        story.notes.push(format!("{dropped} packets were dropped where the capture was made"));
    }
    story.notes.extend(frames.notes);
    if !is_drawn {
        // Of a drawn capture each packet has comments: what the two programs called.
        let said = comments.into_iter();
        story.notes.extend(said.map(|(number, text)| format!("comment on frame {number}: {text}")));
    }
    Ok(story)
}

/// The flags of TCP, as they stand in its header.
pub(crate) mod flags {
    pub(crate) use super::layers::{ACK, FIN, PSH, RST, SYN};
}

/// How the comment on a section begins whose packets adit drew from events.
pub(crate) const DRAWN: &str = "Drawn from events by adit, not captured";

/// Comments on frames that are kept as notes.
const COMMENTS_MAX: usize = 20;
