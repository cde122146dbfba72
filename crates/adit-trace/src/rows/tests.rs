//! How acts become rows, one example for each kind of observer.

use super::{Fate, Kind, Message, Row, Stage, rows, size, width};
use super::{cut, duration, thousands};
use crate::story::{Act, Did, Scheme, Seen, Talk, Way};
use Seen::{Client, RelayToClient, RelayToServer, Server, Wire};
use Way::{Down, Up};

fn rows_of(scheme: Scheme, acts: Vec<(u64, Seen, Did)>) -> Vec<Row> {
    let acts = acts.into_iter().zip(1..).map(|((at, seen, did), n)| Act { at, n, seen, did });
    rows(&Talk { number: 1, scheme, acts: acts.collect(), ..Talk::default() })
}

fn tcp(acts: Vec<(u64, Seen, Did)>) -> Vec<Row> {
    rows_of(Scheme::Tcp, acts)
}

fn write(way: Way, from: u64, to: u64) -> Did {
    Did::Write { way, off: from..to, bytes: Box::default() }
}

fn read(way: Way, from: u64, to: u64) -> Did {
    Did::Read { way, off: from..to, bytes: Box::default() }
}

/// Each row as one short text.
fn shown(rows: &[Row]) -> Vec<String> {
    let show = |row: &Row| format!("{} | {}", row.label(40), row.note());
    rows.iter().map(|row| show(row).trim_end_matches(" | ").to_owned()).collect()
}

