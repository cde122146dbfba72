//! Captures in every dress: formats, links, broken files, and what TCP does with its numbers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod frames;

use adit_trace::capture;
use adit_trace::read::ReadError;
use adit_trace::story::{Did, Scheme, Seen, Story, Way};
use frames::{ACK, FIN, PSH, Pcapng, RST, SYN, Segment, ethernet, pcap, segment, udp};
use proptest::prelude::*;

const C: &str = "10.0.0.1:51512";
const S: &str = "10.0.0.2:7000";
const UP: (&str, &str) = (C, S);
const DOWN: (&str, &str) = (S, C);

/// The smallest dialogue: `hello\n` and `HELLO\n`, with its setup and its end.
fn dialogue(base: u32) -> Vec<Segment> {
    let (c, s) = (base, base.wrapping_add(70_000));
    let n = u32::wrapping_add;
    let mut all = vec![
        segment(UP, SYN, (c, 0), b""),
        segment(DOWN, SYN | ACK, (s, n(c, 1)), b""),
        segment(UP, ACK, (n(c, 1), n(s, 1)), b""),
        segment(UP, PSH | ACK, (n(c, 1), n(s, 1)), b"hello\n"),
        segment(DOWN, PSH | ACK, (n(s, 1), n(c, 7)), b"HELLO\n"),
        segment(UP, FIN | ACK, (n(c, 7), n(s, 7)), b""),
        segment(DOWN, FIN | ACK, (n(s, 7), n(c, 8)), b""),
        segment(UP, ACK, (n(c, 8), n(s, 8)), b""),
    ];
    all[0].options = vec![3, 3, 7];
    all[1].options = vec![1, 3, 3, 2];
    all
}

fn raw(segments: &[Segment]) -> Story {
    let frames: Vec<_> = (0..).zip(segments).map(|(at, it)| (1, at, it.ip())).collect();
    capture::read(&pcap(101, false, false, &frames)[..]).unwrap()
}

/// `up SA [0,0)` for every segment.
fn told(story: &Story) -> Vec<String> {
    let acts = story.talks.iter().flat_map(|talk| &talk.acts);
    acts.map(|act| match &act.did {
        Did::Segment { way, flags, off, again, .. } => {
            let again = if *again { " again" } else { "" };
            format!("{way:?} {flags} {}-{}{again}", off.start, off.end)
        }
        Did::Packet { way, msg, len, .. } => format!("{way:?} #{msg} {len}"),
        did => format!("{did:?}"),
    })
    .collect()
}

const DIALOGUE: [&str; 8] = [
    "Up S 0-0",
    "Down SA 0-0",
    "Up A 0-0",
    "Up AP 0-6",
    "Down AP 0-6",
    "Up FA 6-6",
    "Down FA 6-6",
    "Up A 6-6",
];

#[test]
fn a_dialogue_is_one_conversation_with_places_times_and_windows() {
    let story = raw(&dialogue(1000));
    assert_eq!(told(&story), DIALOGUE);
    let talk = &story.talks[0];
    assert_eq!((talk.client.as_str(), talk.server.as_str()), (C, S));
    assert_eq!((talk.scheme, talk.number, story.talks.len()), (Scheme::Tcp, 1, 1));
    assert_eq!(story.start, "1970-01-01T00:00:01.000000000Z");
    assert_eq!(talk.acts[3].at, 3000);
    assert_eq!(talk.acts[3].n, 4);
    assert!(talk.acts.iter().all(|act| act.seen == Seen::Wire));
    assert_eq!(story.badge.to_string(), "calls none | wire exact | one clock");
    assert_eq!(story.notes, [""; 0]);
    let windows = talk.acts.iter().map(|act| match act.did {
        Did::Segment { window, .. } => window,
        _ => unreachable!(),
    });
    let windows: Vec<_> = windows.collect();
    assert_eq!(windows[..5], [512, 512, 512 << 7, 512 << 7, 512 << 2]);
    assert_eq!((story.doors[0].addr.as_str(), story.doors[0].since), (S, 1000));
    let Did::Segment { bytes, .. } = &talk.acts[3].did else { unreachable!() };
    assert_eq!(&**bytes, b"hello\n");
}

