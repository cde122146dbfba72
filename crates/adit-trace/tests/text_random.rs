//! Random stories: no picture panics, grows wider than a terminal, or passes on a control character.

use adit_trace::rows::{GAP_NS, Kind, rows, width};
use adit_trace::rules::findings;
use adit_trace::story::{Act, Did, Door, Program, Scheme, Seen, Story, Talk, Way};
use adit_trace::text::{Options, View, draw};
use proptest::prelude::*;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.:]{0,20}",
        any::<String>(),
        Just("127.0.0.1:7000".to_owned()),
        Just("\u{1b}]0;x\u{7}\u{202e}\u{9b}2J\r\n".to_owned()),
        "[日本語 ]{0,60}",
    ]
}

fn any_span() -> impl Strategy<Value = std::ops::Range<u64>> {
    let number = prop_oneof![0..200_u64, any::<u64>()];
    (number.clone(), number).prop_map(|(one, two)| one.min(two)..one.max(two))
}

fn any_bytes() -> impl Strategy<Value = Box<[u8]>> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Into::into)
}

fn any_way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Up), Just(Way::Down)]
}

fn any_did() -> impl Strategy<Value = Did> {
    let (text, bytes, span, way) = (any_text, any_bytes, any_span, any_way);
    let number = || prop_oneof![0..9_u64, any::<u64>()];
    prop_oneof![
        any::<Option<i32>>().prop_map(|fd| Did::Accept { fd }),
        (any::<Option<i32>>(), text(), any::<Option<u64>>(), prop::option::of(text())).prop_map(
            |(fd, addr, took, code)| Did::Connect {
                fd,
                addr: addr.into(),
                took,
                code: code.map(Into::into),
            }
        ),
        Just(Did::Open),
        (way(), span(), bytes()).prop_map(|(way, off, bytes)| Did::Write { way, off, bytes }),
        (way(), span(), bytes()).prop_map(|(way, off, bytes)| Did::Read { way, off, bytes }),
        (way(), number(), number(), bytes()).prop_map(|(way, msg, len, bytes)| Did::Send {
            way,
            msg,
            len,
            bytes
        }),
        (way(), number(), number(), bytes()).prop_map(|(way, msg, len, bytes)| Did::Receive {
            way,
            msg,
            len,
            bytes
        }),
        number().prop_map(|len| Did::Truncated { len }),
        way().prop_map(|way| Did::ReadEnd { way }),
        way().prop_map(|way| Did::WriteEnd { way }),
        any::<Option<i32>>().prop_map(|fd| Did::Close { fd }),
        (text(), prop::option::of(number()), prop::option::of(number()), number()).prop_map(
            |(code, bytes_in, bytes_out, took)| {
                Did::Over { code: code.into(), bytes_in, bytes_out, took }
            }
        ),
        (text(), number())
            .prop_map(|(code, unconfirmed)| Did::Lost { code: code.into(), unconfirmed }),
        (text(), text(), number()).prop_map(|(name, action, count)| Did::Limit {
            name: name.into(),
            action: action.into(),
            count,
        }),
        (text(), text(), text()).prop_map(|(code, text, place)| Did::Error {
            code: code.into(),
            text: text.into(),
            place: place.into(),
        }),
        Just(Did::Drain),
        (way(), "S?F?R?A?P?", span(), bytes(), number(), any::<bool>()).prop_map(
            |(way, flags, off, bytes, window, again)| Did::Segment {
                way,
                flags: flags.into(),
                off,
                bytes,
                window,
                again,
            }
        ),
        (way(), number(), number(), bytes()).prop_map(|(way, msg, len, bytes)| Did::Packet {
            way,
            msg,
            len,
            bytes
        }),
        way().prop_map(|way| Did::Unreachable { way }),
    ]
}

fn any_act() -> impl Strategy<Value = Act> {
    let seen = prop::sample::select(Seen::ALL.to_vec());
    let at = prop_oneof![0..200_000_000_u64, any::<u64>()];
    (at, any::<u64>(), seen, any_did()).prop_map(|(at, n, seen, did)| Act { at, n, seen, did })
}

fn any_talk() -> impl Strategy<Value = Talk> {
    let scheme =
        prop::sample::select(vec![Scheme::Tcp, Scheme::Udp, Scheme::Unix, Scheme::UnixDatagram]);
    let relay = prop::option::of((any_text(), any_text()));
    let acts = prop::collection::vec(any_act(), 0..40);
    (any::<u64>(), scheme, any_text(), any_text(), relay, acts).prop_map(
        |(number, scheme, client, server, relay, mut acts)| {
            acts.sort_by_key(|act| act.at);
            let mut talk = Talk::default();
            (talk.number, talk.scheme, talk.client, talk.server) = (number, scheme, client, server);
            (talk.relay, talk.acts) = (relay, acts);
            talk
        },
    )
}

