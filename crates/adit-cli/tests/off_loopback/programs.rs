//! Programs that others can have run: the consent to it, and as whom they run.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::common::{Authority, Program, Ran, descendants, find, run, skipped, wait_until};
use crate::field::{Field, connect, datagrams, far, v4};

const CAT: [&str; 2] = ["--", "cat"];

#[track_caller]
fn assert_unsafe(ran: &Ran, why: &str, words: &[&str]) {
    let is_it = ran.status == 2 && ran.err.contains("(code=unsafe)") && ran.err.contains(why);
    assert!(is_it, "{words:?}: {ran:?}");
}

#[test]
fn no_program_is_open_to_a_network_unless_that_was_said() {
    let test = "programs::no_program_is_open_to_a_network_unless_that_was_said";
    let Some(field) = Field::of(test) else { return };
    let is_root = rustix::process::geteuid().is_root();
    let authority = Authority::new();
    let files = authority.issue("far", &["10.77.0.2"]);
    let tls = ["--cert", &files.cert, "--key", &files.key];
    let knows_all = ["--client-ca", &authority.ca];
    let as_root: &[&str] = if is_root { &["--user=root"] } else { &[] };
    fn serve<'a>(words: &[&'a str], user: &[&'a str]) -> Vec<&'a str> {
        [&["serve"][..], words, user, &CAT].concat()
    }
    let mut refused: Vec<Vec<&str>> = [
        ":7000",
        "udp://:7000",
        "10.77.0.2:7000",
        "udp://10.77.0.2:7000",
        "[fd77::2]:7000",
        "[fe80::2%c0]:7000",
        "[::ffff:10.77.0.2]:7000",
        "[::ffff:0.0.0.0]:7000",
        "*:7000",
        "0.0.0.0:7000",
    ]
    .map(|place| serve(&[place], as_root))
    .into();
    refused.push(serve(&["7000", "udp://10.77.0.2:7001"], as_root));
    refused.push(serve(&[":7000", "--deny=10.0.0.0/8"], as_root));
    refused.push(serve(&[":7000", "--worker"], as_root));
    refused.push(serve(&[":7000", "--fd"], as_root));
    refused.push(serve(&[":7000", "--sandbox"], as_root));
    refused.push(serve(&[&["tls://:7000"], &tls[..]].concat(), as_root));
    refused.push(serve(&[&["tls://:7000", ":7001"], &tls[..], &knows_all].concat(), as_root));
    refused.push(serve(&[&["tls://:7000", "udp://:7001"], &tls[..], &knows_all].concat(), as_root));
    refused.push([&["forward", ":7000", "exec:cat"], as_root].concat());
    refused.push([&["forward", "udp://:7000", "exec:cat", "--worker"], as_root].concat());
    for words in &refused {
        assert_unsafe(&field.run(words), "would be open to everyone", words);
    }
    if is_root {
        for said in [&["--open"][..], &["--allow=10.78.0.0/16"]] {
            let words = [&["serve", ":7000"], said, &CAT].concat();
            assert_unsafe(&field.run(&words), "would run as root for everyone", &words);
        }
    }
    // Who needs a certificate is known.
    let words = [&["tls://:7000"], &tls[..], &knows_all, as_root, &CAT].concat();
    let server = field.serve(&words);
    server.err.wait_for("clients need a certificate");
}

/// Starts it here, with a socket of ours as descriptor 3.
fn passed(socket: &OwnedFd, words: &[&str]) -> Ran {
    let script =
        "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_adit")]).args(words);
    command.stdin(Stdio::from(socket.try_clone().unwrap()));
    Program::start_with_input(&mut command).wait()
}

#[test]
fn no_program_is_behind_a_passed_socket_that_is_open_unless_that_was_said() {
    let test = "programs::no_program_is_behind_a_passed_socket_that_is_open_unless_that_was_said";
    let Some(_field) = Field::of(test) else { return };
    for place in ["0.0.0.0:0", "10.77.0.1:0", "[::]:0", "[fd77::1]:0", "[::ffff:0.0.0.0]:0"] {
        let sockets: [OwnedFd; 2] =
            [TcpListener::bind(place).unwrap().into(), UdpSocket::bind(place).unwrap().into()];
        for socket in &sockets {
            for words in [
                &["serve", "--", "cat"][..],
                &["serve", "systemd:web", "--", "cat"],
                &["serve", "127.0.0.1:0", "fd:3", "--worker", "--", "cat"],
                &["forward", "systemd:web", "exec:cat"],
            ] {
                assert_unsafe(&passed(socket, words), "would be open to everyone", words);
            }
        }
    }
}

/// What the kernel says of who a process is (proc(5)).
fn identity(pid: u32) -> Vec<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let names =
        ["Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapAmb:", "NoNewPrivs:"];
    let of =
        |name: &&str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    names.iter().map(|name| of(name).split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_program_of_a_user_is_that_user_in_every_way_and_for_good() {
    let test = "programs::a_program_of_a_user_is_that_user_in_every_way_and_for_good";
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can run a program as somebody else");
    }
    let Some(field) = Field::of(test) else { return };
    let id = |flag| run(Command::new("id").args([flag, "nobody"]), b"").text().trim().to_owned();
    let (user, group, groups) = (id("-u"), id("-g"), id("-G"));
    let four = |number: &str| [number; 4].join(" ");
    let none = "0000000000000000".to_owned();
    let wanted = [
        four(&user),
        four(&group),
        groups,
        none.clone(),
        none.clone(),
        none.clone(),
        none,
        "1".to_owned(),
    ];
    for (place, flags) in [
        ("tcp://:7000", &[][..]),
        ("tcp://:7000", &["--fd"]),
        ("tcp://:7000", &["--worker"]),
        ("udp://:7000", &[]),
    ] {
        let words = [&[place, "--open", "--user=nobody"], flags, &["--", "sleep", "60"]].concat();
        let server = field.serve(&words);
        let stream = (place != "udp://:7000").then(|| connect(v4(1, 1), 7000));
        let socket = datagrams(v4(1, 1), 0);
        socket.send_to(b"x", far(v4(1, 1), 7000)).unwrap();
        let sleeps = |pid: u32| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x0060\0")
        };
        let program =
            || descendants(server.id()).into_iter().map(|it| it.0).find(|pid| sleeps(*pid));
        wait_until("the program runs", || program().is_some());
        assert_eq!(identity(program().unwrap()), wanted, "{words:?}");
        drop(stream);
    }
    // And what is said of it is no lie: nothing that takes it back works.
    if find("setpriv").is_none() {
        return;
    }
    let tries = "for try in --reuid=0 --regid=0 --groups=0; do \
         setpriv $try true 2>/dev/null && echo way back by $try; done; echo tried";
    let words = ["tcp://:7000", "--open", "--user=nobody", "--", "sh", "-c", tries];
    let _server = field.serve(&words);
    let mut stream = connect(v4(1, 1), 7000);
    stream.write_all(b"\n").unwrap();
    assert_eq!(crate::common::read_to_end(&mut stream), b"tried\n");
}