#[test]
fn sequence_numbers_wrap_around() {
    for base in [u32::MAX - 8, u32::MAX - 4, u32::MAX - 1, u32::MAX, 0, 1 << 31, u32::MAX - 70_003]
    {
        assert_eq!(told(&raw(&dialogue(base))), DIALOGUE, "{base}");
    }
    // More than 4 GiB in one way: the places go on.
    let mut segments = dialogue(u32::MAX - 5)[..3].to_vec();
    let mut seq = u32::MAX - 4;
    for _ in 0..5 {
        segments.push(segment(UP, ACK, (seq, 1), &[7; 1000]));
        seq = seq.wrapping_add(1 << 30);
    }
    let told = told(&raw(&segments));
    assert_eq!(told.last().unwrap(), "Up A 4294967296-4294968296");
}

#[test]
fn what_went_by_before_is_again_and_what_fills_a_hole_is_not() {
    let mut all = dialogue(1000)[..3].to_vec();
    let up = |seq: u32, bytes: &[u8]| segment(UP, ACK, (seq, 71_001), bytes);
    all.extend([
        up(1001, b"aaaa"),
        up(1009, b"cccc"),
        up(1005, b"bbbb"),
        up(1005, b"bbbb"),
        up(1012, b""),  // keepalive
        up(1012, b"c"), // keepalive with its byte
        up(1001, b"aaaabbbbccccdddd"),
    ]);
    all.push(all[0].clone());
    assert_eq!(
        told(&raw(&all))[3..],
        [
            "Up A 0-4",
            "Up A 8-12",
            "Up A 4-8",
            "Up A 4-8 again",
            "Up A 11-11 again",
            "Up A 11-12 again",
            "Up A 0-16 again",
            "Up S 0-0 again",
        ]
    );
}

#[test]
fn a_hole_that_stays_is_noted() {
    let mut all = dialogue(1000)[..3].to_vec();
    all.push(segment(UP, ACK, (1101, 71_001), b"late"));
    assert_eq!(raw(&all).notes, ["conversation 1: 100 bytes of it were not captured"]);
}

#[test]
fn a_capture_that_began_too_late_has_places_from_its_first_byte() {
    let story = raw(&dialogue(1000)[3..]);
    assert_eq!(told(&story), DIALOGUE[3..]);
    assert_eq!(story.talks[0].client, C);
    assert!(story.notes[0].contains("10.0.0.2:7000 is taken for the server"), "{:?}", story.notes);
    // The server's packet first: the lower port still is the server's.
    assert_eq!(raw(&dialogue(1000)[4..]).talks[0].client, C);
    let mut early = dialogue(1000)[3..].to_vec();
    early.push(segment(UP, ACK, (991, 71_001), b"0123456789hello\n"));
    let story = raw(&early);
    assert_eq!(told(&story).last().unwrap(), "Up A 0-6 again");
    assert!(story.notes.iter().any(|note| note.contains("bytes before the first")));
}

#[test]
fn a_new_syn_after_the_end_is_a_new_conversation() {
    let mut all = dialogue(1000);
    all.extend(dialogue(500_000));
    let story = raw(&all);
    assert_eq!(story.talks.len(), 2);
    assert_eq!(told(&story), [DIALOGUE, DIALOGUE].concat());
    assert_eq!(story.talks[1].number, 2);
    // Refused twice, by the same client port.
    let refused = [segment(UP, SYN, (9, 0), b""), segment(DOWN, RST | ACK, (0, 10), b"")];
    let story = raw(&[refused.clone(), refused].concat());
    assert_eq!(story.talks.len(), 2);
    assert_eq!(told(&story)[..2], ["Up S 0-0", "Down RA 0-0"]);
    assert_eq!(story.doors.len(), 0);
}

#[test]
fn both_may_open_at_once() {
    let all = [
        segment(UP, SYN, (9, 0), b""),
        segment(DOWN, SYN, (99, 0), b""),
        segment(UP, SYN | ACK, (9, 100), b""),
        segment(DOWN, SYN | ACK, (99, 10), b""),
        segment(DOWN, ACK, (100, 10), b"x"),
    ];
    let story = raw(&all);
    assert_eq!(story.talks.len(), 1);
    assert_eq!(told(&story)[4], "Down A 0-1");
}

/// Puts the header of a link before IP.
type Dress<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;

