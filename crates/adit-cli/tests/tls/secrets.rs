//! Who can see a key: nobody but root into the process, and root no text of it either.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::process::Command;

use rustix::process::Signal;

use crate::common::{
    Authority, Files, Program, Server, descendants, find, guard_of, is_alive, run, signal, skipped,
    wait_until,
};
use crate::serve_tls;

/// Somebody without rights.
const NOBODY: u32 = 65534;

/// A user without rights who has the key of these files, and the words that run something as him; none if
/// that cannot be had here.
fn without_rights(files: &Files) -> Option<(u32, &'static str)> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return Some((own.as_raw(), ""));
    }
    find("setpriv")?;
    chown(&files.key, Some(NOBODY), Some(NOBODY)).unwrap();
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups --";
    let script = format!("{other} '{}' --version", env!("CARGO_BIN_EXE_adit"));
    let probe = run(Command::new("sh").args(["-c", &script]), b"");
    if probe.status != 0 {
        skipped("another user cannot run the command here");
        return None;
    }
    Some((NOBODY, other))
}

fn serve_as(other: &str, words: &[&str]) -> Server {
    Server::start(&format!("exec {other} \"$@\" 3>\"$READY\""), words)
}

/// A client that has had an answer, and goes on.
fn client_as(other: &str, words: &[&str]) -> Program {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("exec {other} \"$@\""),
        "sh",
        env!("CARGO_BIN_EXE_adit"),
        "connect",
    ]);
    let mut client = Program::start(command.args(words));
    client.write(b"on\n");
    client.out.wait_for("on\n");
    client
}

/// Who may look into a process: its user, or root where nobody else may (proc(5), `/proc/pid`).
fn who_sees(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid()
}

#[test]
fn a_server_with_a_key_and_its_guard_are_closed_and_its_programs_are_not() {
    let trust = Authority::new();
    let files = trust.here();
    let Some((user, other)) = without_rights(&files) else { return };
    let program = ["--", "sh", "-c", "setsid sleep 1000 & exec cat"];
    let plain = serve_as(other, &[&["127.0.0.1:0"][..], &program].concat());
    assert_eq!([plain.program.id(), guard_of(&plain)].map(who_sees), [user; 2]);

    let place = format!("tls://127.0.0.1:0,cert={},key={}", files.cert, files.key);
    let server = serve_as(other, &[&[&*place][..], &program].concat());
    let place = format!("tls://localhost:{}", server.tcp().port());
    let _client = client_as("", &[&place, "--ca", &trust.ca]);
    let (own, guard) = (server.program.id(), guard_of(&server));
    // A fork has the key as well.
    assert_eq!([own, guard].map(who_sees), [0; 2]);
    wait_until("both run", || descendants(guard).len() == 2);
    let programs: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    // Between the fork and the exec it is closed still.
    wait_until("programs are open", || programs.iter().all(|pid| who_sees(*pid) == user));
    // The guard sees what it has to end all the same.
    signal(own, Signal::KILL);
    wait_until("all are gone", || ![&programs[..], &[guard]].concat().into_iter().any(is_alive));
}

#[test]
fn a_client_with_a_key_is_closed_and_one_without_is_not() {
    let trust = Authority::new();
    let files = trust.here();
    let Some((user, other)) = without_rights(&files) else { return };
    let place = format!("tls://127.0.0.1:0,cert={},key={}", files.cert, files.key);
    let server = serve_as(other, &["--client-ca", &trust.ca, &place, "--", "cat"]);
    let place = format!("tls://localhost:{}", server.tcp().port());
    let flags = [&place, "--ca", &trust.ca, "--cert", &files.cert, "--key", &files.key];
    assert_eq!(who_sees(client_as(other, &flags).id()), 0);
    let plain = crate::common::serve(&["127.0.0.1:0", "--", "cat"]);
    let place = plain.tcp().to_string();
    assert_eq!(who_sees(client_as(other, &[&place]).id()), user);
}

/// Whether these bytes are in what a process can write of its memory; none if that cannot be seen.
fn holds(pid: u32, wanted: &[u8]) -> Option<bool> {
    let memory = match File::open(format!("/proc/{pid}/mem")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        opened => opened.unwrap(),
    };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let writable = maps.lines().filter(|line| line.contains(" rw-p "));
    let ranges = writable.filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
    });
    let is_in = |(from, to): (u64, u64)| {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some of what has a name has no page: a mapping of a device.
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        let first = wanted[0];
        let found = bytes[..read].iter().enumerate().filter(|(_, byte)| **byte == first);
        found.into_iter().any(|(at, _)| bytes[at..read].starts_with(wanted))
    };
    Some(ranges.into_iter().any(is_in))
}

#[test]
fn no_text_of_a_key_stays_in_memory() {
    let trust = Authority::new();
    let files = trust.here();
    let text = fs::read_to_string(&files.key).unwrap();
    // As only the file has it: the end of one line, and the next.
    let lines: Vec<&str> = text.lines().collect();
    let wanted = format!("{}\n{}", &lines[1][40..], &lines[2][..20]);
    let both = trust.scratch.join("both.pem");
    let certificate = fs::read_to_string(&files.cert).unwrap();
    fs::write(&both, format!("{certificate}{text}")).unwrap();
    fs::set_permissions(&both, fs::Permissions::from_mode(0o600)).unwrap();
    let one = Files { cert: both.clone(), key: both, ..files.clone() };
    for files in [files, one] {
        let server = serve_tls(&files, &["upper", "127.0.0.1:0", "--reload"]);
        let pid = server.program.id();
        // What it was started with is there: it would be found.
        match holds(pid, files.cert.as_bytes()) {
            Some(found) => assert!(found),
            None => return skipped("the memory of another process cannot be read here"),
        }
        assert_eq!(holds(pid, wanted.as_bytes()), Some(false), "read once");
        signal(pid, Signal::HUP);
        server.program.err.wait_for("reloaded  certificate");
        assert_eq!(holds(pid, wanted.as_bytes()), Some(false), "read again");
    }
}
