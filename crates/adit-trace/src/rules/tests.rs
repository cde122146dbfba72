//! Each rule just below and just above its threshold.

use super::edges::{READS_OF_WRITE_MIN, WRITES_IN_READ_MIN};
use super::endings::{ACCEPT_LATE_NS_MIN, READS_AFTER_END_MIN, SPIN_COUNT_MIN, SPIN_NS};
use super::wire::{
    AFTER_ACK_NS_MAX, NAGLE_NS_MAX, NAGLE_NS_MIN, SEGMENT_BYTES, SILENT_NS_MIN, UNANSWERED_MIN,
    WINDOW_CLOSED_NS_MIN,
};
use super::{CAUSES_MAX, Findings, Level, RULES, findings};
use crate::story::{Act, Did, Door, Program, Scheme, Seen, Story, Talk, Way};

fn story(scheme: Scheme, acts: Vec<(u64, Seen, Did)>) -> Story {
    let mut story = Story::default();
    story.programs.push(Program::default());
    let acts = acts.into_iter().zip(1..).map(|((at, seen, did), n)| Act { at, n, seen, did });
    story.talks.push(Talk { number: 1, scheme, acts: acts.collect(), ..Talk::default() });
    story
}

fn tcp(acts: Vec<(u64, Seen, Did)>) -> Findings {
    findings(&story(Scheme::Tcp, acts))
}

fn udp(acts: Vec<(u64, Seen, Did)>) -> Findings {
    findings(&story(Scheme::Udp, acts))
}

/// What the rule said, if it fired.
fn said(findings: &Findings, rule: &str) -> Option<String> {
    let found = findings.found.iter().find(|finding| finding.rule == rule)?;
    Some(found.text.clone())
}

fn fires(findings: &Findings, rule: &str) -> bool {
    assert!(!findings.not_checked.iter().any(|(id, _)| *id == rule), "{rule} was not checked");
    said(findings, rule).is_some()
}

fn write(way: Way, from: u64, to: u64) -> Did {
    Did::Write { way, off: from..to, bytes: Box::default() }
}

fn read(way: Way, from: u64, to: u64) -> Did {
    Did::Read { way, off: from..to, bytes: Box::default() }
}

fn send(msg: u64, len: u64) -> Did {
    Did::Send { way: Up, msg, len, bytes: Box::default() }
}

fn receive(msg: u64, len: u64) -> Did {
    Did::Receive { way: Up, msg, len, bytes: Box::default() }
}

fn error(code: &str, text: &str) -> Did {
    Did::Error { code: code.into(), text: text.into(), place: "connect".into() }
}

fn over(code: &str) -> Did {
    Did::Over { code: code.into(), bytes_in: Some(0), bytes_out: Some(0), took: 20_000_000_000 }
}

fn segment(way: Way, flags: &str, from: u64, to: u64) -> Did {
    let (flags, off) = (flags.into(), from..to);
    Did::Segment { way, flags, off, bytes: Box::default(), window: 65_535, again: false }
}

fn again(from: u64, to: u64) -> Did {
    match segment(Up, "PA", from, to) {
        Did::Segment { way, flags, off, bytes, window, .. } => {
            Did::Segment { way, flags, off, bytes, window, again: true }
        }
        did => did,
    }
}

fn window(way: Way, bytes: u64) -> Did {
    Did::Segment {
        way,
        flags: "A".into(),
        off: 0..0,
        bytes: Box::default(),
        window: bytes,
        again: false,
    }
}

use Seen::{Client, RelayToClient, RelayToServer, Server, Wire};
use Way::{Down, Up};

#[test]
fn r01_two_writes_in_one_read() {
    let writes = |count: u64| {
        let mut acts: Vec<_> =
            (0..count).map(|at| (at, Client, write(Up, 10 * at, 10 * at + 10))).collect();
        acts.push((100, Server, read(Up, 0, 10 * count)));
        tcp(acts)
    };
    assert!(!fires(&writes(WRITES_IN_READ_MIN - 1), "R01"));
    assert!(fires(&writes(WRITES_IN_READ_MIN), "R01"));
    let text = said(&writes(10), "R01").unwrap();
    assert!(text.starts_with("10 writes arrived as one read."), "{text}");
}

#[test]
fn r02_one_write_in_two_reads() {
    let reads = |count: u64| {
        let mut acts = vec![(0, Client, write(Up, 0, 10 * count))];
        acts.extend((0..count).map(|at| (at + 1, Server, read(Up, 10 * at, 10 * at + 10))));
        tcp(acts)
    };
    assert!(!fires(&reads(READS_OF_WRITE_MIN - 1), "R02"));
    assert!(fires(&reads(READS_OF_WRITE_MIN), "R02"));
    let text = said(&reads(62), "R02").unwrap();
    assert!(text.starts_with("One write of 620 bytes took 62 reads."), "{text}");
}