fn any_story() -> impl Strategy<Value = Story> {
    let talks = prop::collection::vec(any_talk(), 0..4);
    let texts = prop::collection::vec(any_text(), 4);
    let general = prop::collection::vec(any_act(), 0..4);
    let notes = prop::collection::vec(any_text(), 0..3);
    (talks, texts, general, notes).prop_map(|(talks, texts, general, notes)| {
        let mut story = Story::default();
        (story.talks, story.general, story.notes) = (talks, general, notes);
        let mut door = Door::default();
        door.addr.clone_from(&texts[0]);
        let mut program = Program::default();
        program.name.clone_from(&texts[1]);
        story.doors.push(door);
        story.programs.push(program);
        story.badge.clock.clone_from(&texts[2]);
        story.start.clone_from(&texts[3]);
        story
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_picture_of_every_story_is_narrow_and_plain(story in any_story()) {
        for view in View::ALL {
            let text = draw(&story, view, &Options::default());
            for line in text.lines() {
                prop_assert!(width(line) <= 80, "{}: {line}", view.word());
            }
            let is_plain =
                text.chars().all(|char| char == '\n' || !adit_proto::escape::is_unsafe(char));
            prop_assert!(is_plain, "{}: {text:?}", view.word());
            prop_assert_eq!(text, draw(&story, view, &Options::default()));
        }
    }

    #[test]
    fn every_act_of_a_talk_is_in_some_row_and_rows_are_in_order(talk in any_talk()) {
        let rows = rows(&talk);
        let mut told: Vec<usize> = rows.iter().flat_map(|row| row.acts.clone()).collect();
        told.sort_unstable();
        told.dedup();
        let silent = talk.acts.iter().filter(|act| match &act.did {
            // An acknowledgement alone is no row, unless it ends a handshake.
            Did::Segment { flags, off, .. } => {
                off.is_empty() && !flags.contains(['S', 'F', 'R'])
            }
            _ => false,
        });
        prop_assert!(told.len() + silent.count() >= talk.acts.len());
        let starts: Vec<u64> = rows.iter().map(|row| row.at).collect();
        prop_assert!(starts.is_sorted(), "{starts:?}");
        for row in &rows {
            prop_assert!(row.at <= row.until);
            prop_assert!(!matches!(row.kind, Kind::Gap) || row.until - row.at > GAP_NS);
            for columns in [0, 1, 5, 28, 200] {
                prop_assert!(width(&row.label(columns)) <= columns);
            }
        }
    }

    #[test]
    fn rules_take_any_story(story in any_story()) {
        let found = findings(&story);
        prop_assert!(found.found.iter().all(|finding| finding.count > 0));
    }
}

/// A server that reads six bytes and answers them, so many times.
fn turns(count: u64) -> Story {
    let mut talk = Talk::default();
    talk.number = 1;
    for turn in 0..count {
        for (place, way) in [(0, Way::Up), (1, Way::Down)] {
            let (off, bytes) = (turn * 6..turn * 6 + 6, b"hello\n".as_slice().into());
            let did = match way {
                Way::Up => Did::Read { way, off, bytes },
                Way::Down => Did::Write { way, off, bytes },
            };
            let at = turn * 20_000 + place * 9_000;
            talk.acts.push(Act { at, n: turn * 2 + place, seen: Seen::Server, did });
        }
    }
    let mut story = Story::default();
    story.talks.push(talk);
    story
}

#[test]
fn a_million_acts_are_folded_and_a_window_opens_any_of_them() {
    // A quadratic picture would take hours.
    let story = turns(500_000);
    let text = draw(&story, View::Sequence, &Options::default());
    assert!(text.contains("... 999,800 rows folded ..."), "{text}");
    let mut options = Options::default();
    options.window = Some(700_000..700_003);
    let text = draw(&story, View::Sequence, &options);
    assert!(text.contains("... 700,000 rows folded ..."), "{text}");
    assert!(text.contains("... 299,997 rows folded ..."), "{text}");
}

#[test]
fn no_picture_of_many_acts_is_long() {
    let story = turns(25_000);
    for view in View::ALL {
        let text = draw(&story, view, &Options::default());
        assert!(text.lines().count() < 250, "{}", view.word());
    }
    assert_eq!(rows(&story.talks[0]).len(), 50_000);
}

#[test]
fn a_trace_that_tells_nothing_is_drawn_too() {
    let story = adit_trace::read::read(r#"{"v":1,"n":0,"t":0,"ev":"trace"}"#.as_bytes()).unwrap();
    for view in View::ALL {
        assert!(draw(&story, view, &Options::default()).lines().count() > 1);
    }
}
