//! Every picture as text, against the files in `golden/`; `ADIT_BLESS=1` writes them anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use adit_trace::merge::merge;
use adit_trace::read::read;
use adit_trace::rows::width;
use adit_trace::story::{Act, Did, Seen, Story, Way};
use adit_trace::text::{Live, Names, Options, View, draw};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn lines_of(name: &str) -> String {
    std::fs::read_to_string(folder("traces").join(format!("{name}.jsonl"))).unwrap()
}

fn story(name: &str) -> Story {
    read(lines_of(name).as_bytes()).unwrap()
}

/// The same conversation as both programs tell of it.
fn both(server: &str, client: &str) -> Story {
    merge(story(server), story(client)).unwrap()
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|char| char == '\n' || !adit_proto::escape::is_unsafe(char))
}

fn check(name: &str, view: View, text: &str) {
    for line in text.lines() {
        assert!(width(line) <= 80, "{name} {}: {line}", view.word());
    }
    assert!(is_plain(text), "{name} {}: {text}", view.word());
    let path = folder("golden").join(format!("{name}.{}.txt", view.word()));
    if std::env::var_os("ADIT_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; ADIT_BLESS=1 writes it anew", path.display());
}

fn check_all(name: &str, story: &Story) {
    for view in View::ALL {
        let text = draw(story, view, &Options::default());
        check(name, view, &text);
        assert_eq!(text, draw(&story.clone(), view, &Options::default()), "deterministic");
    }
}

const TRACES: [&str; 7] =
    ["echo_server", "echo_client", "relay_half_close", "reset", "refused", "udp_server", "hostile"];

/// The smallest dialogue with its packets, one of them sent again.
fn on_the_wire() -> Story {
    let mut whole = both("echo_server", "echo_client");
    whole.badge.wire = "exact".to_owned();
    let packet = |at, way, flags: &str, off: std::ops::Range<u64>, again| {
        let (flags, bytes) = (flags.into(), Box::default());
        let did = Did::Segment { way, flags, off, bytes, window: 65_535, again };
        Act { at, n: 0, seen: Seen::Wire, did }
    };
    let acts = &mut whole.talks[0].acts;
    acts.extend([
        packet(500_560_000, Way::Up, "S", 0..0, false),
        packet(500_570_000, Way::Down, "SA", 0..0, false),
        packet(500_580_000, Way::Up, "A", 0..0, false),
        packet(500_860_000, Way::Up, "PA", 0..6, false),
        packet(500_960_000, Way::Up, "PA", 0..6, true),
        packet(501_210_000, Way::Down, "PA", 0..6, false),
        packet(501_365_000, Way::Up, "FA", 6..6, false),
        packet(501_510_000, Way::Down, "FA", 6..6, false),
    ]);
    acts.sort_by_key(|act| act.at);
    whole
}

#[test]
fn every_picture_of_every_trace_is_its_golden_file() {
    for name in TRACES {
        check_all(name, &story(name));
    }
    check_all("echo_both", &both("echo_server", "echo_client"));
    check_all("udp_both", &both("udp_lost_server", "udp_lost_client"));
    check_all("boundaries", &both("boundaries_server", "boundaries_client"));
    check_all("split", &both("split_server", "split_client"));
    check_all("several", &story("several"));
    check_all("echo_wire", &on_the_wire());
}

