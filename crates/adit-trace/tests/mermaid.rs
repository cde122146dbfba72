//! Mermaid diagrams: what happened, and nothing that a peer could make of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use adit_trace::{mermaid, read};
use proptest::prelude::*;

fn drawn(lines: &[&str]) -> String {
    let mut text = r#"{"v":1,"n":0,"t":0,"ev":"trace","role":"server"}"#.to_owned();
    for (n, line) in (1..).zip(lines) {
        text.push_str(&format!("\n{{\"v\":1,\"n\":{n},\"t\":{n}000,{line}}}"));
    }
    mermaid::draw(&read::read(text.as_bytes()).unwrap())
}

const OPEN: &str =
    r#""ev":"open","conn":1,"peer":"127.0.0.1:51512","local":"127.0.0.1:7000","scheme":"tcp""#;

#[test]
fn a_dialogue_is_drawn_as_arrows_between_its_ends() {
    let text = drawn(&[
        OPEN,
        r#""ev":"data","conn":1,"dir":"in","off":[0,6],"len":6,"text":"hello\n""#,
        r#""ev":"data","conn":1,"dir":"out","off":[0,6],"len":6,"text":"HELLO\n""#,
        r#""ev":"half_close","conn":1,"dir":"in""#,
        r#""ev":"close","conn":1,"code":"ok","in":6,"out":6,"dt":3000"#,
    ]);
    assert!(
        text.starts_with("sequenceDiagram\n    participant c1 as client 127.0.0.1#58;51512\n"),
        "{text}"
    );
    assert!(text.contains("    participant s1 as server 127.0.0.1#58;7000\n"), "{text}");
    assert!(text.contains("    c1->>s1: 6 B #34;hello#92;n#34; (1 read)\n"), "{text}");
    assert!(text.contains("    s1->>c1: 6 B #34;HELLO#92;n#34; (1 write)\n"), "{text}");
    assert!(text.contains("    c1--)s1: FIN"), "{text}");
    assert!(text.contains("    Note over s1: close"), "{text}");
}

#[test]
fn an_empty_story_and_a_long_one_are_drawn() {
    let text = mermaid::draw(&adit_trace::Story::default());
    assert!(text.contains("no conversation"), "{text}");
    let line = r#""ev":"data","conn":1,"dir":"in","len":6,"text":"hello\n""#;
    let udp = OPEN.replace("tcp", "udp");
    let text = drawn(&[&[udp.as_str()][..], &vec![line; 3000]].concat());
    assert!(text.len() < 50_000 && text.contains("more rows are not drawn"), "{}", text.len());
}

proptest! {
    #[test]
    fn no_peer_can_write_a_statement_of_its_own(
        words in prop::collection::vec(prop::sample::select(vec![
            "\n", ";", "#", "%%{init: {}}%%", "end", "<b>", "&lt;", "s1->>c1: x", "participant",
            "\u{202e}", "\u{1b}[2J", "é", "\"", "\\", ":", "Note over s1: x", "style a fill:#fff;",
        ]), 0..12),
    ) {
        let bad = words.concat();
        let bad = serde_json::to_string(&bad).unwrap();
        let text = drawn(&[
            &format!(r#""ev":"open","conn":1,"peer":{bad},"local":{bad},"scheme":"tcp""#),
            &format!(r#""ev":"data","conn":1,"dir":"in","len":6,"text":{bad}"#),
            &format!(r#""ev":"error","conn":1,"code":{bad},"text":{bad},"where":{bad}"#),
            &format!(r#""ev":"close","conn":1,"code":{bad},"in":6,"out":6,"dt":3000"#),
        ]);
        let statement = ["participant ", "c1->>s1: ", "s1->>c1: ", "c1-xs1: ", "s1-xc1: ", "Note over "];
        for line in text.lines().skip(1) {
            let line = line.trim_start();
            prop_assert!(statement.iter().any(|it| line.starts_with(it)), "{}", line);
            let mut rest = line;
            while let Some((_, code)) = rest.split_once('#') {
                let (digits, after) = code.split_once(';').unwrap();
                prop_assert!(digits.parse::<u32>().is_ok(), "{}", line);
                rest = after;
            }
            let plain = line.split('#').map(|it| it.split_once(';').map_or(it, |(_, it)| it));
            let plain: String = plain.collect();
            prop_assert!(!plain.contains([';', '<', '&', '%', '\u{202e}', '\u{1b}']), "{}", line);
        }
    }
}
