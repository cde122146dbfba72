//! Two traces of two ends become one story, on one clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod frames;

use adit_trace::story::{Did, Seen, Story, Way};
use adit_trace::{capture, jsonl, merge::merge, pcapng, read};
use frames::{ACK, FIN, PSH, SYN, pcap, segment};

fn story(lines: &[String]) -> Story {
    read::read(lines.join("\n").as_bytes()).unwrap()
}

fn head(role: &str, start: &str) -> String {
    format!(
        r#"{{"v":1,"n":0,"t":0,"ev":"trace","start":"{start}","role":"{role}","prog":"adit {role}","pid":7}}"#
    )
}

/// One conversation as the server tells it; `t` microseconds after its start.
fn server(conn: u64, port: u16, t: u64) -> Vec<String> {
    let n = conn * 10;
    let ends = format!(r#""conn":{conn},"peer":"127.0.0.1:{port}","local":"127.0.0.1:7000""#);
    vec![
        format!(
            r#"{{"v":1,"n":{n},"t":{t},"layer":"call","ev":"accept",{ends},"role":"server","fd":12}}"#
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"open",{ends},"scheme":"tcp","role":"server"}}"#,
            n + 1,
            t + 1
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"data",{ends},"role":"server","dir":"in","off":[0,6],"len":6,"text":"hello\n"}}"#,
            n + 2,
            t + 100
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"data",{ends},"role":"server","dir":"out","off":[0,6],"len":6,"text":"HELLO\n"}}"#,
            n + 3,
            t + 110
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"half_close",{ends},"role":"server","dir":"in"}}"#,
            n + 4,
            t + 300
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"close",{ends},"role":"server","code":"ok","in":6,"out":6,"dt":300}}"#,
            n + 5,
            t + 310
        ),
    ]
}

/// The same as the client tells it.
fn client(conn: u64, port: u16, t: u64) -> Vec<String> {
    let n = conn * 10;
    let ends = format!(r#""conn":{conn},"peer":"127.0.0.1:7000","local":"127.0.0.1:{port}""#);
    vec![
        format!(
            r#"{{"v":1,"n":{n},"t":{},"layer":"call","ev":"connect",{ends},"role":"client","fd":9,"dt":30}}"#,
            t - 40
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"open",{ends},"scheme":"tcp","role":"client"}}"#,
            n + 1,
            t + 2
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"data",{ends},"role":"client","dir":"out","off":[0,6],"len":6,"text":"hello\n"}}"#,
            n + 2,
            t + 80
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"data",{ends},"role":"client","dir":"in","off":[0,6],"len":6,"text":"HELLO\n"}}"#,
            n + 3,
            t + 140
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"half_close",{ends},"role":"client","dir":"out"}}"#,
            n + 4,
            t + 280
        ),
        format!(
            r#"{{"v":1,"n":{},"t":{},"ev":"close",{ends},"role":"client","code":"ok","in":6,"out":6,"dt":300}}"#,
            n + 5,
            t + 320
        ),
    ]
}

const START: &str = "2026-11-25T10:00:00.000000Z";
const LATER: &str = "2026-11-25T10:00:01.500000Z";

fn with_head(role: &str, start: &str, lines: &[Vec<String>]) -> Story {
    story(&[vec![head(role, start)], lines.concat()].concat())
}

