//! What a program can and cannot do behind `--sandbox`, and that one without its sandbox does not run.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use rustix::process::Signal;

use common::{
    Scratch, Server, ask, client, descendants, find, guard_of, is_alive, read_line, read_to_end,
    signal, skipped, wait_until,
};

/// A server in a folder of its own, which its programs may write.
fn serve_in(folder: &str, words: &[&str]) -> Server {
    let script = format!("cd '{folder}' && exec \"$@\" 3>\"$READY\"");
    Server::start(&script, words)
}

/// The line about the sandbox; nothing, and said, where the kernel has no part of it.
fn policy(server: &Server, wanted: &str) -> Option<String> {
    let said = server.program.err.wait_for("\nlistening");
    let policy = said.lines().find_map(|line| line.strip_prefix("sandbox: ")).unwrap().to_owned();
    if !policy.contains(wanted) {
        skipped(&format!("the kernel does not do that: {policy}"));
        return None;
    }
    Some(policy)
}

#[test]
fn a_program_reads_what_it_needs_and_writes_its_folder_and_nothing_else() {
    let (inside, outside) = (Scratch::new(), Scratch::new());
    let program = inside.join("probe");
    let script = "#!/bin/sh\n\
        yes() { \"$@\" >/dev/null 2>&1 && echo \"yes: $*\" || echo \"no: $*\"; }\n\
        yes cat /etc/passwd; yes ls /etc/ssl; yes ls /; yes ls /proc/1; yes cat \"$1/secret\"\n\
        yes sh -c 'echo x > made'; yes cat made; yes mkdir sub; yes rm made\n\
        yes touch \"$1/new\"; yes rm \"$1/secret\"; yes sh -c 'echo x > /dev/null'\n\
        cp /bin/true ./true; chmod +x ./true; yes ./true\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let away = outside.path().to_str().unwrap();
    let folder = inside.path().to_str().unwrap();
    let server = serve_in(folder, &["--sandbox", "127.0.0.1:0", "--", "./probe", away]);
    let Some(policy) = policy(&server, "Landlock ") else { return };
    assert!(policy.contains(&format!(" and itself, writes /dev/null {folder}; ")), "{policy}");
    let expected = format!(
        "no: cat /etc/passwd\nyes: ls /etc/ssl\nno: ls /\nno: ls /proc/1\nno: cat {away}/secret\n\
         yes: sh -c echo x > made\nyes: cat made\nyes: mkdir sub\nyes: rm made\n\
         no: touch {away}/new\nno: rm {away}/secret\nyes: sh -c echo x > /dev/null\nno: ./true\n"
    );
    assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), expected);
}

#[test]
fn the_limits_are_those_that_were_said() {
    let report =
        "ulimit -t; ulimit -n; ulimit -v; grep -E '^Max (cpu|proc)' /proc/self/limits; echo";
    let server = common::serve(&["--sandbox", "127.0.0.1:0", "--", "sh", "-c", report]);
    server
        .program
        .err
        .wait_for("sandbox: 60 s of a processor, 1024 MiB of memory, 256 descriptors, ");
    let told = String::from_utf8(ask(&server, b"")).unwrap();
    assert!(told.starts_with("60\n256\n1048576\n"), "{told}");
    // A worker runs for as long as it is needed.
    let report = "read -r frame; ulimit -t >&2; ulimit -n >&2; sleep 1000";
    let words = ["--sandbox", "--worker", "127.0.0.1:0", "--", "sh", "-c", report];
    let server = common::serve(&words);
    let _peer = client(server.tcp());
    signal_of_life(&server, "unlimited\n256\n");
}

/// What the worker says once it has read something.
fn signal_of_life(server: &Server, said: &str) {
    // A newline in a frame lets `read` return.
    let mut stream = client(server.tcp());
    std::io::Write::write_all(&mut stream, b"\n").unwrap();
    server.program.err.wait_for(said);
}

#[test]
fn signals_and_abstract_sockets_stay_inside() {
    if find("socat").is_none() {
        return skipped("socat connects to the abstract socket");
    }
    let name = format!("adit-sandbox-{}", std::process::id());
    let place = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&place).unwrap();
    let script = format!(
        "kill -0 {} 2>/dev/null && echo signal; kill -0 $$ && echo own; \
         socat -u OPEN:/dev/null ABSTRACT-CONNECT:{name} 2>/dev/null && echo abstract; echo done",
        std::process::id()
    );
    let words = ["127.0.0.1:0", "--sandbox", "--", "sh", "-c", &script];
    let server = common::serve(&words);
    if policy(&server, "stay inside").is_some() {
        assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), "own\ndone\n");
    }
    let server = common::serve(&["127.0.0.1:0", "--", "sh", "-c", &script]);
    assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), "signal\nown\nabstract\ndone\n");
}

#[test]
fn a_sandbox_does_not_keep_a_program_from_being_ended() {
    let script = "trap '' TERM; setsid sleep 1000 & echo $$; while :; do sleep 1000; done";
    let words = ["--sandbox", "127.0.0.1:0", "--", "sh", "-c", script];
    let server = common::serve(&words);
    let mut stream = client(server.tcp());
    let pid: u32 = read_line(&mut stream).trim().parse().unwrap();
    let guard = guard_of(&server);
    wait_until("all run", || descendants(guard).len() == 3);
    let all: Vec<u32> = descendants(guard).into_iter().map(|(pid, _)| pid).collect();
    assert!(all.contains(&pid));
    signal(server.program.id(), Signal::KILL);
    wait_until("all are gone", || !all.iter().any(|pid| is_alive(*pid)));
}

