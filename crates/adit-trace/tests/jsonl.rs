//! A story written as trace lines is read back the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod frames;

use std::ops::Range;

use adit_trace::story::{Act, Badge, Did, Door, Program, Scheme, Seen, Story, Talk, Way};
use adit_trace::{capture, jsonl, read};
use frames::{ACK, PSH, SYN, pcap, segment};
use proptest::prelude::*;

fn written(story: &Story) -> String {
    let mut bytes = Vec::new();
    jsonl::write(story, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.:]{1,12}", "[\u{0}-\u{9f}\u{202a}-\u{202e}\"\\\\é😀]{1,6}"]
}

fn word() -> impl Strategy<Value = Box<str>> {
    text().prop_map(Into::into)
}

fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Into::into),
        text().prop_map(|text| text.into_bytes().into()),
    ]
}

fn off() -> impl Strategy<Value = Range<u64>> {
    (0_u64..1 << 40, 0_u64..9000).prop_map(|(from, len)| from..from + len)
}

fn nanos() -> impl Strategy<Value = u64> {
    0_u64..1 << 50
}

/// What this observer can see in a talk of this kind.
fn did(seen: Seen, is_datagram: bool) -> BoxedStrategy<Did> {
    let way = prop_oneof![Just(Way::Up), Just(Way::Down)];
    let writes_up = matches!(seen, Seen::Client | Seen::RelayToServer);
    let (out, into) = if writes_up { (Way::Up, Way::Down) } else { (Way::Down, Way::Up) };
    if seen == Seen::Wire {
        let icmp = way.clone().prop_map(|way| Did::Unreachable { way });
        if is_datagram {
            let packet = (way, any::<u64>(), any::<u64>(), bytes())
                .prop_map(|(way, msg, len, bytes)| Did::Packet { way, msg, len, bytes });
            return prop_oneof![packet, icmp].boxed();
        }
        let segment = (way, "S?F?R?A?P?", off(), bytes(), any::<(u64, bool)>()).prop_map(
            |(way, flags, off, bytes, (window, again))| Did::Segment {
                way,
                flags: flags.into(),
                off,
                bytes,
                window,
                again,
            },
        );
        return prop_oneof![segment, icmp].boxed();
    }
    let data = if is_datagram {
        (any::<(u64, u64, bool)>(), bytes())
            .prop_map(move |((msg, len, sent), bytes)| match sent {
                true => Did::Send { way: out, msg, len, bytes },
                false => Did::Receive { way: into, msg, len, bytes },
            })
            .boxed()
    } else {
        (off(), any::<bool>(), bytes())
            .prop_map(move |(off, sent, bytes)| match sent {
                true => Did::Write { way: out, off, bytes },
                false => Did::Read { way: into, off, bytes },
            })
            .boxed()
    };
    let fd = prop::option::of(any::<i32>());
    prop_oneof![
        data.clone(),
        data,
        fd.clone().prop_map(|fd| Did::Accept { fd }),
        (fd.clone(), word(), prop::option::of(nanos()), prop::option::of(word()))
            .prop_map(|(fd, addr, took, code)| Did::Connect { fd, addr, took, code }),
        fd.prop_map(|fd| Did::Close { fd }),
        Just(Did::Open),
        any::<u64>().prop_map(|len| Did::Truncated { len }),
        Just(Did::ReadEnd { way: into }),
        Just(Did::WriteEnd { way: out }),
        (word(), any::<(Option<u64>, Option<u64>)>(), nanos()).prop_map(
            |(code, (bytes_in, bytes_out), took)| { Did::Over { code, bytes_in, bytes_out, took } }
        ),
        (word(), any::<u64>()).prop_map(|(code, unconfirmed)| Did::Lost { code, unconfirmed }),
        general(),
    ]
    .boxed()
}

fn general() -> impl Strategy<Value = Did> {
    prop_oneof![
        (word(), word(), any::<u64>()).prop_map(|(name, action, count)| Did::Limit {
            name,
            action,
            count
        }),
        (word(), word(), word()).prop_map(|(code, text, place)| Did::Error { code, text, place }),
        Just(Did::Drain),
    ]
}

fn seen() -> impl Strategy<Value = Seen> {
    prop::sample::select(vec![
        Seen::Client,
        Seen::Server,
        Seen::RelayToClient,
        Seen::RelayToServer,
        Seen::Wire,
    ])
}

fn scheme() -> impl Strategy<Value = Scheme> {
    prop::sample::select(vec![Scheme::Tcp, Scheme::Udp, Scheme::Unix, Scheme::UnixDatagram])
}

fn talk() -> impl Strategy<Value = Talk> {
    scheme().prop_flat_map(|scheme| {
        let act = (nanos(), any::<u64>(), seen()).prop_flat_map(move |(at, n, seen)| {
            did(seen, scheme.is_datagram()).prop_map(move |did| Act { at, n, seen, did })
        });
        let acts = prop::collection::vec(act, 1..8);
        (text(), text(), prop::option::of((text(), text())), acts).prop_map(
            move |(client, server, relay, mut acts)| {
                acts.sort_by_key(|act| act.at);
                let mut talk = Talk::default();
                talk.scheme = scheme;
                talk.client = client;
                talk.server = server;
                talk.relay = relay;
                talk.acts = acts;
                // Who speaks from a relay knows its addresses.
                if talk
                    .acts
                    .iter()
                    .any(|act| matches!(act.seen, Seen::RelayToClient | Seen::RelayToServer))
                {
                    talk.relay.get_or_insert_with(|| ("a".to_owned(), "b".to_owned()));
                }
                talk
            },
        )
    })
}