#[test]
fn two_ends_become_one_conversation_in_one_order() {
    let s = with_head("server", START, &[server(1, 51512, 2_000_000)]);
    let c = with_head("client", LATER, &[client(4, 51512, 500_000)]);
    for (is_server_first, merged) in
        [(true, merge(s.clone(), c.clone()).unwrap()), (false, merge(c, s).unwrap())]
    {
        assert_eq!(merged.talks.len(), 1);
        assert_eq!(merged.badge.to_string(), "calls exact | wire none | one clock");
        assert_eq!(merged.start, START);
        let talk = &merged.talks[0];
        assert_eq!(talk.number, if is_server_first { 1 } else { 4 });
        assert_eq!(
            (talk.client.as_str(), talk.server.as_str()),
            ("127.0.0.1:51512", "127.0.0.1:7000")
        );
        let order: Vec<_> = talk.acts.iter().map(|act| (act.at / 1000, act.seen)).collect();
        let (c, s) = (Seen::Client, Seen::Server);
        assert_eq!(
            order,
            [
                (1_999_960, c),
                (2_000_000, s),
                (2_000_001, s),
                (2_000_002, c),
                (2_000_080, c),
                (2_000_100, s),
                (2_000_110, s),
                (2_000_140, c),
                (2_000_280, c),
                (2_000_300, s),
                (2_000_310, s),
                (2_000_320, c),
            ]
            .map(|(at, seen)| (at, seen))
        );
        let seconds: Vec<_> = talk.acts.iter().filter(|act| act.n >= 1000).collect();
        assert_eq!(seconds.len(), 6);
        assert!(seconds.iter().all(|act| (act.seen == c) == is_server_first));
        assert_eq!(merged.programs.len(), 2);
        assert!(
            merged.notes.iter().any(|it| it.starts_with("n from 1000 on")),
            "{:?}",
            merged.notes
        );
        let mut lines = Vec::new();
        jsonl::write(&merged, &mut lines).unwrap();
        assert_eq!(format!("{:?}", read::read(&lines[..]).unwrap()), format!("{merged:?}"));
        let mut drawn = Vec::new();
        pcapng::write(&merged, &mut drawn).unwrap();
        let drawn = capture::read(&drawn[..]).unwrap();
        assert_eq!(drawn.talks.len(), 1);
    }
}

#[test]
fn clocks_that_are_apart_are_brought_together_by_what_must_come_first() {
    let s = with_head("server", START, &[server(1, 51512, 2_000_000)]);
    for wrong in ["2026-11-25T09:00:00Z", "2026-11-25T10:00:01.600000Z", ""] {
        let c = with_head("client", wrong, &[client(1, 51512, 500_000)]);
        for merged in [merge(s.clone(), c.clone()).unwrap(), merge(c.clone(), s.clone()).unwrap()] {
            assert_eq!(merged.badge.clock, "two clocks, ± 25 us", "{wrong}");
            let at = |seen: Seen, is: &dyn Fn(&Did) -> bool| {
                let acts = &merged.talks[0].acts;
                acts.iter().find(|act| act.seen == seen && is(&act.did)).unwrap().at
            };
            let up = |did: &Did| {
                matches!(did, Did::Write { way: Way::Up, .. } | Did::Read { way: Way::Up, .. })
            };
            assert!(at(Seen::Client, &up) <= at(Seen::Server, &up));
            assert!(merged.talks[0].acts.is_sorted_by_key(|act| act.at));
        }
    }
}

#[test]
fn clocks_that_contradict_each_other_are_said_to() {
    let mut late = server(1, 51512, 2_000_000);
    late[2] = late[2].replace("\"t\":2000100", "\"t\":2000050");
    late[3] = late[3].replace("\"t\":2000110", "\"t\":2000190");
    let s = with_head("server", START, &[late]);
    let c = with_head("client", LATER, &[client(1, 51512, 500_000)]);
    let merged = merge(s, c).unwrap();
    assert!(merged.badge.clock.starts_with("two clocks, ±"), "{}", merged.badge);
    assert!(merged.notes.iter().any(|note| note.contains("contradict")), "{:?}", merged.notes);
}

#[test]
fn ports_that_are_used_again_are_matched_by_time() {
    let both: Vec<_> = (0..4).map(|conn| (conn + 1, 2_000_000 + conn * 1_000_000)).collect();
    let of = |make: fn(u64, u16, u64) -> Vec<String>, list: &[(u64, u64)], less: u64| {
        let lines = list.iter().map(|(conn, t)| make(*conn, 51512, t - less));
        lines.collect::<Vec<_>>()
    };
    // As many here as there: in order, even where the clocks are an hour apart.
    let s = with_head("server", START, &of(server, &both, 0));
    let c = with_head("client", "2026-11-25T11:00:00Z", &of(client, &both, 1_500_000));
    let merged = merge(s.clone(), c).unwrap();
    assert_eq!(merged.talks.len(), 4);
    assert!(merged.talks.iter().all(|talk| talk.acts.len() == 12));
    assert_eq!(merged.badge.clock, "two clocks, ± 25 us");
    // One is missing: the closest.
    let c = with_head("client", LATER, &of(client, &both[1..3], 1_500_000));
    let merged = merge(s, c).unwrap();
    let counts: Vec<_> = merged.talks.iter().map(|talk| talk.acts.len()).collect();
    assert_eq!(counts, [6, 12, 12, 6]);
    assert!(merged.notes.iter().any(|it| it == "2 conversations are only in the first trace"));
}