fn message(row: &Row) -> &Message {
    match &row.kind {
        Kind::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

const MS: u64 = 1_000_000;

#[test]
fn ten_writes_and_one_read_are_one_arrow() {
    let mut acts: Vec<_> =
        (0..10).map(|at| (at, Client, write(Up, at * 10, at * 10 + 10))).collect();
    acts.push((20 * MS, Server, read(Up, 0, 100)));
    let rows = tcp(acts);
    assert_eq!(shown(&rows), ["100 B | 10 writes, 1 read"]);
    assert_eq!(message(&rows[0]).at(Stage::Written).unwrap().sizes(), [10; 8]);
    assert_eq!(message(&rows[0]).at(Stage::Read).unwrap().sizes(), [100]);
    assert_eq!(rows[0].acts, (0..=10).collect::<Vec<_>>());
}

#[test]
fn a_byte_the_other_way_ends_a_message_and_silence_too() {
    let rows = tcp(vec![
        (0, Server, read(Up, 0, 5)),
        (1, Server, write(Down, 0, 5)),
        (2, Server, read(Up, 5, 8)),
        (2 + 50 * MS, Server, read(Up, 8, 9)),
        (3 + 100 * MS, Server, read(Up, 9, 10)),
    ]);
    let expected =
        ["5 B | 1 read", "5 B | 1 write", "4 B | 2 reads", "50.0 ms of silence", "1 B | 1 read"];
    assert_eq!(shown(&rows), expected);
}

#[test]
fn both_ways_at_once_each_read_finds_its_write() {
    let rows = tcp(vec![
        (0, Client, write(Up, 0, 5)),
        (1, Server, write(Down, 0, 7)),
        (2, Client, write(Up, 5, 9)),
        (3, Server, read(Up, 0, 9)),
        (4, Client, read(Down, 0, 7)),
    ]);
    let expected = [
        "5 B | 1 write, 1 read",
        "7 B | 1 write, 1 read",
        "4 B | 1 write, read with the one before",
    ];
    assert_eq!(shown(&rows), expected);
}

#[test]
fn a_read_that_comes_before_its_write_by_the_clocks_joins_it() {
    let rows = tcp(vec![(0, Server, read(Up, 0, 5)), (1, Client, write(Up, 0, 5))]);
    assert_eq!(shown(&rows), ["5 B | 1 write, 1 read"]);
}

#[test]
fn what_waits_in_the_buffer_is_a_row_of_its_own() {
    let rows = tcp(vec![(0, Client, write(Up, 0, 5)), (200 * MS, Server, read(Up, 0, 5))]);
    let expected = ["5 B | 1 write", "200 ms of silence", "5 B | 1 read, waited in the buffer"];
    assert_eq!(shown(&rows), expected);
    assert!(message(&rows[2]).is_late);
}

#[test]
fn a_long_transfer_has_a_row_a_second_even_when_the_reader_lags() {
    let mut acts = Vec::new();
    for at in 0..3000_u64 {
        acts.push((at * MS, Client, write(Up, at, at + 1)));
        if let Some(lagging) = at.checked_sub(40) {
            acts.push((at * MS + 1, Server, read(Up, lagging, lagging + 1)));
        }
    }
    let rows = tcp(acts);
    assert!(rows.len() < 8, "{:#?}", shown(&rows));
}

#[test]
fn a_relay_tells_what_came_and_what_it_passed_on() {
    let rows = tcp(vec![
        (0, RelayToClient, read(Up, 0, 78)),
        (1, RelayToServer, write(Up, 0, 78)),
        (2, RelayToServer, read(Down, 0, 30)),
        (3, RelayToServer, read(Down, 30, 50)),
        (4, RelayToClient, write(Down, 0, 50)),
    ]);
    let expected = ["78 B | relayed in 1 piece", "50 B | 2 pieces came, passed on in 1"];
    assert_eq!(shown(&rows), expected);
}

#[test]
fn calls_and_packets_of_the_same_bytes_are_one_arrow() {
    let segment = |from, to, again| Did::Segment {
        way: Up,
        flags: "PA".into(),
        off: from..to,
        bytes: Box::default(),
        window: 1,
        again,
    };
    let rows = tcp(vec![
        (0, Client, write(Up, 0, 100)),
        (1, Wire, segment(0, 60, false)),
        (2, Wire, segment(60, 100, false)),
        (3, Wire, segment(60, 100, true)),
        (4, Server, read(Up, 0, 100)),
    ]);
    assert_eq!(shown(&rows), ["100 B | 1 write, 3 segments, 1 read, 1 sent again"]);
}

#[test]
fn datagrams_are_never_joined_and_a_missing_one_is_known_only_if_both_were_looked_at() {
    let send = |msg| Did::Send { way: Up, msg, len: 5, bytes: Box::default() };
    let receive = |msg| Did::Receive { way: Up, msg, len: 5, bytes: Box::default() };
    let fates = |acts| -> Vec<Fate> {
        rows_of(Scheme::Udp, acts)
            .iter()
            .filter_map(|row| match &row.kind {
                Kind::Datagram(datagram) => Some(datagram.fate),
                _ => None,
            })
            .collect()
    };
    assert_eq!(fates(vec![(0, Client, send(0)), (1, Client, send(1))]), [Fate::Unknown; 2]);
    let both = vec![(0, Client, send(0)), (1, Client, send(1)), (2, Server, receive(1))];
    assert_eq!(fates(both), [Fate::Missing, Fate::Arrived]);
    let relay = vec![
        (0, RelayToClient, receive(0)),
        (1, RelayToClient, receive(1)),
        (2, RelayToServer, send(1)),
    ];
    assert_eq!(fates(relay), [Fate::Missing, Fate::Arrived]);
}

#[test]
fn a_datagram_that_is_long_on_its_way_is_late_for_nobody() {
    let rows = rows_of(
        Scheme::Udp,
        vec![
            (0, Client, Did::Send { way: Up, msg: 0, len: 5, bytes: Box::default() }),
            (600 * MS, Server, Did::Receive { way: Up, msg: 0, len: 5, bytes: Box::default() }),
        ],
    );
    let fates = rows.iter().map(|row| match &row.kind {
        Kind::Datagram(datagram) => datagram.fate,
        other => panic!("{other:?}"),
    });
    assert_eq!(fates.collect::<Vec<_>>(), [Fate::Arrived]);
}

#[test]
fn setup_half_close_and_close_are_rows() {
    let connect = Did::Connect { fd: Some(3), addr: "a:1".into(), took: Some(85_000), code: None };
    let over = |code: &str| Did::Over {
        code: code.into(),
        bytes_in: Some(1),
        bytes_out: Some(2),
        took: MS,
    };
    let rows = tcp(vec![
        (0, Client, connect),
        (1, Server, Did::Accept { fd: Some(4) }),
        (2, Client, Did::Open),
        (3, Client, Did::WriteEnd { way: Up }),
        (4, Server, Did::ReadEnd { way: Up }),
        (5, Server, Did::WriteEnd { way: Down }),
        (6, Client, Did::ReadEnd { way: Down }),
        (7, Client, over("ok")),
        (8, Client, Did::Close { fd: Some(3) }),
        (9, Server, over("reset")),
    ]);
    let expected = [
        "connected (85.0 us)",
        "FIN | client has finished; server may still answer",
        "FIN | finished too",
        "close | in 1 B, out 2 B, 1.00 ms",
        "over: reset | in 1 B, out 2 B, 1.00 ms",
    ];
    assert_eq!(shown(&rows), expected);
    assert!(!rows[3].is_trouble() && rows[4].is_trouble());
}

#[test]
fn a_first_packet_that_nobody_answers_or_a_reset_does_is_no_connection() {
    let packet = |way, flags: &str| Did::Segment {
        way,
        flags: flags.into(),
        off: 0..0,
        bytes: Box::default(),
        window: 0,
        again: false,
    };
    let (syn, rst) = (packet(Up, "S"), packet(Down, "RA"));
    assert_eq!(shown(&tcp(vec![(0, Wire, syn.clone())])), ["no answer | 1 packet"]);
    let refused = tcp(vec![(0, Wire, syn.clone()), (1, Wire, rst.clone())]);
    assert_eq!(refused[0].label(40), "not connected (refused)");
    let answered = vec![(0, Wire, syn), (1, Wire, packet(Down, "SA")), (2, Wire, rst)];
    assert_eq!(tcp(answered)[0].label(40), "connected");
}

#[test]
fn labels_have_units_and_a_width() {
    assert_eq!([size(78), size(99_999), size(100_000)], ["78 B", "99999 B", "100 kB"]);
    assert_eq!([size(1_210_000), size(u64::MAX)], ["1.21 MB", "18446744073 GB"]);
    let times = [duration(7), duration(85_000), duration(1_500_000_000)];
    assert_eq!(times, ["7 ns", "85.0 us", "1.50 s"]);
    assert_eq!([thousands(7), thousands(998_000)], ["7", "998,000"]);
    assert_eq!([cut("abcdef", 5), cut("abcdef", 2)], ["ab...", ".."]);
    assert_eq!(cut("a\u{1b}b", 9), "a\\x1bb");
    assert_eq!([width("abc"), width("\u{65e5}\u{672c}")], [3, 4]);
}
