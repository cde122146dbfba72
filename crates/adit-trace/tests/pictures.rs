//! Pictures in SVG and HTML: what they are made of, and that nothing a peer sent becomes part of it.
//! `ADIT_BLESS=1` writes the files in `golden/` anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod markup;

use std::fs;
use std::path::{Path, PathBuf};

use adit_trace::story::{Act, Did, Scheme, Seen, Talk, Way};
use adit_trace::text::View;
use adit_trace::{Story, html, read, rules, svg};
use proptest::prelude::*;

const VIEWS: [View; 6] =
    [View::Sequence, View::Steps, View::Ruler, View::Streams, View::Layers, View::Hosts];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn story(name: &str) -> Story {
    let trace = fs::read(folder("traces").join(name)).unwrap();
    read::read(&*trace).unwrap()
}

fn page(story: &Story) -> String {
    html::page(story, &rules::findings(story), &html::Options::default())
}

/// All traces of the folder, and two that no trace of adit tells.
fn stories() -> Vec<(String, Story)> {
    let mut names: Vec<String> = fs::read_dir(folder("traces"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".jsonl"))
        .collect();
    names.sort();
    assert!(names.len() > 2, "{names:?}");
    let read = names.into_iter().map(|name| {
        let story = story(&name);
        (name, story)
    });
    read.chain([("wire".to_owned(), captured()), ("empty".to_owned(), Story::default())]).collect()
}

/// Programs and wire together: a write of 3000 bytes in three segments, one of them sent again.
fn captured() -> Story {
    let mut talk = Talk::default();
    talk.number = 1;
    talk.client = "10.0.0.1:51512".into();
    talk.server = "10.0.0.2:7000".into();
    let segment = |off: std::ops::Range<u64>, flags: &str, again| Did::Segment {
        way: Way::Up,
        flags: flags.into(),
        off,
        bytes: b"abc".as_slice().into(),
        window: 65_535,
        again,
    };
    let bytes: Box<[u8]> = b"abc".as_slice().into();
    let steps = [
        (Seen::Wire, segment(0..0, "S", false)),
        (Seen::Server, Did::Accept { fd: Some(4) }),
        (Seen::Client, Did::Write { way: Way::Up, off: 0..3000, bytes: bytes.clone() }),
        (Seen::Wire, segment(0..1448, "PA", false)),
        (Seen::Wire, segment(1448..2896, "PA", false)),
        (Seen::Wire, segment(1448..2896, "PA", true)),
        (Seen::Wire, segment(2896..3000, "PA", false)),
        (Seen::Server, Did::Read { way: Way::Up, off: 0..3000, bytes }),
        (Seen::Wire, segment(3000..3000, "R", false)),
    ];
    let acts = (0_u64..).zip(steps);
    talk.acts = acts.map(|(n, (seen, did))| Act { at: n * 90_000, n, seen, did }).collect();
    let mut story = Story::default();
    story.talks.push(talk);
    story
}

/// One line up and one down, so often.
fn long(lines: u64) -> Story {
    let mut talk = Talk::default();
    talk.number = 1;
    let bytes: Box<[u8]> = b"0123456789".as_slice().into();
    for line in 0..lines {
        let off = line * 10..line * 10 + 10;
        let at = line * 1_000_000;
        let read = Did::Read { way: Way::Up, off: off.clone(), bytes: bytes.clone() };
        talk.acts.push(Act { at, n: 2 * line, seen: Seen::Server, did: read });
        let write = Did::Write { way: Way::Down, off, bytes: bytes.clone() };
        talk.acts.push(Act { at: at + 1000, n: 2 * line + 1, seen: Seen::Server, did: write });
    }
    let mut story = Story::default();
    story.talks.push(talk);
    story
}

#[test]
fn every_picture_is_well_formed_and_made_of_known_elements() {
    for (name, story) in stories() {
        for view in VIEWS {
            let picture = svg::draw(&story, view, &svg::Options::default());
            let texts = markup::check(&picture, &markup::SVG);
            let texts = texts.unwrap_or_else(|error| panic!("{name}, {view:?}: {error}"));
            assert!(!texts.is_empty());
        }
        markup::check(&page(&story), &markup::HTML)
            .unwrap_or_else(|error| panic!("page of {name}: {error}"));
    }
}

#[test]
fn small_traces_give_the_golden_pictures() {
    for name in ["pictures_tcp", "pictures_udp"] {
        for view in [View::Sequence, View::Ruler] {
            let picture =
                svg::draw(&story(&format!("{name}.jsonl")), view, &svg::Options::default());
            let path = folder("golden").join(format!("{name}.{}.svg", view.word()));
            if std::env::var_os("ADIT_BLESS").is_some() {
                fs::write(&path, &picture).unwrap();
            }
            let golden = fs::read_to_string(&path).unwrap_or_default();
            assert!(picture == golden, "{} differs; ADIT_BLESS=1 writes it anew", path.display());
        }
    }
}