#[test]
fn what_only_one_has_is_kept_and_nothing_in_common_is_an_error() {
    let s = with_head("server", START, &[server(1, 51512, 2_000_000), server(2, 51513, 3_000_000)]);
    let c = with_head("client", LATER, &[client(1, 51513, 1_500_000), client(2, 40000, 1_600_000)]);
    let merged = merge(s.clone(), c).unwrap();
    let told: Vec<_> =
        merged.talks.iter().map(|it| (it.number, it.client.as_str(), it.acts.len())).collect();
    assert_eq!(
        told,
        [(1, "127.0.0.1:51512", 6), (2, "127.0.0.1:51513", 12), (3, "127.0.0.1:40000", 6)]
    );
    let other = with_head("client", LATER, &[client(1, 9, 1_500_000)]);
    let error = merge(s.clone(), other).unwrap_err();
    assert_eq!(error.first.len(), 2);
    assert_eq!(
        error.to_string(),
        "no conversation is in both, each seen by another: the first has tcp 127.0.0.1:51512 > \
         127.0.0.1:7000, seen by server; tcp 127.0.0.1:51513 > 127.0.0.1:7000, seen by server; the \
         second has tcp 127.0.0.1:9 > 127.0.0.1:7000, seen by client"
    );
    assert!(merge(s.clone(), s).is_err(), "a trace is not the other end of itself");
}