#[test]
fn the_names_may_be_plain() {
    let story = both("echo_server", "echo_client");
    let mut options = Options::default();
    options.names = Names::Plain;
    for view in View::ALL {
        let text = draw(&story, view, &options);
        for word in ["Socket", "inFrom", "outTo"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn steps_are_the_same_whatever_the_times_ports_and_numbers_of_reads() {
    let one = both("echo_server", "echo_client");
    let mut two = one.clone();
    for program in &mut two.programs {
        program.pid += 1000;
    }
    for (place, act) in two.talks[0].acts.iter_mut().enumerate() {
        act.at = act.at * 3 + 400_000_000 * u64::try_from(place).unwrap();
    }
    two.talks[0].client = "127.0.0.1:33333".to_owned();
    let at = two.talks[0]
        .acts
        .iter()
        .position(|act| matches!(&act.did, Did::Read { way: Way::Up, .. }))
        .unwrap();
    // The read of six bytes is two of three.
    let mut second = two.talks[0].acts[at].clone();
    if let Did::Read { off, bytes, .. } = &mut two.talks[0].acts[at].did {
        *off = 0..3;
        *bytes = bytes[..3].into();
    }
    if let Did::Read { off, bytes, .. } = &mut second.did {
        *off = 3..6;
        *bytes = bytes[3..].into();
    }
    second.at += 1;
    two.talks[0].acts.insert(at + 1, second);
    let draw = |story| draw(story, View::Steps, &Options::default());
    assert_eq!(draw(&one), draw(&two));
}

#[test]
fn steps_are_the_same_whoever_is_faster_to_tell_of_the_close() {
    let mut story = both("echo_server", "echo_client");
    // The close is how the server ends its stream.
    let acts = &mut story.talks[0].acts;
    acts.retain(|act| !matches!(act.did, Did::WriteEnd { way: Way::Down }));
    let is_close = |act: &Act| {
        act.seen == Seen::Server && matches!(act.did, Did::Close { .. } | Did::Over { .. })
    };
    let (closes, others): (Vec<_>, Vec<_>) = acts.drain(..).partition(is_close);
    let read = others.iter().position(|act| matches!(act.did, Did::ReadEnd { way: Way::Down }));
    let mut drawn = Vec::new();
    for place in [read.unwrap(), read.unwrap() + 1, others.len()] {
        let mut acts = others.clone();
        acts.splice(place..place, closes.clone());
        story.talks[0].acts = acts;
        drawn.push(draw(&story, View::Steps, &Options::default()));
    }
    assert!(drawn[0].contains("close connectionSocket"), "{}", drawn[0]);
    assert_eq!(drawn[0], drawn[1]);
    assert_eq!(drawn[0], drawn[2]);
}

#[test]
fn a_program_is_named_only_where_it_had_a_part() {
    let mut story = both("echo_server", "echo_client");
    let mut other = story.talks[0].clone();
    other.number = 2;
    other.client = "127.0.0.1:40000".to_owned();
    other.acts.retain(|act| act.seen == Seen::Server);
    story.talks.push(other);
    let hosts = draw(&story, View::Hosts, &Options::default());
    assert_eq!(hosts.matches("clientSocket x 1").count(), 2, "{hosts}");
    assert!(hosts.contains("program not in this trace: clientSocket x 1"), "{hosts}");
    let layers = draw(&story, View::Layers, &Options::default());
    assert_eq!(layers.matches("program unknown").count(), 1, "{layers}");
}

/// The lines of a live picture, every event followed by its tick.
fn live(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut once, mut ticked) = (Live::new(Options::default()), Live::new(Options::default()));
    let (mut lines, mut with_ticks) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let at = line.split("\"t\":").nth(1).unwrap().split(',').next().unwrap();
        let now = at.parse::<f64>().unwrap() * 1000.0;
        with_ticks.extend(ticked.tick(format!("{now:.0}").parse().unwrap()));
        lines.extend(once.line(line));
        with_ticks.extend(ticked.line(line));
    }
    lines.extend(once.finish());
    with_ticks.extend(ticked.finish());
    (lines, with_ticks)
}

#[test]
fn a_live_picture_is_the_picture_of_the_file() {
    for name in [
        "echo_server",
        "echo_client",
        "relay_half_close",
        "reset",
        "refused",
        "udp_server",
        "hostile",
    ] {
        let (lines, with_ticks) = live(&lines_of(name));
        assert_eq!(lines, with_ticks, "{name}: ticks only make lines come earlier");
        let text = draw(&story(name), View::Sequence, &Options::default());
        let from_file: Vec<&str> = text.lines().take(lines.len()).collect();
        assert_eq!(lines, from_file, "{name}");
    }
}

#[test]
fn a_live_picture_names_the_conversation_where_there_are_several() {
    let (lines, _) = live(&lines_of("several"));
    assert!(lines.iter().any(|line| line.starts_with("  2 ")), "{lines:#?}");
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(at("b\\n") < at("c\\n") && at("c\\n") < at("idle-timeout"), "{lines:#?}");
    assert!(lines.iter().all(|line| width(line) <= 80 && is_plain(line)));
}

#[test]
fn one_conversation_can_be_chosen_and_one_that_is_not_there_is_said() {
    let mut options = Options::default();
    options.talk = Some(2);
    let text = draw(&story("several"), View::Sequence, &options);
    assert!(text.contains("conversation 2") && !text.contains("conversation 1"), "{text}");
    options.talk = Some(77);
    let text = draw(&story("several"), View::Sequence, &options);
    assert!(text.contains("no conversation 77"), "{text}");
}
