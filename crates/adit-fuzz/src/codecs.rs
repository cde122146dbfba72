//! Codecs: the same frames whatever the cuts, those that a plain reading of the whole gives, and none
//! that the engine could not take.

use adit_proto::codec::{Codec, Delimited, Fixed, Length32, Lines, Raw, Skip, Whole};

use crate::pieces::{byte, cut};

pub(crate) fn lines(data: &[u8]) {
    let (_, whole) = cut(data);
    let mut expected: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
    // What follows the last line end is a line only if there is something, and it keeps its CR.
    let last = expected.pop().filter(|last| !last.is_empty());
    let expected = expected.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let expected: Vec<_> = expected.chain(last).collect();
    assert_eq!(whatever_the_cuts(&Lines::new(), data), Ok(owned(&expected)));
    // A trailing CR would be taken for half a line end: such a line comes back without it.
    round_trip(&Lines::new(), &expected, |line| !line.ends_with(b"\r"));
}

pub(crate) fn delimited(mut data: &[u8]) {
    let delimiters: [&[u8]; 6] = [b"\0", b"\n", b"ab", b"aa", b"\r\n\r\n", b"aab"];
    let kind = usize::from(byte(&mut data)) % delimiters.len();
    let delimiter = delimiters[kind];
    let Some(codec) = Delimited::new(delimiter) else { return };
    let (_, whole) = cut(data);
    let (mut expected, mut rest) = (Vec::new(), whole);
    while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
        expected.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    expected.extend(Some(rest).filter(|rest| !rest.is_empty()));
    assert_eq!(whatever_the_cuts(&codec, data), Ok(owned(&expected)));
    round_trip(&codec, &expected, |_| true);
    round_trip(&codec, &whole.chunks(3).collect::<Vec<_>>(), |_| true);
}

pub(crate) fn length32(data: &[u8]) {
    let (_, whole) = cut(data);
    let (mut expected, mut rest) = (Vec::new(), whole);
    while let Some((header, body)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*header);
        assert_eq!(Length32.announced(rest), Some(length.into()));
        let Some((body, after)) =
            usize::try_from(length).ok().and_then(|length| body.split_at_checked(length))
        else {
            break;
        };
        expected.push(body);
        rest = after;
    }
    let read = whatever_the_cuts(&Length32, data);
    if rest.is_empty() {
        assert_eq!(read, Ok(owned(&expected)));
    } else {
        assert!(read.is_err(), "cut short, and nobody said so");
    }
    round_trip(&Length32, &expected, |_| true);
}

pub(crate) fn fixed(mut data: &[u8]) {
    let length = usize::from(byte(&mut data) % 20);
    let Some(codec) = Fixed::new(length) else {
        assert_eq!(length, 0);
        return;
    };
    let (_, whole) = cut(data);
    let expected = whole.chunks_exact(length);
    let is_whole = expected.remainder().is_empty();
    let expected: Vec<_> = expected.collect();
    let read = whatever_the_cuts(&codec, data);
    assert_eq!(read.is_ok(), is_whole);
    if is_whole {
        assert_eq!(read, Ok(owned(&expected)));
    }
    round_trip(&codec, &expected, |_| true);
}

pub(crate) fn whole(data: &[u8]) {
    let (_, whole) = cut(data);
    assert_eq!(whatever_the_cuts(&Whole::new(), data), Ok(owned(&[whole])));
}

/// Its messages are what reads bring: only their bytes, one after the other, can be the same.
pub(crate) fn raw(data: &[u8]) {
    let (pieces, whole) = cut(data);
    let read = read(&mut Raw, &pieces).unwrap_or_default();
    assert_eq!(read.concat(), whole);
    assert!(read.iter().all(|message| !message.is_empty()));
}

fn owned(messages: &[&[u8]]) -> Vec<Vec<u8>> {
    messages.iter().map(|message| message.to_vec()).collect()
}

/// The messages of the input, which do not depend on how it is cut.
fn whatever_the_cuts<C: Codec + Clone>(codec: &C, data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (pieces, whole) = cut(data);
    let at_once = read(&mut codec.clone(), &[whole]);
    assert_eq!(read(&mut codec.clone(), &pieces), at_once);
    let each: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(read(&mut codec.clone(), &each), at_once);
    at_once
}

/// Feeds the pieces as the engine does, and collects the messages.
fn read(codec: &mut dyn Codec, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, String> {
    let (mut messages, mut rest) = (Vec::new(), Vec::new());
    for piece in pieces {
        rest.extend_from_slice(piece);
        while let Some(frame) = codec.decode(&rest).map_err(|error| error.to_string())? {
            assert!(frame.body.start <= frame.body.end && frame.body.end <= frame.used);
            assert!(frame.used > 0 && frame.used <= rest.len(), "no way on: {frame:?}");
            passed_over_as_read(codec, &rest, frame.used);
            messages.push(rest[frame.body].to_vec());
            rest.drain(..frame.used);
        }
    }
    let mut ends = 0;
    while let Some(frame) = codec.decode_end(&rest).map_err(|error| error.to_string())? {
        ends += 1;
        assert!(ends <= 2 && frame.body.end <= frame.used && frame.used <= rest.len());
        messages.push(rest[frame.body].to_vec());
        rest.drain(..frame.used);
    }
    assert!(rest.is_empty(), "bytes that were neither read nor missed");
    Ok(messages)
}

/// A message whose length is announced takes as much when it is passed over as when it is read.
fn passed_over_as_read(codec: &mut dyn Codec, buf: &[u8], used: usize) {
    if let Some(Skip::Bytes(bytes)) = codec.skip(buf) {
        assert_eq!(usize::try_from(bytes), Ok(used));
    }
}

/// Every message that can be sent is read as it was sent.
fn round_trip<C: Codec + Clone>(codec: &C, messages: &[&[u8]], comes_back: fn(&[u8]) -> bool) {
    let (mut wire, mut sent) = (Vec::new(), Vec::new());
    for message in messages {
        let before = wire.len();
        if comes_back(message) && codec.clone().encode(message, &mut wire).is_ok() {
            sent.push(message.to_vec());
        } else {
            assert_eq!(wire.len(), before, "a refused message left bytes behind");
        }
    }
    assert_eq!(read(&mut codec.clone(), &[&wire]), Ok(sent));
}
