//! Stories as captures: read back the same, and opened by tshark and tcpdump without a complaint.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod frames;

use std::io::Write as _;
use std::process::{Command, Stdio};

use adit_trace::story::{Did, Story, Way};
use adit_trace::{capture, pcapng, read};
use frames::{ACK, FIN, SYN, pcap, segment, udp};
use proptest::prelude::*;

fn written(story: &Story) -> Vec<u8> {
    let mut bytes = Vec::new();
    pcapng::write(story, &mut bytes).unwrap();
    bytes
}

fn story(lines: &str) -> Story {
    read::read(lines.as_bytes()).unwrap()
}

/// What a program says to a capture on its standard input; `None`, and a word, where it is not here.
fn run(program: &str, args: &[&str], capture: &[u8]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: {program} is not here");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let capture = capture.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&capture));
    let output = child.wait_with_output().unwrap();
    drop(feeder.join().unwrap());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {stderr}");
    let complaints: Vec<_> = stderr
        .lines()
        .filter(|line| !line.starts_with("Running as user") && !line.starts_with("reading from"))
        .collect();
    assert_eq!(complaints, [""; 0], "{program}");
    Some(String::from_utf8(output.stdout).unwrap())
}

const TRACE: &str = r#"{"v":1,"n":0,"t":0,"ev":"trace","adit":"0.1.0","start":"2026-11-25T10:00:00.123456Z","role":"server","prog":"adit serve upper 7000","pid":812,"calls":"exact","wire":"none"}
{"v":1,"n":1,"t":102,"layer":"call","ev":"listen","by":"lib","role":"server","fd":9,"addr":"tcp 127.0.0.1:7000"}
{"v":1,"n":2,"t":200,"layer":"call","ev":"accept","conn":1,"peer":"127.0.0.1:51512","local":"127.0.0.1:7000","role":"server","by":"lib","fd":12}
{"v":1,"n":3,"t":201,"ev":"open","conn":1,"peer":"127.0.0.1:51512","local":"127.0.0.1:7000","scheme":"tcp","role":"server"}
{"v":1,"n":4,"t":300.5,"ev":"data","conn":1,"peer":"127.0.0.1:51512","role":"server","dir":"in","seq":0,"off":[0,6],"len":6,"text":"hello\n"}
{"v":1,"n":5,"t":310,"ev":"data","conn":1,"peer":"127.0.0.1:51512","role":"server","dir":"out","seq":0,"off":[0,4000],"len":4000,"text":"HELLO\n"}
{"v":1,"n":6,"t":400,"ev":"half_close","conn":1,"peer":"127.0.0.1:51512","role":"server","dir":"in"}
{"v":1,"n":7,"t":410,"ev":"close","conn":1,"code":"ok","in":6,"out":4000,"dt":210}
"#;

#[test]
fn what_calls_tell_is_drawn_with_handshake_segments_and_ends() {
    let drawn = written(&story(TRACE));
    let back = capture::read(&drawn[..]).unwrap();
    assert_eq!(back.badge.wire, "none");
    assert!(back.notes[0].contains("Drawn from events by adit, not captured"), "{:?}", back.notes);
    assert_eq!(back.start, "2026-11-25T10:00:00.123656000Z");
    let talk = &back.talks[0];
    assert_eq!((talk.client.as_str(), talk.server.as_str()), ("127.0.0.1:51512", "127.0.0.1:7000"));
    let told = talk.acts.iter().map(|act| match &act.did {
        Did::Segment { way, flags, off, bytes, .. } => {
            (*way, &**flags, off.start, off.end, bytes.len())
        }
        _ => unreachable!(),
    });
    let told: Vec<_> = told.collect();
    let (up, down) = (Way::Up, Way::Down);
    assert_eq!(
        told,
        [
            (up, "S", 0, 0, 0),
            (down, "SA", 0, 0, 0),
            (up, "A", 0, 0, 0),
            (up, "AP", 0, 6, 6),
            (down, "A", 0, 0, 0),
            (down, "A", 0, 1448, 6),
            (down, "A", 1448, 2896, 0),
            (down, "AP", 2896, 4000, 0),
            (up, "A", 6, 6, 0),
            (up, "FA", 6, 6, 0),
            (down, "A", 4000, 4000, 0),
            (down, "FA", 4000, 4000, 0),
            (up, "A", 6, 6, 0),
        ]
    );
}

