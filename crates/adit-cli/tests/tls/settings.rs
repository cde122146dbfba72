//! Files and flags that do not fit, what is said of those that do, and what is never said.

use std::os::unix::fs::PermissionsExt;

use crate::common::{Authority, Files, Server, adit, no_port, run};
use crate::serve_tls;

#[test]
fn files_that_cannot_be_used_end_the_command_before_it_begins() {
    let trust = Authority::new();
    let (here, other) = (trust.here(), trust.issue("other", &["localhost"]));
    let missing = trust.scratch.join("missing.pem");
    let everybodys = trust.scratch.join("everybodys.key");
    std::fs::copy(&here.key, &everybodys).unwrap();
    std::fs::set_permissions(&everybodys, PermissionsExt::from_mode(0o644)).unwrap();
    let Files { cert, key, .. } = &here;
    let rows = [
        ([cert, &missing], "no such file"),
        ([&missing, key], "no such file"),
        ([cert, &other.key], "does not belong to the certificate"),
        ([cert, &everybodys], "is open to everybody (mode 644) (code=config); chmod 600"),
        ([cert, cert], "is open to everybody"),
        ([key, key], "no certificate in it"),
    ];
    for ([cert, key], said) in rows {
        let words = ["serve", "echo", "127.0.0.1:0", "--tls", "--cert", cert, "--key", key];
        let ran = run(&mut adit(&words), b"");
        ran.assert_failed(2, "config");
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
        assert!(!ran.err.contains("listening"), "{}", ran.err);
    }
    // Nobody is called, and nobody who comes is kept waiting, for what cannot work.
    let (_socket, nobody) = no_port();
    let target = format!("tls://{nobody}");
    let commands: [&[&str]; 4] = [
        &["connect", &target, "--retry=forever"],
        &["wait", &target],
        &["forward", "127.0.0.1:0", &target],
        &["explain", "127.0.0.1:0", &target],
    ];
    for words in commands {
        let ran = run(&mut adit(&[words, &["--ca", &missing]].concat()), b"");
        ran.assert_failed(2, "config");
        let said =
            format!("adit: cannot read {missing}: no such file or directory (code=config)\n");
        assert_eq!(ran.err, said);
    }
    let words = ["serve", "echo", "127.0.0.1:0", "--tls=auto", "--cert", cert, "--key", key];
    run(&mut adit(&words), b"").assert_failed(2, "usage");
}

#[test]
fn a_protocol_is_agreed_on_and_what_was_settled_is_told_to_who_asks() {
    let trust = Authority::new();
    let here = trust.here();
    let server = serve_tls(&here, &["upper", "127.0.0.1:0", "--alpn", "one+two", "-v"]);
    let place = format!("tls://localhost:{}", server.tcp().port());
    let ran = run(&mut adit(&[&place, "--ca", &trust.ca, "--alpn", "two", "-v"]), b"hello\n");
    assert_eq!((ran.status, ran.text().as_str()), (0, "HELLO\n"));
    let settled = format!(", two, certificate sha256:{}\n", here.sha256);
    assert!(
        ran.err.contains(", TLS 1.3, TLS_AES_256_GCM_SHA384, ") && ran.err.contains(&settled),
        "{}",
        ran.err
    );
    let ran = run(&mut adit(&[&place, "--ca", &trust.ca, "--alpn", "three"]), b"hello\n");
    ran.assert_failed(1, "tls-alert");
}

#[test]
fn nothing_of_a_key_is_in_events_traces_or_logs() {
    let trust = Authority::new();
    let here = trust.here();
    let (theirs, ours) = (trust.scratch.join("server.jsonl"), trust.scratch.join("client.jsonl"));
    let watching = [
        "upper",
        "127.0.0.1:0",
        "-v",
        "--json",
        "--steps",
        "--once",
        "--payload=64",
        "--trace",
        &theirs,
    ];
    let mut server = serve_tls(&here, &watching);
    let place = format!("tls://localhost:{}", server.tcp().port());
    let Files { cert, key, .. } = &here;
    let words = [
        &*place,
        "--ca",
        &trust.ca,
        "--cert",
        cert,
        "--key",
        key,
        "--json",
        "--payload=64",
        "--trace",
        &ours,
    ];
    let ran = run(&mut adit(&words), b"hello\n");
    assert_eq!(ran.status, 0, "{ran:?}");
    let told = server.program.wait();
    assert_eq!(told.status, 0, "{told:?}");
    let files = [&theirs, &ours].map(|file| std::fs::read_to_string(file).unwrap());
    assert!(files.iter().all(|file| file.contains("\"tls\":\"1.3\"")), "{files:?}");
    // The plain text is there, which is what a trace is for.
    assert!(files.iter().all(|file| file.contains("HELLO")), "{files:?}");
    let secret = std::fs::read_to_string(key).unwrap();
    for line in secret.lines().filter(|line| !line.starts_with("-----")) {
        let part = &line[..20];
        for text in [&told.err, &ran.err, &files[0], &files[1]] {
            assert!(!text.contains(part));
        }
    }
}

#[test]
fn a_relay_takes_tls_off_and_is_drawn_with_what_was_said() {
    let trust = Authority::new();
    let here = trust.here();
    let target = crate::common::serve(&["upper", "127.0.0.1:0"]);
    let listen = format!("tls://127.0.0.1:0,cert={},key={}", here.cert, here.key);
    let words = ["explain", "--ready-fd=3", &listen, target.place("tcp"), "--once"];
    let mut relay = Server::start_as("exec \"$@\" 3>\"$READY\"", &words);
    let place = format!("tls://localhost:{}", relay.tcp().port());
    run(&mut adit(&[&place, "--ca", &trust.ca]), b"a question\n").assert_clean("A QUESTION\n");
    let ran = relay.program.wait();
    assert_eq!(ran.status, 0, "{ran:?}");
    for said in ["a question", "A QUESTION"] {
        assert!(ran.text().contains(said), "{}", ran.text());
    }
}