#[test]
fn every_link_gives_the_same_conversation() {
    let dress: [(u32, Dress<'_>); 12] = [
        (1, &|ip| ethernet(&ip)),
        // Short frames are filled up.
        (1, &|ip| [ethernet(&ip), vec![0; 12]].concat()),
        (1, &|ip| [&[0; 12][..], &[0x81, 0, 0, 5, 8, 0], &ip].concat()),
        (1, &|ip| [&[0; 12][..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0], &ip].concat()),
        (0, &|ip| [&[2, 0, 0, 0][..], &ip].concat()),
        (0, &|ip| [&[0, 0, 0, 2][..], &ip].concat()),
        (108, &|ip| [&[0, 0, 0, 2][..], &ip].concat()),
        (101, &|ip| ip),
        (12, &|ip| ip),
        (228, &|ip| ip),
        (113, &|ip| [&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0][..], &ip].concat()),
        (276, &|ip| {
            [&[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &ip].concat()
        }),
    ];
    for (link, dress) in dress {
        for (nanos, big) in [(false, false), (false, true), (true, false), (true, true)] {
            let all = dialogue(1000);
            let frames: Vec<_> = (0..).zip(&all).map(|(at, it)| (1, at, dress(it.ip()))).collect();
            let story = capture::read(&pcap(link, nanos, big, &frames)[..]).unwrap();
            assert_eq!(told(&story), DIALOGUE, "{link} {nanos} {big}");
            assert_eq!(story.notes, [""; 0]);
            assert_eq!(story.talks[0].acts[3].at, if nanos { 3 } else { 3000 });
        }
    }
    let frames = vec![(1, 1, vec![0; 60])];
    let story = capture::read(&pcap(127, false, false, &frames)[..]).unwrap();
    assert!(story.notes[0].contains("link type 127 is not known"), "{:?}", story.notes);
}

#[test]
fn ipv6_with_extension_headers_and_ipv4_with_options_are_read() {
    let six = udp("[fd00::1]:40000", "[fd00::2]:53", b"query");
    let (head, body) = six.split_at(40);
    let mut extended = head.to_vec();
    extended[4..6].copy_from_slice(&u16::try_from(body.len() + 8 + 16 + 8).unwrap().to_be_bytes());
    extended[6] = 0;
    extended.extend([60, 0, 0, 0, 0, 0, 0, 0]); // hop by hop
    extended.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // destination
    extended.extend([17, 0, 0, 0, 0, 0, 0, 9]); // a fragment that is the whole
    extended.extend(body);
    let four = udp("10.0.0.1:40000", "10.0.0.2:53", b"query");
    let mut optioned = four[..20].to_vec();
    optioned[0] = 0x47;
    optioned[2..4].copy_from_slice(&u16::try_from(four.len() + 8).unwrap().to_be_bytes());
    optioned.extend([1; 8]);
    optioned.extend(&four[20..]);
    for (ip, client) in [(extended, "[fd00::1]:40000"), (optioned, "10.0.0.1:40000")] {
        let story = capture::read(&pcap(101, false, false, &[(1, 1, ip)])[..]).unwrap();
        assert_eq!(told(&story), ["Up #0 5"]);
        assert_eq!(story.talks[0].client, client);
        assert_eq!(story.notes, [""; 0]);
    }
}

#[test]
fn of_fragments_the_first_tells_and_the_others_are_counted() {
    let mut first = udp(C, S, &[5; 1000]);
    first.truncate(20 + 8 + 472);
    first[2..4].copy_from_slice(&500_u16.to_be_bytes());
    first[6] = 0x20;
    let mut second = first.clone();
    second[6..8].copy_from_slice(&60_u16.to_be_bytes());
    let story = capture::read(&pcap(101, false, false, &[(1, 1, first), (1, 2, second)])[..]);
    let story = story.unwrap();
    assert_eq!(told(&story), ["Up #0 1000"]);
    let Did::Packet { bytes, .. } = &story.talks[0].acts[0].did else { unreachable!() };
    assert_eq!(bytes.len(), 472);
    assert!(story.notes[0].contains("only the first fragment"), "{:?}", story.notes);
    assert!(story.notes[1].contains("1 frame left out: further fragments"), "{:?}", story.notes);
}

#[test]
fn datagrams_have_numbers_and_an_unreachable_port_is_told() {
    let query = udp(C, S, b"a");
    let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
    icmp.extend(&query[..28]);
    let icmp = frames::ip(S.parse().unwrap(), C.parse().unwrap(), 1, &icmp);
    let all = [query.clone(), udp(S, C, b""), query, icmp];
    let all: Vec<_> = (0..).zip(all).map(|(at, ip)| (1, at, ip)).collect();
    let story = capture::read(&pcap(101, false, false, &all)[..]).unwrap();
    assert_eq!(told(&story), ["Up #0 1", "Down #0 0", "Up #1 1", "Unreachable { way: Up }"]);
    assert_eq!(story.talks[0].scheme, Scheme::Udp);
    assert!(matches!(story.talks[0].acts[3].did, Did::Unreachable { way: Way::Up }));
}

#[test]
fn a_packet_that_the_any_device_shows_twice_is_told_once() {
    let cooked = |kind: u8, ip: Vec<u8>| {
        [&[0, kind, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0][..], &ip].concat()
    };
    let mut all = Vec::new();
    for (at, it) in (0..).zip(dialogue(1000)) {
        all.push((1, at * 10, cooked(4, it.ip())));
        all.push((1, at * 10 + 1, cooked(0, it.ip())));
    }
    let story = capture::read(&pcap(113, false, false, &all)[..]).unwrap();
    assert_eq!(told(&story), DIALOGUE);
    assert!(story.notes[0].contains("seen before on another interface"), "{:?}", story.notes);
    // The same bytes on the same interface were sent twice.
    let twice = [(1, 0, cooked(0, udp(C, S, b"x"))), (1, 1, cooked(0, udp(C, S, b"x")))];
    let story = capture::read(&pcap(113, false, false, &twice)[..]).unwrap();
    assert_eq!(told(&story), ["Up #0 1", "Up #1 1"]);
}

fn small_pcapng(big: bool) -> Vec<u8> {
    let mut file = Pcapng::new(big);
    file.interface(101, &[(9, vec![9])]);
    file.block(4, &[1, 2, 3, 4]);
    file.block(0x7777, &[]);
    for (at, it) in (0..).zip(dialogue(1000)) {
        let comment = if at == 2 { vec![(1, b"three".to_vec())] } else { Vec::new() };
        file.packet(0, 5_000_000_000 + at, &it.ip(), &comment);
    }
    file.bytes
}

#[test]
fn pcapng_is_read_in_both_orders_with_comments_and_unknown_blocks() {
    for big in [false, true] {
        let story = capture::read(&small_pcapng(big)[..]).unwrap();
        assert_eq!(told(&story), DIALOGUE);
        assert_eq!(story.talks[0].acts[7].at, 7);
        assert_eq!(story.start, "1970-01-01T00:00:05.000000000Z");
        assert_eq!(story.notes, ["comment on frame 3: three"]);
    }
}

#[test]
fn times_have_the_resolution_and_offset_of_their_interface() {
    let mut file = Pcapng::new(true);
    file.interface(101, &[(9, vec![0x80 | 10]), (14, 100_u64.to_be_bytes().to_vec())]);
    file.interface(101, &[(9, vec![3])]);
    file.packet(0, 1024, &udp(C, S, b"a"), &[]);
    file.packet(1, 101_250, &udp(C, S, b"b"), &[]);
    file.section();
    file.interface(101, &[]);
    file.obsolete(101_500_000, &udp(C, S, b"c"));
    file.simple(&udp(C, S, b"d"));
    let story = capture::read(&file.bytes[..]).unwrap();
    let times: Vec<_> = story.talks[0].acts.iter().map(|act| act.at).collect();
    assert_eq!(times, [0, 250_000_000, 500_000_000, 500_000_000]);
    assert_eq!(story.start, "1970-01-01T00:01:41.000000000Z");
}

#[test]
fn a_capture_that_is_cut_anywhere_gives_what_stands_before() {
    for whole in [small_pcapng(false), small_pcapng(true), {
        let all: Vec<_> = dialogue(7).iter().map(|it| (1, 0, ethernet(&it.ip()))).collect();
        pcap(1, false, false, &all)
    }] {
        let mut most = 0;
        for cut in 0..whole.len() {
            match capture::read(&whole[..cut]) {
                Ok(story) => {
                    let count = told(&story).len();
                    assert!(count >= most, "byte {cut}");
                    most = count;
                }
                Err(ReadError::NoCapture(why)) => assert!(cut < 28 && !why.is_empty(), "{cut}"),
                Err(error) => unreachable!("{error}"),
            }
        }
        assert_eq!(most, 7);
        let story = capture::read(&whole[..whole.len() - 1]).unwrap();
        assert!(
            story.notes.iter().any(|it| it.contains("ends in the middle")),
            "{:?}",
            story.notes
        );
    }
}

#[test]
fn foreign_files_are_named() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"{\"v\":1,\"n\":0,\"t\":0}", "JSON"),
        (&[0x1f, 0x8b, 8, 0], "gunzip"),
        (b"snoop\0\0\0\0\0\0\x02", "snoop"),
        (b"GET / HTTP/1.1\r\n\r\n", "neither"),
        (b"\x0a\x0d\x0d\x0a\0\0\0\x1cxxxxyyyyzzzzwwww", "byte order"),
    ];
    for (bytes, word) in cases {
        assert!(!capture::is_capture(bytes));
        let error = capture::read(bytes).unwrap_err().to_string();
        assert!(error.starts_with("no capture: ") && error.contains(word), "{error}");
    }
    assert!(capture::is_capture(&small_pcapng(true)));
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut file = small_pcapng(false);
    file.extend(6_u32.to_le_bytes());
    file.extend(u32::MAX.to_le_bytes());
    let story = capture::read(&file[..]).unwrap();
    assert_eq!(told(&story), DIALOGUE);
    assert!(story.notes.iter().any(|it| it.contains("damaged")), "{:?}", story.notes);
    let mut file = Pcapng::new(false);
    file.packet(0, 0, b"no interface", &[]);
    let story = capture::read(&file.bytes[..]).unwrap();
    assert!(story.notes.iter().any(|it| it.contains("not described")), "{:?}", story.notes);
}