#[test]
fn tshark_reads_the_comments_the_numbers_and_no_complaint() {
    let drawn = written(&story(TRACE));
    let fields = [
        "-r",
        "-",
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-e",
        "frame.time_epoch",
        "-e",
        "ip.src",
        "-e",
        "tcp.srcport",
        "-e",
        "tcp.seq",
        "-e",
        "tcp.ack",
        "-e",
        "tcp.len",
        "-e",
        "frame.len",
        "-e",
        "frame.cap_len",
        "-e",
        "tcp.checksum.status",
        "-e",
        "ip.checksum.status",
        "-e",
        "frame.comment",
    ];
    let Some(text) = run("tshark", &fields, &drawn) else { return };
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 13, "{text}");
    assert_eq!(
        lines[3],
        "1795600800.123756500|127.0.0.1|51512|1|1|6|46|46|1|1|server: read = 6 B [0,6) at 0.000300"
    );
    assert!(
        lines[5].starts_with("1795600800.123766000|127.0.0.1|7000|1|7|1448|1488|46|"),
        "{text}"
    );
    assert!(lines[5].ends_with("server: write 4000 B [0,4000) at 0.000310"), "{text}");
    assert!(lines[9].contains("read = 0, the end"), "{text}");
    no_complaint(&drawn);
    let text = run("tshark", &["-r", "-", "-q", "-z", "follow,tcp,ascii,0"], &drawn).unwrap();
    assert!(text.contains("hello") && text.contains("HELLO"), "{text}");
}

/// tshark's experts find nothing to warn of, and tcpdump reads it to its end.
fn no_complaint(capture: &[u8]) {
    if let Some(text) = run("tshark", &["-r", "-", "-q", "-z", "expert"], capture) {
        assert!(!text.contains("Errors") && !text.contains("Warns"), "{text}");
        let all = run("tshark", &["-r", "-", "-V"], capture).unwrap();
        assert!(!all.contains("Malformed"), "{all}");
    }
    if let Some(text) = run("tcpdump", &["-nvv", "-r", "-"], capture) {
        assert!(!text.contains("bad cksum") && !text.contains("truncated"), "{text}");
        assert!(!text.contains("incorrect"), "{text}");
    }
}

/// A dialogue with scaled windows, a segment sent again, a keepalive and both ends.
fn captured() -> Story {
    let (c, s) = ("10.0.0.1:51512", "10.0.0.2:7000");
    let mut all = vec![
        segment((c, s), SYN, (u32::MAX - 2, 0), b""),
        segment((s, c), SYN | ACK, (9, u32::MAX - 1), b""),
        segment((c, s), ACK, (u32::MAX - 1, 10), b""),
        segment((c, s), ACK, (u32::MAX - 1, 10), b"hello"),
        segment((c, s), ACK, (u32::MAX - 1, 10), b"hello"),
        segment((s, c), ACK, (10, 3), b""),
        segment((c, s), ACK, (2, 10), b""),
        segment((s, c), ACK, (10, 3), b"answer"),
        segment((c, s), FIN | ACK, (3, 16), b""),
        segment((s, c), FIN | ACK, (16, 4), b""),
        segment((c, s), ACK, (4, 17), b""),
    ];
    all[0].options = vec![3, 3, 9];
    all[1].options = vec![3, 3, 7];
    all[5].window = 0;
    let mut frames: Vec<_> = (0..).zip(&all).map(|(at, it)| (5, at * 7, it.ip())).collect();
    let ask = udp("[fd00::1]:40000", "[fd00::2]:5300", b"query");
    frames.push((6, 0, ask.clone()));
    let mut icmp = vec![1, 4, 0, 0, 0, 0, 0, 0];
    icmp.extend(&ask);
    let ends = ("[fd00::2]:0".parse().unwrap(), "[fd00::1]:0".parse().unwrap());
    frames.push((6, 1, frames::ip(ends.0, ends.1, 58, &icmp)));
    capture::read(&pcap(101, false, false, &frames)[..]).unwrap()
}

#[test]
fn what_was_captured_is_written_as_it_was() {
    let story = captured();
    let bytes = written(&story);
    let back = capture::read(&bytes[..]).unwrap();
    assert_eq!(format!("{:?}", back.talks), format!("{:?}", story.talks));
    assert_eq!(format!("{:?}", back.doors), format!("{:?}", story.doors));
    assert_eq!(back.badge, story.badge);
    assert_eq!(back.start, story.start);
    if let Some(text) = run("tshark", &["-r", "-"], &bytes) {
        for word in ["Retransmission", "ZeroWindow", "Keep-Alive", "Port unreachable"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("not captured") && !text.contains("unseen"), "{text}");
        let all = run("tshark", &["-r", "-", "-V"], &bytes).unwrap();
        assert!(!all.contains("Malformed") && !all.contains("incorrect"), "{all}");
    }
    if let Some(text) = run("tcpdump", &["-nvv", "-r", "-"], &bytes) {
        assert!(!text.contains("bad ") && !text.contains("incorrect"), "{text}");
    }
}