#[test]
fn r01_and_r02_where_edges_only_overlap_and_one_side_ends_early() {
    let found = tcp(vec![
        (0, Client, write(Up, 0, 10)),
        (1, Client, write(Up, 10, 30)),
        (2, Server, read(Up, 0, 15)),
        (3, Server, read(Up, 15, 20)),
    ]);
    assert!(fires(&found, "R01") && fires(&found, "R02"));
}

#[test]
fn rules_of_edges_need_both_programs() {
    let found = tcp(vec![(0, Server, read(Up, 0, 100))]);
    for rule in ["R01", "R02", "R16"] {
        assert!(found.not_checked.contains(&(rule, "needs both programs")), "{rule}");
    }
}

#[test]
fn r06_reads_after_the_end() {
    let ends =
        |count: u64| tcp((0..=count).map(|at| (at, Server, Did::ReadEnd { way: Up })).collect());
    assert!(!fires(&ends(READS_AFTER_END_MIN - 1), "R06"));
    assert!(fires(&ends(READS_AFTER_END_MIN), "R06"));
}

/// Two small writes; the acknowledgement of the first, then the second, `held` after its call.
fn nagle(held: u64, after_ack: u64, length: u64) -> Findings {
    tcp(vec![
        (0, Client, write(Up, 0, 5)),
        (10, Wire, segment(Up, "PA", 0, 5)),
        (1_000, Client, write(Up, 5, 5 + length)),
        (1_000 + held - after_ack, Wire, segment(Down, "A", 0, 0)),
        (1_000 + held, Wire, segment(Up, "PA", 5, 5 + length)),
    ])
}

#[test]
fn r07_the_second_small_write_waits_for_the_acknowledgement() {
    assert!(!fires(&nagle(NAGLE_NS_MIN - 1, 10, 5), "R07"));
    assert!(fires(&nagle(NAGLE_NS_MIN, 10, 5), "R07"));
    assert!(fires(&nagle(NAGLE_NS_MAX, 10, 5), "R07"));
    assert!(!fires(&nagle(NAGLE_NS_MAX + 1, 10, 5), "R07"));
    assert!(fires(&nagle(41_000_000, AFTER_ACK_NS_MAX, 5), "R07"));
    assert!(!fires(&nagle(41_000_000, AFTER_ACK_NS_MAX + 1, 5), "R07"));
    assert!(fires(&nagle(41_000_000, 10, SEGMENT_BYTES - 1), "R07"));
    assert!(!fires(&nagle(41_000_000, 10, SEGMENT_BYTES), "R07"));
    assert!(said(&nagle(41_000_000, 10, 5), "R07").unwrap().starts_with("41 ms lost: Nagle"));
}

#[test]
fn r09_bytes_after_the_end_of_the_other_way() {
    let before = tcp(vec![(1, Server, write(Down, 0, 5)), (2, Server, Did::ReadEnd { way: Up })]);
    assert!(!fires(&before, "R09"));
    let after = tcp(vec![
        (1, Server, Did::ReadEnd { way: Up }),
        (2, Server, write(Down, 0, 5)),
        (3, Server, write(Down, 5, 9)),
    ]);
    assert!(fires(&after, "R09"));
    assert_eq!(after.found[0].count, 1, "once for each end");
    assert!(after.found[0].text.starts_with("Client has finished sending"));
}

#[test]
fn r09_as_the_wire_sees_it() {
    let fin = || Did::Segment {
        way: Up,
        flags: "FA".into(),
        off: 0..0,
        bytes: Box::default(),
        window: 1000,
        again: false,
    };
    let data = || Did::Segment {
        way: Down,
        flags: "PA".into(),
        off: 0..5,
        bytes: Box::default(),
        window: 1000,
        again: false,
    };
    assert!(!fires(&tcp(vec![(1, Wire, data()), (2, Wire, fin())]), "R09"));
    assert!(fires(&tcp(vec![(1, Wire, fin()), (2, Wire, data())]), "R09"));
}

#[test]
fn r10_a_window_that_stays_closed() {
    let closed = |nanos: u64| {
        tcp(vec![
            (5, Wire, window(Down, 0)),
            (6, Wire, window(Down, 0)),
            (5 + nanos, Wire, window(Down, 100)),
        ])
    };
    assert!(!fires(&closed(WINDOW_CLOSED_NS_MIN - 1), "R10"));
    assert!(fires(&closed(WINDOW_CLOSED_NS_MIN), "R10"));
    let text = said(&closed(WINDOW_CLOSED_NS_MIN), "R10").unwrap();
    assert!(text.starts_with("Server reads too slowly"), "{text}");
}

