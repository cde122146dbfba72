//! Reading a trace: every line that can be read is taken, what cannot is said.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing))]

use std::io::BufRead;

use crate::story::{Story, Teller};

/// A line of a trace is not longer than this: payload included, which is base64 at most.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Reads a trace in JSON Lines to its end.
///
/// A line that is broken, or cut off at the end of the file, is passed over and noted in the story:
/// what there is can still be drawn.
///
/// # Errors
/// The source cannot be read, or no line of it is an event.
pub fn read(mut source: impl BufRead) -> Result<Story, ReadError> {
    let mut teller = Teller::default();
    let (mut number, mut taken, mut broken) = (0_u64, 0_u64, Broken::default());
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = next_line(&mut source, &mut line).map_err(ReadError::Io)?;
        if bytes == 0 {
            break;
        }
        number = number.saturating_add(1);
        let is_whole = line.ends_with(b"\n");
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            continue;
        }
        match teller.line(text.trim()) {
            Ok(()) => taken = taken.saturating_add(1),
            Err(_) if !is_whole => broken.is_cut = true,
            Err(why) => broken.add(number, why),
        }
    }
    if taken == 0 {
        return Err(ReadError::NoTrace(broken.first.map_or_else(
            || "it is empty".to_owned(),
            |(number, why)| format!("line {number}: {why}"),
        )));
    }
    let mut story = teller.finish();
    story.notes.extend(broken.notes());
    Ok(story)
}

/// Why nothing could be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The source failed.
    Io(std::io::Error),
    /// It is no trace: what is wrong with it.
    NoTrace(String),
    /// It is no capture of packets: what is wrong with it.
    NoCapture(String),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NoTrace(why) => write!(f, "no trace of adit: {why}"),
            Self::NoCapture(why) => write!(f, "no capture: {why}"),
        }
    }
}

impl std::error::Error for ReadError {}

#[derive(Default)]
struct Broken {
    count: u64,
    first: Option<(u64, String)>,
    is_cut: bool,
}

impl Broken {
    fn add(&mut self, number: u64, why: String) {
        self.count = self.count.saturating_add(1);
        self.first.get_or_insert((number, why));
    }

    fn notes(self) -> impl Iterator<Item = String> {
        let broken = self.first.map(|(number, why)| match self.count {
            1 => format!("line {number} could not be read and is left out: {why}"),
            count => format!(
                "{count} lines could not be read and are left out, first line {number}: {why}"
            ),
        });
        let cut = self.is_cut.then(|| "the trace ends in the middle of a line".to_owned());
        broken.into_iter().chain(cut)
    }
}

/// The next line with its end; of a line that is too long only the beginning is kept.
fn next_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut bytes = 0;
    loop {
        let piece = source.fill_buf()?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        let end = piece.iter().position(|byte| *byte == b'\n').map(|at| at.saturating_add(1));
        let used = end.unwrap_or(piece.len());
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend(piece.iter().take(used.min(room)));
        source.consume(used);
        bytes = bytes.saturating_add(used);
        if end.is_some() {
            if bytes > LINE_BYTES_MAX {
                line.push(b'\n');
            }
            return Ok(bytes);
        }
    }
}
