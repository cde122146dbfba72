//! Every codec at every split point, against a plain reading of the whole input.

use proptest::prelude::*;

use super::{Codec, CutShort, Delimited, Fixed, Length32, Lines, Raw, Unframeable, Whole};

/// Feeds `input` in two pieces cut at `split`, as the engine does, and collects the messages.
fn read(codec: &mut dyn Codec, input: &[u8], splits: &[usize]) -> Result<Vec<Vec<u8>>, String> {
    let (mut messages, mut rest, mut at) = (Vec::new(), Vec::new(), 0);
    for end in splits.iter().copied().chain([input.len()]) {
        let end = end.clamp(at, input.len());
        rest.extend_from_slice(&input[at..end]);
        at = end;
        while let Some(frame) = codec.decode(&rest).map_err(|e| e.to_string())? {
            assert!(frame.body.end <= frame.used && frame.used <= rest.len());
            messages.push(rest[frame.body].to_vec());
            rest.drain(..frame.used);
        }
    }
    while let Some(frame) = codec.decode_end(&rest).map_err(|e| e.to_string())? {
        messages.push(rest[frame.body].to_vec());
        rest.drain(..frame.used);
    }
    Ok(messages)
}

fn every_split_gives_the_same<C: Codec + Clone>(codec: &C, input: &[u8]) {
    let whole = read(&mut codec.clone(), input, &[]);
    for split in 0..=input.len() {
        assert_eq!(read(&mut codec.clone(), input, &[split]), whole, "split at {split}");
    }
    let each: Vec<usize> = (0..input.len()).collect();
    assert_eq!(read(&mut codec.clone(), input, &each), whole, "byte by byte");
}

#[test]
fn every_split_point_gives_the_same_frames() {
    every_split_gives_the_same(&Lines::new(), b"one\r\n\ntwo\nthr\ree\r\r\nlast");
    every_split_gives_the_same(&Delimited::new("--").unwrap(), b"a--b---c----d-");
    every_split_gives_the_same(&Delimited::null(), b"a\0\0bc\0d");
    every_split_gives_the_same(&Length32, b"\0\0\0\x02hi\0\0\0\0\0\0\0\x01x");
    every_split_gives_the_same(&Length32, b"\0\0\0\x02hi\0\0\0\x05cut");
    every_split_gives_the_same(&Fixed::new(3).unwrap(), b"abcdefgh");
    every_split_gives_the_same(&Whole::new(), b"all of it\n\n");
    every_split_gives_the_same(&Whole::new(), b"");
}

#[test]
fn lines_strip_either_line_end_and_keep_an_unterminated_last_line() {
    let got = read(&mut Lines::new(), b"one\r\n\ntwo\nlast\r", &[]).unwrap();
    assert_eq!(got, [b"one".to_vec(), vec![], b"two".to_vec(), b"last\r".to_vec()]);
}

#[test]
fn a_delimiter_that_spans_two_reads_is_found() {
    let mut codec = Delimited::new("END").unwrap();
    assert_eq!(codec.decode(b"bodyEN").unwrap(), None);
    assert_eq!(codec.decode(b"bodyEND").unwrap().unwrap().body, 0..4);
}

#[test]
fn a_message_that_the_peer_would_read_as_two_is_refused_and_leaves_nothing_behind() {
    let mut out = b"kept".to_vec();
    let error = Lines::new().encode(b"a\nb", &mut out).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Unframeable::Delimiter { at: 1 }));
    let mut aa = Delimited::new("aa").unwrap();
    assert!(aa.encode(b"ba", &mut out).is_err(), "ba + aa reads as b, then a");
    assert!(Fixed::new(2).unwrap().encode(b"abc", &mut out).is_err());
    assert_eq!(out, b"kept");
}

#[test]
fn a_stream_that_ends_inside_a_record_says_so() {
    let error = Length32.decode_end(b"\0\0\0\x05cut").unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&CutShort { bytes: 7 }));
    assert!(Fixed::new(4).unwrap().decode_end(b"abc").is_err());
}

#[test]
fn a_length_beyond_any_memory_is_announced_not_allocated() {
    let header = u32::MAX.to_be_bytes();
    assert_eq!(Length32.announced(&header), Some(u64::from(u32::MAX)));
    assert_eq!(Length32.decode(&header).unwrap(), None);
}

#[test]
fn raw_takes_what_is_there() {
    assert_eq!(Raw.decode(b"").unwrap(), None);
    assert_eq!(Raw.decode(b"abc").unwrap().unwrap().body, 0..3);
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_the_messages(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        splits in prop::collection::vec(0usize..400, 0..8),
    ) {
        let mut splits = splits;
        splits.sort_unstable();
        let codecs: [Box<dyn Codec>; 4] = [
            Box::new(Lines::new()),
            Box::new(Delimited::new("ab").unwrap()),
            Box::new(Delimited::null()),
            Box::new(Length32),
        ];
        for mut codec in codecs {
            let (mut wire, mut sent) = (Vec::new(), Vec::new());
            for message in &messages {
                // A trailing CR would be taken for half a line end by Lines: not a round trip.
                if !message.ends_with(b"\r") && codec.encode(message, &mut wire).is_ok() {
                    sent.push(message.clone());
                }
            }
            prop_assert_eq!(read(&mut codec, &wire, &splits).unwrap(), sent);
        }
    }

    #[test]
    fn no_input_makes_a_codec_panic(
        input in prop::collection::vec(any::<u8>(), 0..200),
        splits in prop::collection::vec(0usize..200, 0..8),
    ) {
        let mut splits = splits;
        splits.sort_unstable();
        let codecs: [Box<dyn Codec>; 5] = [
            Box::new(Lines::new()),
            Box::new(Delimited::new("\0\0").unwrap()),
            Box::new(Length32),
            Box::new(Fixed::new(7).unwrap()),
            Box::new(Whole::new()),
        ];
        for mut codec in codecs {
            // An error is fine; what matters is that none of them is a panic.
            drop(read(&mut codec, &input, &splits));
        }
    }
}