#[test]
fn r12_a_reset_as_a_program_and_as_the_wire_sees_it() {
    assert!(!fires(&tcp(vec![(1, Server, over("ok"))]), "R12"));
    let found = tcp(vec![(1, Server, error("reset", "")), (2, Server, over("reset"))]);
    assert!(fires(&found, "R12"));
    assert_eq!(found.found[0].count, 1, "the error and the end are one reset");
    assert!(said(&found, "R12").unwrap().starts_with("Reset by the client"));
    let found = tcp(vec![
        (1, Wire, segment(Up, "S", 0, 0)),
        (2, Wire, segment(Down, "SA", 0, 0)),
        (3, Wire, segment(Down, "FA", 0, 0)),
        (4, Wire, segment(Up, "PA", 0, 5)),
        (5, Wire, segment(Down, "R", 0, 0)),
    ]);
    assert_eq!(said(&found, "R12").unwrap(), "Reset by the server: data after close");
    assert!(said(&found, "R14").is_none());
}

#[test]
fn r14_names_what_listens_the_same_port_first() {
    let refused = |code: &str| Did::Connect {
        fd: None,
        addr: "127.0.0.1:7000".into(),
        took: None,
        code: Some(code.into()),
    };
    let mut story = story(Scheme::Tcp, vec![(1, Client, refused("refused"))]);
    for addr in ["127.0.0.1:80", "[::1]:7000"] {
        story.doors.push(Door { addr: addr.to_owned(), ..Door::default() });
    }
    let text = said(&findings(&story), "R14").unwrap();
    assert_eq!(
        text,
        "Nothing listens on 127.0.0.1:7000. Listening here: tcp [::1]:7000, tcp 127.0.0.1:80"
    );
    assert!(!fires(&tcp(vec![(1, Client, refused("connect-timeout"))]), "R14"));
    let wire = tcp(vec![(1, Wire, segment(Up, "S", 0, 0)), (2, Wire, segment(Down, "RA", 0, 0))]);
    assert!(fires(&wire, "R14"));
    assert_eq!(said(&wire, "R12").unwrap(), "Reset by the server: no listener");
}

#[test]
fn r16_accepted_long_after_the_kernel_connected() {
    let late = |nanos: u64| {
        let connect = Did::Connect { fd: None, addr: "a:1".into(), took: Some(10), code: None };
        tcp(vec![(0, Client, connect), (10 + nanos, Server, Did::Accept { fd: None })])
    };
    assert!(!fires(&late(ACCEPT_LATE_NS_MIN - 1), "R16"));
    assert!(fires(&late(ACCEPT_LATE_NS_MIN), "R16"));
}

#[test]
fn r18_and_r19_outside_of_every_conversation() {
    let general = |acts: Vec<(u64, Did)>| {
        let mut story = story(Scheme::Tcp, Vec::new());
        let acts = acts.into_iter().zip(1..);
        story.general = acts.map(|((at, did), n)| Act { at, n, seen: Server, did }).collect();
        findings(&story)
    };
    assert!(fires(&general(vec![(1, error("in-use", "held by pid 4312"))]), "R18"));
    assert!(!fires(&general(vec![(1, error("denied", ""))]), "R18"));
    let starved = |count: usize, apart: u64| {
        let acts = (0..count).map(|place| {
            let at = u64::try_from(place).unwrap() * apart;
            (at, error("no-fds", ""))
        });
        general(acts.collect())
    };
    let last = u64::try_from(SPIN_COUNT_MIN - 1).unwrap();
    let level = |found: &Findings| found.found[0].level;
    assert_eq!(level(&starved(SPIN_COUNT_MIN - 1, 1)), Level::Warn);
    assert_eq!(level(&starved(SPIN_COUNT_MIN, SPIN_NS / last)), Level::Fault);
    assert_eq!(level(&starved(SPIN_COUNT_MIN, SPIN_NS / last + 1)), Level::Warn);
}

#[test]
fn r21_a_datagram_that_was_cut_off() {
    let cut = |len| udp(vec![(1, Client, send(0, 10)), (2, Server, receive(0, len))]);
    assert!(!fires(&cut(10), "R21"));
    assert!(said(&cut(4), "R21").unwrap().starts_with("Your buffer held 4 of 10 bytes"));
    assert!(fires(&udp(vec![(1, Server, Did::Truncated { len: 4 })]), "R21"));
}