fn door() -> impl Strategy<Value = Door> {
    let fields = (text(), text(), prop::option::of(any::<i32>()), nanos());
    (scheme(), fields, prop::option::of(nanos()), any::<u64>()).prop_map(
        |(scheme, (addr, reach, fd, since), until, n)| {
            let mut door = Door::default();
            door.scheme = scheme;
            door.addr = addr;
            door.reach = reach;
            door.fd = fd;
            door.since = since;
            door.until = until;
            door.n = n;
            door
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    let seen =
        prop::sample::select(vec![Seen::Client, Seen::Server, Seen::RelayToClient, Seen::Wire]);
    (text(), any::<u32>(), seen).prop_map(|(name, pid, seen)| {
        let mut program = Program::default();
        program.name = name;
        program.pid = pid;
        program.seen = seen;
        program
    })
}

fn story() -> impl Strategy<Value = Story> {
    let general = (nanos(), any::<u64>(), seen(), general()).prop_map(|(at, n, seen, did)| Act {
        at,
        n,
        seen,
        did,
    });
    (
        (prop::collection::vec(program(), 1..4), text(), text(), any::<u64>()),
        prop::collection::vec(door(), 0..4),
        prop::collection::vec(talk(), 0..4),
        prop::collection::vec(general, 0..4),
        prop::collection::vec(text(), 0..4),
    )
        .prop_map(
            |((programs, start, clock, dropped), mut doors, mut talks, mut general, notes)| {
                doors.sort_by_key(|door| door.since);
                doors.dedup_by_key(|door| (door.scheme, door.addr.clone()));
                talks.sort_by_key(|talk| talk.acts[0].at);
                for (number, talk) in (1..).zip(&mut talks) {
                    talk.number = number * 3;
                }
                general.sort_by_key(|act| act.at);
                let mut story = Story::default();
                let mut badge = Badge::default();
                badge.clock = clock;
                story.badge = badge;
                story.programs = programs;
                story.start = start;
                story.dropped = dropped;
                story.doors = doors;
                story.talks = talks;
                story.general = general;
                story.notes = notes;
                story
            },
        )
}

proptest! {
    #[test]
    fn a_story_is_read_back_the_same(story in story()) {
        let lines = written(&story);
        let back = read::read(lines.as_bytes()).unwrap();
        prop_assert_eq!(format!("{:#?}", back), format!("{:#?}", story), "{}", lines);
        for (n, line) in lines.lines().enumerate() {
            let head = format!("{{\"v\":1,\"n\":{n},\"t\":");
            prop_assert!(line.starts_with(&head), "{}", line);
            prop_assert!(!line.chars().any(adit_proto::escape::is_unsafe));
        }
    }
}

#[test]
fn a_capture_becomes_a_trace() {
    let (c, s) = ("10.0.0.1:51512", "10.0.0.2:7000");
    let all = [
        segment((c, s), SYN, (1, 0), b""),
        segment((s, c), SYN | ACK, (9, 2), b""),
        segment((c, s), PSH | ACK, (2, 10), b"hi\xff"),
    ];
    let all: Vec<_> = (0..).zip(&all).map(|(at, it)| (7, at, it.ip())).collect();
    let story = capture::read(&pcap(101, true, false, &all)[..]).unwrap();
    let lines = written(&story);
    let expected = r#"{"v":1,"n":0,"t":0,"ev":"trace","adit":"0.1.0","start":"1970-01-01T00:00:07.000000000Z","role":"wire","calls":"none","wire":"exact","clock":"one clock"}
{"v":1,"n":1,"t":0,"ev":"talk","conn":1,"peer":"10.0.0.1:51512","local":"10.0.0.2:7000","scheme":"tcp"}
{"v":1,"n":2,"t":0,"ev":"frame","layer":"wire","conn":1,"role":"wire","way":"up","flags":"S","off":[0,0],"len":0,"win":512,"orig":1}
{"v":1,"n":3,"t":0.001,"ev":"listen","addr":"tcp 10.0.0.2:7000","orig":2}
{"v":1,"n":4,"t":0.001,"ev":"frame","layer":"wire","conn":1,"role":"wire","way":"down","flags":"SA","off":[0,0],"len":0,"win":512,"orig":2}
{"v":1,"n":5,"t":0.002,"ev":"frame","layer":"wire","conn":1,"role":"wire","way":"up","flags":"AP","off":[0,3],"len":3,"win":512,"b64":"aGn/","orig":3}
"#;
    assert_eq!(lines, expected);
    let back = read::read(lines.as_bytes()).unwrap();
    assert_eq!(format!("{back:?}"), format!("{story:?}"));
}

#[test]
fn the_last_number_there_is_breaks_nothing() {
    let line = |n: u64| format!(r#"{{"v":1,"n":{n},"t":1,"ev":"drain"}}"#);
    let trace = [line(u64::MAX - 1), line(u64::MAX), line(0)].join("\n") + "\n";
    let story = read::read(trace.as_bytes()).unwrap();
    assert_eq!((story.general.len(), story.notes.len()), (3, 0));
}