/// Lines of one conversation, with the words that differ.
fn trace(role: &str, lines: &[&str]) -> Story {
    let head = format!(
        r#"{{"v":1,"n":0,"t":0,"ev":"trace","start":"2026-11-25T10:00:00Z","role":"{role}"}}"#
    );
    let mut text = head;
    for (n, line) in (1..).zip(lines) {
        text.push_str(&format!("\n{{\"v\":1,\"n\":{n},\"t\":{}000,{line}}}", n));
    }
    story(&text)
}

fn ends(drawn: &[u8]) -> Vec<(String, String)> {
    let back = capture::read(drawn).unwrap();
    back.talks.into_iter().map(|talk| (talk.client, talk.server)).collect()
}

#[test]
fn unix_sockets_stand_at_made_up_addresses_and_a_comment_says_for_whom() {
    let drawn = written(&trace(
        "server",
        &[
            r#""ev":"open","conn":1,"peer":"unnamed","local":"/run/\u001b[2J.sock","scheme":"unix""#,
            r#""ev":"data","conn":1,"dir":"in","off":[0,2],"len":2,"text":"hi""#,
            r#""ev":"open","conn":2,"peer":"unnamed","local":"/run/\u001b[2J.sock","scheme":"unix""#,
            r#""ev":"data","conn":2,"dir":"out","off":[0,2],"len":2,"text":"ho""#,
            r#""ev":"open","conn":3,"peer":"unnamed","local":"/b","scheme":"unix-dgram""#,
            r#""ev":"data","conn":3,"dir":"in","len":100000,"text":"long""#,
        ],
    ));
    let pair = |client: &str, server: &str| (client.to_owned(), server.to_owned());
    assert_eq!(
        ends(&drawn),
        [
            pair("127.64.0.0:40000", "127.128.0.0:50000"),
            pair("127.64.0.1:40000", "127.128.0.0:50000"),
            pair("127.64.0.2:40000", "127.128.0.1:50000"),
        ]
    );
    no_complaint(&drawn);
    let fields = ["-r", "-", "-T", "fields", "-e", "frame.comment"];
    if let Some(text) = run("tshark", &fields, &drawn) {
        assert!(text.contains("127.128.0.0:50000 stands for the server: unix /run/"), "{text}");
        assert!(text.contains("of 100000 B; IP carries no more than this"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn refused_timed_out_and_reset_connections_end_as_they_did() {
    let told = |story: &Story| {
        let back = capture::read(&written(story)[..]).unwrap();
        let acts = back.talks.into_iter().flat_map(|talk| talk.acts);
        acts.map(|act| match act.did {
            Did::Segment { flags, .. } => flags.into_string(),
            did => format!("{did:?}"),
        })
        .collect::<Vec<_>>()
    };
    let connect = |code: &str| {
        format!(
            r#""layer":"call","ev":"connect","conn":1,"peer":"10.0.0.2:7","local":"10.0.0.1:51512","code":"{code}","dt":90"#
        )
    };
    let refused = trace("client", &[&connect("refused")]);
    assert_eq!(told(&refused), ["S", "RA"]);
    no_complaint_but_resets(&written(&refused));
    assert_eq!(told(&trace("client", &[&connect("timeout")])), ["S"]);
    let reset = trace(
        "server",
        &[
            r#""ev":"open","conn":1,"peer":"10.0.0.1:51512","local":"10.0.0.2:7","scheme":"tcp""#,
            r#""ev":"data","conn":1,"dir":"in","off":[0,2],"len":2,"text":"hi""#,
            r#""ev":"close","conn":1,"code":"reset","in":2,"out":0,"dt":90"#,
        ],
    );
    assert_eq!(told(&reset), ["S", "SA", "A", "AP", "A", "RA"]);
    no_complaint_but_resets(&written(&reset));
}

fn no_complaint_but_resets(capture: &[u8]) {
    if let Some(text) = run("tshark", &["-r", "-", "-q", "-z", "expert,note"], capture) {
        assert!(!text.contains("Errors"), "{text}");
        for line in text.lines().skip_while(|line| !line.starts_with("Warns")) {
            let is_row = line.contains("TCP") && !line.contains("RST");
            assert!(!is_row, "{text}");
        }
    }
}

#[test]
fn datagrams_ipv6_and_long_writes_pass_without_a_complaint() {
    let drawn = written(&trace(
        "client",
        &[
            r#""ev":"open","conn":1,"peer":"[::1]:7000","local":"[::1]:40000","scheme":"udp""#,
            r#""ev":"data","conn":1,"dir":"out","msg":0,"len":5,"text":"query""#,
            r#""ev":"data","conn":1,"dir":"out","msg":1,"len":9000,"text":"long""#,
            r#""ev":"data","conn":1,"dir":"in","msg":0,"len":0"#,
            r#""ev":"open","conn":2,"peer":"[fe80::1%eth0]:7001","local":"0.0.0.0:40001","scheme":"tcp""#,
            r#""ev":"data","conn":2,"dir":"out","off":[0,1000000],"len":1000000,"text":"begin""#,
            r#""ev":"data","conn":2,"dir":"in","off":[0,200000000],"len":200000000"#,
            r#""ev":"data","conn":2,"dir":"in","off":[200000000,5000000000],"len":4800000000"#,
            r#""ev":"half_close","conn":2,"dir":"out""#,
        ],
    ));
    let back = capture::read(&drawn[..]).unwrap();
    assert_eq!(ends(&drawn)[1].0, "[::ffff:0.0.0.0]:40001");
    assert!(back.talks[0].acts.iter().any(|act| matches!(act.did, Did::Packet { len: 9000, .. })));
    let up = back.talks[1].acts.iter().filter_map(|act| match &act.did {
        Did::Segment { way: Way::Up, off, .. } => Some(off.end),
        _ => None,
    });
    assert_eq!(up.max(), Some(1_000_000));
    if let Some(text) = run("tshark", &["-r", "-", "-q", "-z", "expert"], &drawn) {
        assert!(!text.contains("Errors"), "{text}");
    }
    let text = run("tcpdump", &["-nvv", "-r", "-"], &drawn).unwrap_or_default();
    assert!(!text.contains("incorrect") && !text.contains("bad "), "{text}");
}

#[test]
fn a_trace_that_claims_too_much_is_bounded() {
    let huge = r#""ev":"data","conn":1,"dir":"in","off":[0,18446744073709551615],"len":1"#;
    let open =
        r#""ev":"open","conn":1,"peer":"10.0.0.1:51512","local":"10.0.0.2:7","scheme":"tcp""#;
    let drawn = written(&trace("server", &[&[open][..], &[huge; 3]].concat()));
    assert!(drawn.len() < 4 << 20, "{}", drawn.len());
    capture::read(&drawn[..]).unwrap();
}

proptest! {
    /// Whatever two sides wrote: the bytes, their places and their ends come back.
    #[test]
    fn a_drawn_capture_has_the_bytes_of_the_trace(
        writes in prop::collection::vec((any::<bool>(), 1_usize..5000), 1..20),
    ) {
        let mut lines = vec![
            r#""ev":"open","conn":1,"peer":"10.0.0.1:51512","local":"10.0.0.2:7","scheme":"tcp""#
                .to_owned(),
        ];
        let mut sent = [0, 0];
        let mut expected = [Vec::new(), Vec::new()];
        for (is_up, len) in writes {
            let way = usize::from(is_up);
            let dir = if is_up { "in" } else { "out" };
            let bytes: String = ('a'..='z').cycle().take(len).collect();
            let (from, to) = (sent[way], sent[way] + len);
            lines.push(format!(
                r#""ev":"data","conn":1,"dir":"{dir}","off":[{from},{to}],"len":{len},"text":"{bytes}""#
            ));
            sent[way] = to;
            expected[way].extend(bytes.into_bytes());
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let back = capture::read(&written(&trace("server", &lines))[..]).unwrap();
        let mut found = [Vec::new(), Vec::new()];
        for act in &back.talks[0].acts {
            let Did::Segment { way, off, bytes, again, .. } = &act.did else { unreachable!() };
            let stream = &mut found[usize::from(*way == Way::Up)];
            if !bytes.is_empty() {
                prop_assert_eq!(off.start, stream.len() as u64);
                prop_assert!(!again);
            }
            stream.extend_from_slice(bytes);
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn every_trace_of_the_tests_becomes_a_capture_without_errors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let story = story(&std::fs::read_to_string(&path).unwrap());
        let drawn = written(&story);
        let back = capture::read(&drawn[..]).unwrap();
        assert!(!back.talks.is_empty(), "{}", path.display());
        no_complaint_but_resets(&drawn);
        let mut lines = Vec::new();
        adit_trace::jsonl::write(&story, &mut lines).unwrap();
        let again = read::read(&lines[..]).unwrap();
        assert_eq!(format!("{again:?}"), format!("{story:?}"), "{}", path.display());
    }
}