#[test]
fn r23_a_datagram_that_did_not_arrive() {
    let lost = |last: u64| {
        let mut acts = vec![(1, Client, send(0, 5)), (3, Client, send(1, 5))];
        acts.push((last, Server, receive(0, 5)));
        acts.sort_by_key(|(at, _, _)| *at);
        let mut story = story(Scheme::Udp, acts);
        // The streams of a story need packets for this rule; datagrams do not.
        story.programs.push(Program::default());
        findings(&story)
    };
    assert!(!fires(&lost(3), "R23"), "it may still be on its way");
    assert!(fires(&lost(4), "R23"));
    let relay = udp(vec![
        (1, RelayToClient, receive(0, 5)),
        (2, RelayToClient, receive(1, 5)),
        (3, RelayToServer, send(1, 5)),
    ]);
    assert!(said(&relay, "R23").unwrap().starts_with("Lost at the relay"));
    let tcp = tcp(vec![(1, Wire, segment(Up, "PA", 0, 5)), (200_000_001, Wire, again(0, 5))]);
    assert_eq!(said(&tcp, "R23").unwrap(), "Lost on the wire: TCP sent it again after 200 ms");
}

#[test]
fn r24_order_and_once() {
    let arrived = |order: &[u64]| {
        let mut acts: Vec<_> = (0..3).map(|msg| (msg, Client, send(msg, 5))).collect();
        acts.extend(order.iter().map(|msg| (10, Server, receive(*msg, 5))));
        udp(acts)
    };
    assert!(!fires(&arrived(&[0, 2]), "R24"));
    assert!(said(&arrived(&[0, 2, 1]), "R24").unwrap().starts_with("Datagram 1 arrived after 2."));
    assert!(said(&arrived(&[0, 1, 1]), "R24").unwrap().starts_with("Datagram 1 arrived twice."));
    let alone = udp(vec![(1, Server, receive(0, 5))]);
    assert!(alone.not_checked.iter().any(|(id, _)| *id == "R24"));
}

#[test]
fn r25_a_peer_that_says_nothing() {
    let silent = |nanos: u64| {
        tcp(vec![(5, Wire, segment(Up, "PA", 0, 5)), (5 + nanos, Wire, segment(Down, "A", 0, 0))])
    };
    assert!(!fires(&silent(SILENT_NS_MIN - 1), "R25"));
    assert!(said(&silent(SILENT_NS_MIN), "R25").unwrap().starts_with("Server is silent since"));
    let repeats = |count: u64| {
        let mut acts = vec![(5, Wire, segment(Up, "PA", 0, 5))];
        acts.extend((1..=count).map(|place| (5 + place, Wire, again(0, 5))));
        tcp(acts)
    };
    assert!(!fires(&repeats(UNANSWERED_MIN - 1), "R25"));
    assert!(fires(&repeats(UNANSWERED_MIN), "R25"));
    assert!(said(&tcp(vec![(1, Server, over("dead-peer"))]), "R25").is_some());
}

#[test]
fn r26_nobody_listens_for_datagrams() {
    assert!(fires(&udp(vec![(1, Client, Did::Unreachable { way: Up })]), "R26"));
    assert!(fires(&udp(vec![(1, Client, over("refused"))]), "R26"));
    assert!(!fires(&udp(vec![(1, Client, over("no-answer"))]), "R26"));
}

#[test]
fn r28_more_than_a_datagram_takes() {
    let text = "datagram of 70000 B exceeds the UDP limit 65507 B";
    let found = udp(vec![(1, Client, error("too-big", text))]);
    assert!(said(&found, "R28").unwrap().starts_with("70000 bytes exceed the limit 65 507"));
    assert!(!fires(&udp(vec![(1, Client, error("bad-frame", text))]), "R28"));
}

#[test]
fn r29_a_port_with_its_bytes_swapped() {
    let refused = |port: u16| {
        let addr = format!("127.0.0.1:{port}").into();
        let did = Did::Connect { fd: None, addr, took: None, code: Some("refused".into()) };
        let mut story = story(Scheme::Tcp, vec![(1, Client, did)]);
        story.doors.push(Door { addr: "127.0.0.1:8080".to_owned(), ..Door::default() });
        findings(&story)
    };
    assert_eq!(
        said(&refused(36895), "R29").unwrap(),
        "Port 36895 is 8080 with its bytes swapped: htons is missing"
    );
    assert!(!fires(&refused(36896), "R29"));
}

#[test]
fn a_rule_is_either_fired_checked_or_named_and_counts() {
    let found = tcp((0..100).map(|at| (at, Client, over("reset"))).collect());
    assert!(found.found[0].causes.len() <= CAUSES_MAX);
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(ids, sorted);
    assert!(found.not_checked.iter().all(|(id, _)| ids.contains(id)));
}
