//! Clients in trouble: names that move, ports that call themselves, answers that are late.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::common::{Program, Scratch, own_ip, read_line, read_to_end, reset, skipped};

/// Row 28: a name means another address by the next try.
#[test]
fn row_28_a_name_that_moves_is_followed_at_the_next_connection() {
    let scratch = Scratch::new();
    let hosts = scratch.join("hosts");
    // A view of the file system of its own, in which the test says what names mean.
    let script = "mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"";
    let in_own_view = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).args(words).env("HOSTS", &hosts);
        command
    };
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    if !in_own_view(&["true"]).output().is_ok_and(|ran| ran.status.success()) {
        return skipped("no file system view of one's own can be made here");
    }
    let (first, second) = (own_ip(), own_ip());
    let old = TcpListener::bind((first, 0)).unwrap();
    let port = old.local_addr().unwrap().port();
    let new = TcpListener::bind((second, port)).unwrap();
    fs::write(&hosts, format!("{first} moving.test\n")).unwrap();
    let place = format!("moving.test:{port}");
    let words = [env!("CARGO_BIN_EXE_adit"), &place, "--retry=1", "--backoff=1ms..10ms"];
    let mut program = Program::start(&mut in_own_view(&words));
    program.write(b"one\n");
    let mut peer = crate::common::accept(&old);
    assert_eq!(read_line(&mut peer), "one\n");
    fs::write(&hosts, format!("{second} moving.test\n")).unwrap();
    reset(peer);
    // One try is all there is.
    let mut peer = crate::common::accept(&new);
    program.write(b"two\n");
    program.end_input();
    assert!(read_to_end(&mut peer).ends_with(b"two\n"));
    drop(peer);
    program.wait();
}
