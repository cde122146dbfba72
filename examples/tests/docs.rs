//! What the documents say about programs: every snippet is one that the tests compile or run, every
//! program has the lecture's names and fits on a page, and the short server is the same everywhere.

mod common;

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};

use common::root;

/// A program fits on a page.
const LINES_MAX: usize = 40;

/// The lecture's names in Rust's spelling, and the programs they stand in.
const NAMES: [(&str, &[&str]); 9] = [
    ("std_tcp_server", &["welcome_socket", "connection_socket"]),
    ("std_tcp_server_concurrent", &["welcome_socket", "connection_socket"]),
    ("std_tcp_client", &["client_socket", "in_from_user", "out_to_server", "in_from_server"]),
    ("std_udp_server", &["server_socket", "receive_packet", "send_packet"]),
    ("std_udp_client", &["client_socket", "in_from_user", "send_packet", "receive_packet"]),
    ("adit_server", &["welcome_socket", "connection_socket", "server_socket"]),
    ("adit_tcp_client", &["client_socket", "in_from_user", "out_to_server", "in_from_server"]),
    ("adit_udp_client", &["client_socket", "in_from_user", "send_packet", "receive_packet"]),
    ("adit_file_stream", &["connection_socket"]),
];

/// A fenced block of a document: the line before it, what stands behind the fence, its text.
struct Block {
    before: String,
    info: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut lines, mut before) = (document.lines(), "");
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let (before, info) = (before.to_owned(), info.to_owned());
            blocks.push(Block { before, info, text: text.join("\n") });
        }
        before = line;
    }
    blocks
}

fn read(path: &str) -> String {
    read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of all programs and their texts.
fn programs() -> Vec<(String, String)> {
    let files = read_dir(root().join("examples/src/bin")).unwrap();
    let mut programs: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, read_to_string(path).unwrap())
        })
        .collect();
    programs.sort();
    programs
}

fn is_marker(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("// region: ") || line == "// endregion"
}

/// The part of a program between `// region: name` and its `// endregion`; regions may be nested.
fn region(program: &str, name: &str) -> String {
    let mut open = Vec::new();
    let mut lines = Vec::new();
    for line in program.lines() {
        match line.trim_start().strip_prefix("// region: ") {
            Some(region) => open.push(region),
            None if is_marker(line) => drop(open.pop().expect("a region is open")),
            None if open.contains(&name) => lines.push(line),
            None => {}
        }
    }
    assert!(open.is_empty() && !lines.is_empty(), "no region {name}, or one without an end");
    lines.join("\n")
}

/// The server of the documents, made of the program: with its addresses, and without an observer.
fn server_in_five_lines() -> String {
    let body = region(&read("examples/src/bin/adit_server.rs"), "server")
        .replace("welcome_socket", "\"tcp://127.0.0.1:7000\"")
        .replace("server_socket", "\"udp://127.0.0.1:7000\"")
        .replace("\n        .on_event(announce)", "");
    format!("use adit::prelude::*;\n\nfn main() -> adit::Result {{\n{body}\n}}")
}

#[test]
fn every_snippet_of_the_guide_is_run_or_stands_in_a_program() {
    let guide = blocks(&read("docs/guide.md"));
    assert!(guide.len() > 20);
    for Block { before, info, text } in &guide {
        let source = before.strip_prefix("<!-- ").and_then(|before| before.strip_suffix(" -->"));
        match (info.as_str(), source.and_then(|source| source.split_once(": "))) {
            // Compiled and run by `cargo test --doc`.
            ("rust", None) => assert!(text.contains("fn main()"), "not a whole program:\n{text}"),
            ("rust,no_run", Some((_, "server, in five lines"))) => {
                assert_eq!(*text, server_in_five_lines());
            }
            ("rust,no_run", Some((path, name))) => {
                assert_eq!(*text, region(&read(path), name), "{path}: {name}");
            }
            ("sh", None) => {}
            // A picture of a real run.
            ("text", None) => {
                assert!(text.starts_with("$ ") && text.contains("adit "), "no picture:\n{text}");
            }
            _ => panic!("a block of the guide that nobody tests: {info} {before}\n{text}"),
        }
    }
}