/// What the kernel refuses to a process (proc(5), `Seccomp`: 2 is a filter, and how many).
fn filters(pid: u32) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let field = |status: &str, name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().trim().to_owned()
    };
    status.map(|text| (field(&text, "Seccomp:"), field(&text, "NoNewPrivs:"))).collect()
}

#[test]
fn calls_that_reach_beyond_a_process_are_refused_to_the_program_and_to_its_server() {
    // Each of them is permitted to somebody without rights, and to root.
    let script = "unshare --user true 2>/dev/null && echo namespace
        command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null && echo trace
        (sleep 0) & wait $! && echo fork";
    let words = ["127.0.0.1:0", "--", "sh", "-c", script];
    let open = common::serve(&words);
    let told = String::from_utf8(ask(&open, b"")).unwrap();
    assert_eq!(filters(open.program.id()).iter().find(|(mode, _)| mode != "0"), None);
    if !told.contains("namespace") && !told.contains("trace") {
        skipped("neither unshare nor strace runs here anyway");
    }

    let server = common::serve(&[&["--sandbox"], &words[..]].concat());
    if policy(&server, "(seccomp)").is_none() {
        return;
    }
    server.program.err.wait_for("sandbox: the same calls are refused to the server\n");
    assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), "fork\n");
    // Every thread, and the guard; also the next one.
    let confined = ("2".to_owned(), "1".to_owned());
    for _ in 0..2 {
        let guard = guard_of(&server);
        for pid in [server.program.id(), guard] {
            assert!(filters(pid).iter().all(|found| *found == confined), "{:?}", filters(pid));
        }
        signal(guard, Signal::KILL);
        wait_until("the guard is gone", || !is_alive(guard));
        assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), "fork\n");
    }
}

#[test]
fn a_server_that_cannot_refuse_calls_does_not_listen_and_one_without_seccomp_says_so() {
    let words = ["--sandbox", "127.0.0.1:0", "--", "sh", "-c", "echo it runs"];
    let Some(server) = serve_failing("seccomp", "ENOSYS", &words) else { return };
    server.program.err.wait_for("; no system call is refused: there is no seccomp here\n");
    assert_eq!(String::from_utf8(ask(&server, b"")).unwrap(), "it runs\n");
    assert!(!server.program.err.text().contains("the same calls"));

    let inject = "inject=prctl:error=EPERM";
    let mut command = std::process::Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl", "-e", inject]);
    command.args([env!("CARGO_BIN_EXE_adit"), "serve"]).args(words);
    let ran = common::run(&mut command, b"");
    if ran.err.contains("no seccomp here") {
        return skipped("the kernel has no seccomp");
    }
    ran.assert_failed(126, "cannot-run");
    assert!(ran.err.contains("cannot have system calls refused to this server"), "{ran:?}");
}

/// A server whose every call of this kind fails, also in the guard and its children.
fn serve_failing(call: &str, error: &str, words: &[&str]) -> Option<Server> {
    if find("strace").is_none() {
        skipped("strace makes calls fail");
        return None;
    }
    // The tracer beside the command, which is ended with the test: its end is the tracer's.
    let inject = format!("trace={call} -e inject={call}:error={error}");
    let script = format!(
        "exec strace -D -f -qq -o /dev/null -e {inject} sh -c 'exec \"$@\" 3>\"$READY\"' sh \"$@\""
    );
    Some(Server::start(&script, words))
}

#[test]
fn a_program_whose_sandbox_fails_is_not_run() {
    let words = ["--sandbox", "127.0.0.1:0", "--", "echo", "it runs"];
    let call = "landlock_restrict_self";
    let Some(server) = serve_failing(call, "EPERM", &words) else { return };
    if policy(&server, "Landlock ").is_none() {
        return;
    }
    assert_eq!(read_to_end(&mut client(server.tcp())), b"");
    server.program.err.wait_for("cannot run echo: ");
    server.program.err.wait_for("(code=cannot-run); the peer got a closed connection");
}

#[test]
fn a_kernel_without_landlock_is_said_and_the_limits_hold() {
    let words = ["--sandbox", "127.0.0.1:0", "--", "sh", "-c", "ulimit -n; cat /etc/passwd"];
    let call = "landlock_create_ruleset";
    let Some(server) = serve_failing(call, "ENOSYS", &words) else { return };
    let missing =
        "this kernel has no Landlock: files, signals and abstract sockets are not restricted; ";
    server.program.err.wait_for(missing);
    let told = String::from_utf8(ask(&server, b"")).unwrap();
    assert!(told.starts_with("256\n") && told.contains("root:"), "{told}");
}

#[test]
fn rules_that_cannot_be_made_keep_the_server_from_listening() {
    if find("strace").is_none() {
        return skipped("strace makes calls fail");
    }
    let mut command = std::process::Command::new("strace");
    let inject = "inject=landlock_add_rule:error=EPERM:when=3";
    command.args([
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=landlock_add_rule",
        "-e",
        inject,
    ]);
    command.args([env!("CARGO_BIN_EXE_adit"), "serve", "--sandbox", "127.0.0.1:0", "--", "cat"]);
    command.stdin(std::process::Stdio::null());
    let mut program = common::Program::start_with_input(&mut command);
    wait_until("it ends, or runs without Landlock", || {
        !program.is_running() || program.err.text().contains("no Landlock")
    });
    if program.is_running() {
        return skipped("the kernel has no Landlock");
    }
    program.wait().assert_failed(126, "cannot-run");
}