#[test]
fn servers_bound_to_all_addresses_and_unnamed_clients_are_matched() {
    let wild = server(1, 51512, 2_000_000)
        .into_iter()
        .map(|it| it.replace("127.0.0.1:7000", "0.0.0.0:7000"));
    let s = with_head("server", START, &[wild.collect()]);
    let c = with_head("client", LATER, &[client(1, 51512, 500_000)]);
    assert_eq!(merge(s, c.clone()).unwrap().talks[0].server, "127.0.0.1:7000");
    let without = server(1, 51512, 2_000_000);
    let without = without.iter().map(|it| it.replace(r#","local":"127.0.0.1:7000""#, ""));
    let s = with_head("server", START, &[without.collect()]);
    assert_eq!(merge(s, c).unwrap().talks[0].server, "127.0.0.1:7000");
    let unix = |lines: Vec<String>| {
        let path = lines.into_iter().map(|it| it.replace("127.0.0.1:7000", "/run/a.sock"));
        let path = path.map(|it| it.replace("127.0.0.1:51512", "unnamed").replace("tcp", "unix"));
        path.collect::<Vec<_>>()
    };
    let s = with_head("server", START, &[unix(server(1, 51512, 2_000_000))]);
    let c = with_head("client", LATER, &[unix(client(1, 51512, 500_000))]);
    let merged = merge(s, c).unwrap();
    assert_eq!((merged.talks[0].acts.len(), merged.talks[0].server.as_str()), (12, "/run/a.sock"));
}

#[test]
fn a_capture_joins_the_trace_of_a_server() {
    let (c, s) = ("127.0.0.1:51512", "127.0.0.1:7000");
    let all = [
        (1_999_970, segment((c, s), SYN, (1, 0), b"")),
        (1_999_971, segment((s, c), SYN | ACK, (9, 2), b"")),
        (1_999_980, segment((c, s), ACK, (2, 10), b"")),
        (2_000_090, segment((c, s), PSH | ACK, (2, 10), b"hello\n")),
        (2_000_120, segment((s, c), PSH | ACK, (10, 8), b"HELLO\n")),
        (2_000_290, segment((c, s), FIN | ACK, (8, 16), b"")),
        (2_000_315, segment((s, c), FIN | ACK, (16, 9), b"")),
    ];
    let all = all.iter().map(|(at, it)| (1_795_600_800 + at / 1_000_000, at % 1_000_000, it.ip()));
    let all: Vec<_> = all.collect();
    let capture = capture::read(&pcap(101, false, false, &all)[..]).unwrap();
    let trace = with_head("server", START, &[server(1, 51512, 2_000_000)]);
    let merged = merge(trace, capture).unwrap();
    assert_eq!(merged.badge.to_string(), "calls exact | wire exact | one clock");
    assert_eq!(merged.talks[0].acts.len(), 13);
    let seen: Vec<_> = merged.talks[0].acts.iter().map(|act| act.seen).collect();
    assert_eq!(seen[..4], [Seen::Wire, Seen::Wire, Seen::Wire, Seen::Server]);
    let mut bytes = Vec::new();
    pcapng::write(&merged, &mut bytes).unwrap();
    let back = capture::read(&bytes[..]).unwrap();
    assert_eq!(back.talks[0].acts.len(), 7, "packets are those that were captured");
    assert_eq!(back.badge.wire, "exact");
}

#[test]
fn a_relay_is_matched_with_the_client_before_it_and_the_server_behind_it() {
    let lines = [
        head("relay", START),
        r#"{"v":1,"n":1,"t":2000000,"layer":"call","ev":"accept","conn":1,"peer":"127.0.0.1:51512","local":"127.0.0.1:7000","role":"server","by":"lib","fd":12}"#.to_owned(),
        r#"{"v":1,"n":2,"t":2000001,"ev":"open","conn":1,"peer":"127.0.0.1:51512","local":"127.0.0.1:7000","role":"server","scheme":"tcp"}"#.to_owned(),
        r#"{"v":1,"n":3,"t":2000002,"layer":"call","ev":"connect","conn":1,"peer":"127.0.0.1:9000","local":"127.0.0.1:44444","role":"client","by":"lib","fd":13,"dt":5}"#.to_owned(),
        r#"{"v":1,"n":4,"t":2000090,"ev":"data","conn":1,"role":"server","dir":"in","off":[0,6],"len":6,"text":"hello\n"}"#.to_owned(),
        r#"{"v":1,"n":5,"t":2000092,"ev":"data","conn":1,"role":"client","dir":"out","off":[0,6],"len":6,"text":"hello\n"}"#.to_owned(),
        r#"{"v":1,"n":6,"t":2000130,"ev":"data","conn":1,"role":"client","dir":"in","off":[0,6],"len":6,"text":"HELLO\n"}"#.to_owned(),
        r#"{"v":1,"n":7,"t":2000132,"ev":"data","conn":1,"role":"server","dir":"out","off":[0,6],"len":6,"text":"HELLO\n"}"#.to_owned(),
    ];
    let relay = story(&lines);
    let c = with_head("client", LATER, &[client(1, 51512, 500_000)]);
    let behind =
        server(1, 44444, 2_000_004).iter().map(|it| it.replace(":7000", ":9000")).collect();
    let s = with_head("server", START, &[behind]);
    let merged = merge(merge(relay, c).unwrap(), s).unwrap();
    assert_eq!(merged.talks.len(), 1);
    let talk = &merged.talks[0];
    assert_eq!((talk.client.as_str(), talk.server.as_str()), ("127.0.0.1:51512", "127.0.0.1:9000"));
    assert_eq!(talk.relay, Some(("127.0.0.1:7000".to_owned(), "127.0.0.1:44444".to_owned())));
    assert_eq!(merged.badge.calls, "relay");
    let mut seen: Vec<_> = talk.acts.iter().map(|act| act.seen).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    let mut bytes = Vec::new();
    pcapng::write(&merged, &mut bytes).unwrap();
    let back = capture::read(&bytes[..]).unwrap();
    let ends: Vec<_> =
        back.talks.iter().map(|it| (it.client.as_str(), it.server.as_str())).collect();
    assert_eq!(
        ends,
        [("127.0.0.1:51512", "127.0.0.1:7000"), ("127.0.0.1:44444", "127.0.0.1:9000")]
    );
}

#[test]
fn the_traces_of_the_tests_are_merged() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    for name in ["echo", "boundaries", "split", "udp_lost"] {
        let of = |role: &str| {
            let path = folder.join(format!("{name}_{role}.jsonl"));
            read::read(std::fs::read(path).unwrap().as_slice()).unwrap()
        };
        for merged in
            [merge(of("server"), of("client")).unwrap(), merge(of("client"), of("server")).unwrap()]
        {
            assert_eq!(merged.talks.len(), 1, "{name}");
            let acts = &merged.talks[0].acts;
            assert!(acts.iter().any(|act| act.seen == Seen::Client), "{name}");
            assert!(acts.iter().any(|act| act.seen == Seen::Server), "{name}");
            assert!(!merged.notes.iter().any(|note| note.contains("contradict")), "{name}");
        }
    }
}