#[test]
fn what_the_documents_show_of_a_terminal_fits_on_one() {
    for path in ["docs/guide.md", "README.md"] {
        let document = blocks(&read(path));
        for Block { text, .. } in document.iter().filter(|block| block.info == "text") {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{path}: {line}");
            }
        }
    }
}

#[test]
fn every_program_is_in_the_guide_and_every_program_in_the_documents_exists() {
    let programs: BTreeSet<_> = programs().into_iter().map(|(name, _)| name).collect();
    let guide = read("docs/guide.md");
    for name in &programs {
        assert!(guide.contains(&format!("{name}.rs")), "{name} is not in the guide");
    }
    for path in ["docs/guide.md", "docs/lecture.md", "README.md"] {
        // The other documents may be absent.
        let document = read_to_string(root().join(path)).unwrap_or_default();
        for command in document.lines().filter_map(|line| line.split_once("-p examples --bin ")) {
            let name = command.1.split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
            assert!(programs.contains(name.unwrap()), "{path}: {}", command.1);
        }
    }
}

#[test]
fn the_short_server_is_the_same_in_every_document_and_in_the_program() {
    let server = server_in_five_lines();
    let library = read("crates/adit/src/lib.rs");
    let library: Vec<_> = library
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let mut found = 0;
    for document in [library.join("\n"), read("docs/guide.md"), read("README.md")] {
        for Block { text, .. } in blocks(&document) {
            // A server that its reader may type first: it runs until it is stopped.
            if text.contains("Server::new(upper)") && text.contains(".run()") {
                let is_program =
                    text == region(&read("examples/src/bin/adit_server.rs"), "program");
                assert!(is_program || text == server, "another server:\n{text}\n\n{server}");
                found += usize::from(text == server);
            }
        }
    }
    assert!(found >= 3, "in the library's own page, in the guide and in the README");
}

#[test]
fn the_short_client_of_the_readme_is_the_program() {
    let program = region(&read("examples/src/bin/adit_client.rs"), "program");
    let is_argument = |line: &&str| !line.contains("std::env::args()");
    let program: Vec<_> = program.lines().filter(is_argument).collect();
    let client = program.join("\n").replace("(address)", "(\"udp://127.0.0.1:7000\")");
    let readme = blocks(&read("README.md"));
    let mut clients = readme.iter().filter(|block| block.text.contains("BlockingClient"));
    assert_eq!(clients.next().map(|block| &block.text), Some(&client));
    assert!(clients.next().is_none());
}

#[test]
fn every_program_fits_on_a_page_and_says_how_it_is_started() {
    for (name, text) in programs() {
        let lines = text.lines().filter(|line| !is_marker(line)).count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines");
        let start = format!("cargo run -p examples --bin {name}");
        let says = |line: &str| line.starts_with("//! `") && line.contains(&start);
        assert!(text.lines().any(says), "{name} does not say {start}");
    }
}

#[test]
fn the_lectures_names_stand_in_its_programs() {
    let programs = programs();
    for (name, words) in NAMES {
        let (_, text) = programs.iter().find(|(program, _)| program == name).expect(name);
        let found: BTreeSet<_> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        for word in words {
            assert!(found.contains(word), "{name} has no {word}");
        }
    }
}

#[test]
fn every_code_in_the_guide_is_one() {
    let guide = read("docs/guide.md");
    let (_, table) = guide.split_once("| code | what happened |\n|---|---|\n").unwrap();
    let rows: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let codes = row.split('|').nth(1).unwrap();
        for word in codes.split('`').skip(1).step_by(2) {
            assert!(adit::Code::ALL.iter().any(|code| code.word() == word), "{word}");
        }
    }
}

#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let guide = read("docs/guide.md");
    let headings: BTreeSet<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-"))
        .map(|line| line.replace(|c: char| !(c.is_alphanumeric() || c == '-'), ""))
        .collect();
    let links = guide.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    for (link, _) in links {
        match link.strip_prefix('#') {
            Some(heading) => assert!(headings.contains(heading), "{link}: {headings:?}"),
            None => assert!(root().join("docs").join(link).exists(), "{link}"),
        }
    }
}
