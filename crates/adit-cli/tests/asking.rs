//! What is asked for in other ways: pictures into files and from pipes, help, errors for programs, and
//! addresses that need no look-up.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;

use common::{Program, Scratch, adit, run, serve, skipped};

/// A trace of one conversation, in a file of this folder.
fn record(scratch: &Scratch) -> String {
    let path = scratch.join("trace.jsonl");
    let server = serve(&["upper", "127.0.0.1:0"]);
    let words = [server.place("tcp"), "--payload=64", "--trace", &path];
    run(&mut adit(&words), b"hello\n").assert_clean("HELLO\n");
    path
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_picture_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_else() {
    let scratch = Scratch::new();
    let trace = record(&scratch);
    let picture = scratch.join("picture.html");
    // The page is larger than any file may be here.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    for old in [None, Some("old")] {
        if let Some(old) = old {
            std::fs::write(&picture, old).unwrap();
        }
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_adit")]);
        let ran = run(command.args(["explain", &trace, "--out", &picture]), b"");
        assert!(ran.status != 0 && ran.err.contains("cannot write"), "{ran:?}");
        assert_eq!(std::fs::read_to_string(&picture).ok().as_deref(), old);
        assert_eq!(files(scratch.path()).len(), 1 + usize::from(old.is_some()));
    }
    run(&mut adit(&["explain", &trace, "--out", &picture, "--quiet"]), b"");
    assert!(std::fs::read_to_string(&picture).unwrap().ends_with("</html>\n"));
    assert_eq!(files(scratch.path()).len(), 2);
}

#[test]
fn a_trace_is_read_from_standard_input_and_from_a_pipe_with_a_name() {
    let scratch = Scratch::new();
    let trace = record(&scratch);
    let drawn = run(&mut adit(&["explain", &trace]), b"");
    assert_eq!(drawn.status, 0, "{}", drawn.err);
    let text = std::fs::read(&trace).unwrap();
    let piped = run(&mut adit(&["explain", "/dev/stdin"]), &text);
    assert_eq!((piped.status, piped.text(), piped.err), (0, drawn.text(), String::new()));

    let pipe = scratch.join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut program = Program::start(&mut adit(&["explain", &pipe]));
    // It waits for the reader.
    std::fs::write(&pipe, &text).unwrap();
    let named = program.wait();
    assert_eq!((named.status, named.text(), named.err), (0, drawn.text(), String::new()));

    // A capture is known by its first bytes, of which a pipe has only one copy.
    let capture = scratch.join("capture.pcapng");
    run(&mut adit(&["explain", &trace, "--out", &capture, "--quiet"]), b"");
    let drawn = run(&mut adit(&["explain", &capture]), b"");
    let piped = run(&mut adit(&["explain", "/dev/stdin"]), &std::fs::read(&capture).unwrap());
    assert_eq!((piped.status, piped.text()), (0, drawn.text()));
    run(&mut adit(&["explain", "/dev/stdin"]), b"no trace").assert_failed(2, "usage");
    run(&mut adit(&["explain", "/dev/null"]), b"").assert_failed(2, "usage");
}

#[test]
fn a_socket_in_the_file_system_is_an_address_and_no_file() {
    let scratch = Scratch::new();
    let path = scratch.join("socket");
    let _server = serve(&["echo", &path]);
    let ran = run(&mut adit(&["explain", &path]), b"");
    ran.assert_failed(2, "usage");
    assert!(ran.err.contains("needs a target"), "{}", ran.err);
}

#[test]
fn help_on_a_command_is_the_help_of_that_command() {
    for verb in ["connect", "serve", "forward", "explain", "wait", "demo", "completions"] {
        let (help, own) =
            (run(&mut adit(&["help", verb]), b""), run(&mut adit(&[verb, "--help"]), b""));
        assert_eq!((help.status, help.err.as_str()), (0, ""), "{verb}");
        assert!(help.text().contains(&format!("Usage: adit {verb}")), "{}", help.text());
        assert_eq!(help.text(), own.text());
    }
}

#[test]
fn an_error_of_the_command_line_is_an_event_where_events_are_asked_for() {
    let rows: [(&[&str], bool); 7] = [
        (&["serve", "--json", "--bogus", "0"], false),
        (&["--json", "host", "80", "-q", "1"], false),
        (&["127.0.0.1:1", "--json=stdout", "--retyr", "1"], true),
        (&["forward", "0", "--json", "--max-conns=0"], true),
        (&["explain", "--json", "--view", "none", "0"], true),
        (&["wait", "--json"], true),
        (&["-l", "-p", "7000", "--json"], false),
    ];
    for (words, on_stdout) in rows {
        let ran = run(&mut adit(words), b"");
        let (said, other) =
            if on_stdout { (ran.text(), ran.err) } else { (ran.err.clone(), ran.text()) };
        assert_eq!((ran.status, other.as_str()), (2, ""), "{words:?}");
        let events: Vec<Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [header, error] = &events[..] else { unreachable!("{words:?}: {said}") };
        assert_eq!((&header["ev"], &error["ev"]), (&"trace".into(), &"error".into()));
        assert_eq!((&error["code"], &error["fatal"]), (&"usage".into(), &true.into()));
    }
    // Behind two dashes it is no flag.
    let ran = run(&mut adit(&["wait", "--", "--json"]), b"");
    assert!(ran.err.starts_with("adit: "), "{ran:?}");
}

#[test]
fn a_note_on_a_habit_is_no_line_among_events() {
    let ran = run(&mut adit(&["-k", "--json", "127.0.0.1:1", "-w", "5s"]), b"");
    assert!(ran.err.lines().all(|line| line.starts_with('{')), "{}", ran.err);
}

/// An address of this host's that holds only on one of its interfaces, with the interface's name.
fn link_local() -> Option<String> {
    let all = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let line = all.lines().find(|line| line.starts_with("fe80"))?;
    let fields: Vec<_> = line.split_whitespace().collect();
    let ip = u128::from_str_radix(fields[0], 16).unwrap();
    Some(format!("[{}%{}]", std::net::Ipv6Addr::from(ip), fields[5]))
}

#[test]
fn an_interface_by_name_is_no_name_that_has_to_be_looked_up() {
    for words in
        [&["-n", "[fe80::1%lo]:9", "-w", "5s"][..], &["serve", "echo", "-n", "[fe80::1%lo]:0"]]
    {
        let ran = run(adit(words).stdin(Stdio::null()), b"");
        assert!(ran.status == 1 && !ran.err.contains("is a name"), "{words:?}: {ran:?}");
    }
    run(&mut adit(&["-n", "localhost:9"]), b"").assert_failed(1, "name");
    let Some(place) = link_local() else { return skipped("no interface has a link-local address") };
    let server = serve(&["echo", "-n", &format!("{place}:0")]);
    let port = server.lines[0].rsplit(':').next().unwrap();
    run(&mut adit(&["-n", &format!("{place}:{port}")]), b"hello\n").assert_clean("hello\n");
}