proptest! {
    #[test]
    fn no_change_of_a_capture_is_a_panic(
        big: bool,
        kind in 0..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = match kind {
            0 => small_pcapng(big),
            1 => {
                let all: Vec<_> = dialogue(7).iter().map(|it| (1, 0, ethernet(&it.ip()))).collect();
                pcap(1, big, big, &all)
            }
            _ => {
                let ip = udp("[fd00::1]:40000", "[fd00::2]:53", b"query");
                pcap(101, big, big, &[(1, 0, ip.clone()), (1, 0, ip)])
            }
        };
        for (place, byte) in changes {
            *place.get_mut(&mut bytes) = byte;
        }
        if let Ok(story) = capture::read(&bytes[..]) {
            let mut again = Vec::new();
            adit_trace::pcapng::write(&story, &mut again).unwrap();
            capture::read(&again[..]).unwrap();
        }
    }

    #[test]
    fn no_bytes_in_a_frame_are_a_panic(
        link in prop::sample::select(vec![0_u32, 1, 101, 108, 113, 276]),
        data in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let story = capture::read(&pcap(link, false, false, &[(1, 0, data)])[..]).unwrap();
        prop_assert!(story.talks.len() <= 1);
    }

    /// Segments of a stream in any order, cut anywhere, some twice: places are those of the bytes.
    #[test]
    fn places_are_right_whatever_the_order(
        base: u32,
        pieces in prop::collection::vec((0_u32..5000, 0_usize..300), 1..40),
    ) {
        let mut all = dialogue(base)[..3].to_vec();
        for (from, len) in &pieces {
            let seq = base.wrapping_add(1).wrapping_add(*from);
            all.push(segment(UP, ACK, (seq, 0), &vec![1; *len]));
        }
        let story = raw(&all);
        let mut seen = std::collections::HashSet::new();
        for (act, (from, len)) in story.talks[0].acts[3..].iter().zip(&pieces) {
            let Did::Segment { off, again, .. } = &act.did else { unreachable!() };
            let (from, len) = (u64::from(*from), u64::try_from(*len).unwrap());
            prop_assert_eq!(off, &(from..from + len));
            if len > 0 {
                prop_assert_eq!(*again, seen.contains(&from));
            }
            seen.extend(from..from + len);
        }
    }
}