#[test]
fn equal_stories_give_equal_bytes() {
    for (name, story) in stories() {
        for view in VIEWS {
            let draw = || svg::draw(&story.clone(), view, &svg::Options::default());
            assert!(draw() == draw(), "{name}, {view:?}");
        }
        assert!(page(&story) == page(&story.clone()), "{name}");
    }
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    for (name, story) in stories() {
        let mut all: Vec<String> =
            VIEWS.iter().map(|view| svg::draw(&story, *view, &svg::Options::default())).collect();
        all.push(page(&story));
        for text in all {
            let text = text.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
            for word in ["http:", "https:", "//fonts", "@import", "url(", "src=", "xlink", "<link"]
            {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }
}

#[test]
fn what_a_peer_sent_is_text_in_a_page_and_cannot_end_its_data() {
    let page = page(&story("hostile.jsonl"));
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    assert!(data.is_ascii() && !data.contains(['<', '>', '&']));
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert!(!data["talks"].as_object().unwrap().is_empty());
}

#[test]
fn the_policy_of_a_page_lets_its_own_script_run_and_no_other() {
    let page = page(&Story::default());
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let mut hash = String::new();
    adit_proto::json::base64(&sha256(script.as_bytes()), &mut hash);
    assert!(page.contains("default-src 'none'"));
    let policy = format!("script-src 'sha256-{hash}'");
    assert!(page.contains(&policy), "the script has changed: SCRIPT_HASH is sha256-{hash}");
    assert!(!script.contains("innerHTML") && !script.contains("eval("));
}

#[test]
fn a_long_conversation_gets_an_overview_and_a_window() {
    let story = long(4000);
    let options = svg::Options::default();
    let picture = svg::draw(&story, View::Sequence, &options);
    assert!(picture.contains("Overview: 8000 rows, 2000 of them are drawn"), "no overview");
    assert!(picture.contains("6000 rows are not drawn here"));
    assert_eq!(picture.matches("class=\"row\"").count(), 2000);
    let mut window = options.clone();
    window.first_row = Some(5000);
    window.rows_max = 100;
    let picture = svg::draw(&story, View::Sequence, &window);
    assert!(picture.contains("5000 rows are not drawn here"));
    assert!(picture.contains("2900 rows are not drawn here"));
    let ruler = svg::draw(&story, View::Ruler, &options);
    assert!(ruler.len() < 60_000, "{} bytes", ruler.len());
    let page = page(&story);
    assert!(page.len() < 1_400_000, "{} bytes", page.len());
    assert!(page.contains("7000 rows are not drawn here"));
}

#[test]
fn many_conversations_are_listed_and_those_in_trouble_are_drawn() {
    let mut story = Story::default();
    for number in 1..=1500 {
        let mut talk = long(1).talks.remove(0);
        talk.number = number;
        if number == 777 {
            let did = Did::Lost { code: "reset".into(), unconfirmed: 5 };
            talk.acts.push(Act { at: 9, n: 9, seen: Seen::Server, did });
        }
        story.talks.push(talk);
    }
    let page = page(&story);
    assert_eq!(page.matches("<article").count(), 20);
    assert!(page.contains("id=\"talk-777\""));
    assert!(page.contains("500 more conversations are not listed."));
    let picture = svg::draw(&story, View::Hosts, &svg::Options::default());
    assert!(picture.len() < 60_000, "{} bytes", picture.len());
}

/// Where every text of a picture begins and ends, by the width of the widest usual faces.
fn spans(picture: &str) -> Vec<(f64, f64, String)> {
    let texts = markup::check(picture, &markup::SVG).unwrap();
    let span = |(attributes, text): markup::Text| {
        let of = |name: &str| {
            attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let advance = match of("class").unwrap().split(' ').next().unwrap() {
            "c" => 7.2,
            "y" => 6.02,
            _ => 5.0,
        };
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&#39;", "'")
            .replace("&amp;", "&");
        let width = advance * f64::from(u32::try_from(text.chars().count()).unwrap());
        let x: f64 = of("x").unwrap().parse().unwrap();
        match of("text-anchor") {
            None => (x, x + width, text),
            Some("middle") => (x - width / 2.0, x + width / 2.0, text),
            Some(_) => (x - width, x, text),
        }
    };
    texts.into_iter().map(span).collect()
}

#[test]
fn no_text_runs_out_of_its_picture() {
    for (name, story) in stories() {
        for view in VIEWS {
            let picture = svg::draw(&story, view, &svg::Options::default());
            for (from, to, text) in spans(&picture) {
                assert!(from >= 0.0 && to <= 960.0, "{name}, {view:?}: {text} {from} to {to}");
            }
        }
    }
}

fn any_did() -> impl Strategy<Value = Did> {
    let way = prop_oneof![Just(Way::Up), Just(Way::Down)];
    let bytes = prop::collection::vec(any::<u8>(), 0..80).prop_map(Vec::into_boxed_slice);
    let word = || any::<String>().prop_map(String::into_boxed_str);
    let off = (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(one, other, is_small)| {
        let most = if is_small { 300 } else { u64::MAX };
        let (one, other) = (one % most, other % most);
        one.min(other)..one.max(other)
    });
    prop_oneof![
        (way.clone(), off.clone(), bytes.clone()).prop_map(|(way, off, bytes)| Did::Read {
            way,
            off,
            bytes
        }),
        (way.clone(), off, bytes.clone()).prop_map(|(way, off, bytes)| Did::Write {
            way,
            off,
            bytes
        }),
        (way.clone(), 0_u64..9, 0_u64..99, bytes.clone())
            .prop_map(|(way, msg, len, bytes)| Did::Send { way, msg, len, bytes }),
        (way, 0_u64..9, any::<u64>(), bytes).prop_map(|(way, msg, len, bytes)| Did::Receive {
            way,
            msg,
            len,
            bytes
        }),
        (word(), word(), word()).prop_map(|(code, text, place)| Did::Error { code, text, place }),
        (word(), any::<u64>()).prop_map(|(code, unconfirmed)| Did::Lost { code, unconfirmed }),
        (word(), any::<u64>()).prop_map(|(code, took)| Did::Over {
            code,
            bytes_in: (took % 3 != 0).then_some(took),
            bytes_out: (took % 5 != 0).then_some(1),
            took
        }),
        word().prop_map(|addr| Did::Connect { fd: Some(-1), addr, took: None, code: None }),
        Just(Did::Close { fd: Some(3) }),
        (word(), any::<u64>(), any::<bool>()).prop_map(|(flags, from, again)| Did::Segment {
            way: Way::Down,
            flags,
            off: from..from.saturating_add(1448),
            bytes: Box::default(),
            window: from,
            again,
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_pictures_are_whole(
        dids in prop::collection::vec((any_did(), 0_usize..5, any::<u32>()), 0..12),
        (client, server, name) in (any::<String>(), any::<String>(), any::<String>()),
        is_datagram in any::<bool>(),
    ) {
        let seen =
            [Seen::Client, Seen::Server, Seen::RelayToClient, Seen::RelayToServer, Seen::Wire];
        let mut talk = Talk::default();
        talk.number = 1;
        talk.scheme = if is_datagram { Scheme::Udp } else { Scheme::Tcp };
        (talk.client, talk.server) = (client, server);
        let mut at = 0;
        for (did, who, later) in dids {
            at += u64::from(later);
            talk.acts.push(Act { at, n: 0, seen: seen[who], did });
        }
        let mut story = Story::default();
        story.start.clone_from(&name);
        story.badge.calls.clone_from(&name);
        story.notes.push(name);
        story.talks.push(talk);
        for view in VIEWS {
            let picture = svg::draw(&story, view, &svg::Options::default());
            for (from, to, text) in spans(&picture) {
                prop_assert!(from >= 0.0 && to <= 960.0, "{view:?}: {text} {from} to {to}");
            }
        }
        let page = page(&story);
        prop_assert_eq!(markup::check(&page, &markup::HTML).err(), None);
    }
}

/// SHA-256 (FIPS 180-4), to check the hash in the page's policy against the script itself.
fn sha256(message: &[u8]) -> [u8; 32] {
    let primes = (2_u32..).filter(|n| (2..*n).all(|m| n % m != 0)).take(64);
    let primes: Vec<f64> = primes.map(f64::from).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "fraction bits")]
    let bits = |root: f64| (root.fract() * 4_294_967_296.0) as u32;
    let k: Vec<u32> = primes.iter().map(|prime| bits(prime.cbrt())).collect();
    let mut h: Vec<u32> = primes.iter().take(8).map(|prime| bits(prime.sqrt())).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend((u64::try_from(message.len()).unwrap() * 8).to_be_bytes());
    for chunk in padded.chunks(64) {
        let words = chunk.chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap()));
        let mut w: Vec<u32> = words.collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let one = v[7].wrapping_add(s1).wrapping_add(choice);
            let one = one.wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(one);
            v[0] = one.wrapping_add(s0).wrapping_add(majority);
        }
        for (sum, word) in h.iter_mut().zip(&v) {
            *sum = sum.wrapping_add(*word);
        }
    }
    let bytes: Vec<u8> = h.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.try_into().unwrap()
}
