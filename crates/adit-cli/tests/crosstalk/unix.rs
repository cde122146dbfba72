//! Unix sockets: streams and datagrams, by path and by abstract name.

use crate::common::{Program, Scratch, adit, run, serve};
use crate::peers::{Words, assert_done, is_here, is_measured, listening_on, tool_on};

/// A path and an abstract name of the test's own.
fn names(scratch: &Scratch) -> [String; 2] {
    [scratch.join("socket"), format!("@{}", scratch.join("name"))]
}

/// socat writes an abstract name without the `@`.
fn bare(name: &str) -> &str {
    name.trim_start_matches('@')
}

#[test]
fn their_clients_are_answered_on_a_path_and_on_an_abstract_name() {
    let scratch = Scratch::new();
    let [path, name] = names(&scratch);
    let server = serve(&["upper", &path, &name]);
    let rows: [(Words, &str); 5] = [
        (&["nc", "-NU", "PATH"], &path),
        (&["ncat", "-U", "PATH"], &path),
        (&["socat", "-t30", "-", "UNIX-CONNECT:PATH"], &path),
        (&["nc", "-NU", "PATH"], &name),
        (&["socat", "-t30", "-", "ABSTRACT-CONNECT:PATH"], bare(&name)),
    ];
    for (words, place) in rows.into_iter().filter(|(words, _)| is_here(words[0])) {
        assert_done(&run(&mut tool_on(words, place), b"hello\n"), "HELLO\n", words);
    }
    assert_eq!(server.stop().status, 0);
}

#[test]
fn their_servers_answer_on_a_path_and_on_an_abstract_name() {
    let rows: [(Words, &str); 5] = [
        (&["nc", "-lvNU", "PATH"], "--eof=hold"),
        (&["ncat", "-lvU", "PATH"], "--eof=hold"),
        (&["socat", "-t30", "-d", "-d", "-", "UNIX-LISTEN:PATH"], "--eof=send"),
        (&["nc", "-lvNU", "@PATH"], "--eof=hold"),
        (&["socat", "-t30", "-d", "-d", "-", "ABSTRACT-LISTEN:PATH"], "--eof=send"),
    ];
    for (words, flag) in rows.into_iter().filter(|(words, _)| is_here(words[0])) {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let mut theirs = listening_on(words, &path);
        let is_abstract = words.iter().any(|word| word.contains('@') || word.contains("ABSTRACT"));
        let place = if is_abstract { format!("@{path}") } else { path };
        theirs.write(b"answer\n");
        theirs.end_input();
        run(&mut adit(&[&place, flag]), b"question\n").assert_clean("answer\n");
        assert_done(&theirs.wait(), "question\n", words);
    }
}

#[test]
fn their_datagrams_are_answered_if_they_have_a_name_of_their_own() {
    let scratch = Scratch::new();
    let [path, name] = names(&scratch);
    let datagrams = [&path, &name].map(|place| format!("unix-dgram:{place}"));
    let server = serve(&["upper", &datagrams[0], &datagrams[1]]);
    let own = scratch.join("own");
    let to_path = format!("UNIX-SENDTO:PATH,bind={own}");
    let to_name = format!("ABSTRACT-SENDTO:PATH,bind={own}");
    let rows: [(&[&str], &str); 3] = [
        (&["nc", "-uU", "PATH"], &path),
        (&["socat", "-", &to_path], &path),
        (&["socat", "-", &to_name], bare(&name)),
    ];
    for (words, place) in rows.into_iter().filter(|(words, _)| is_here(words[0])) {
        let mut client = Program::start(&mut tool_on(words, place));
        client.write(b"hello\n");
        client.out.wait_for("HELLO\n");
    }
    assert_eq!(server.stop().status, 0);
}

#[test]
fn their_servers_get_datagrams_of_adit() {
    let rows: [(Words, &str); 4] = [
        (&["nc", "-lvuU", "PATH"], ""),
        (&["ncat", "-lvuU", "PATH"], ""),
        (&["socat", "-d", "-d", "-u", "UNIX-RECV:PATH", "-"], ""),
        (&["socat", "-d", "-d", "-u", "ABSTRACT-RECV:PATH", "-"], "@"),
    ];
    for (words, at) in rows.into_iter().filter(|(words, _)| is_here(words[0])) {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let theirs = listening_on(words, &path);
        let place = format!("unix-dgram:{at}{path}");
        let mut client = Program::start(&mut adit(&[&place, "--send-only"]));
        client.write(b"one\ntwo\n");
        // nc connects to its first peer, and gives up if that is gone.
        assert_eq!(theirs.out.wait_for("two"), "onetwo", "{words:?}");
        client.end_input();
        client.wait().assert_clean("");
    }
}

#[test]
fn a_datagram_server_of_socat_answers_adit() {
    let rows: [(Words, &str); 2] = [
        (&["socat", "-d", "-d", "UNIX-RECVFROM:PATH", "PIPE"], ""),
        (&["socat", "-d", "-d", "ABSTRACT-RECVFROM:PATH", "PIPE"], "@"),
    ];
    for (words, at) in rows.into_iter().filter(|(words, _)| is_here(words[0])) {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        let _theirs = listening_on(words, &path);
        let place = format!("unix-dgram:{at}{path}");
        run(&mut adit(&[&place]), b"hello\n").assert_clean("hello\n");
    }
}

#[test]
fn a_socket_left_behind_is_in_the_way_of_ncat_and_socat() {
    let rows: [(Words, i32); 2] =
        [(&["ncat", "-lU", "PATH"], 2), (&["socat", "-", "UNIX-LISTEN:PATH"], 1)];
    for (words, status) in rows.into_iter().filter(|(words, _)| is_measured(words[0])) {
        let scratch = Scratch::new();
        let path = scratch.join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(run(&mut tool_on(words, &path), b"").status, status, "{words:?}");
        let server = serve(&["upper", &path]);
        run(&mut adit(&[&path]), b"hello\n").assert_clean("HELLO\n");
        assert_eq!(server.stop().status, 0);
    }
}
