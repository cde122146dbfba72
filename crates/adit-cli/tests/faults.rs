//! System calls that fail: the real command under strace, which makes the Nth call of a kind fail.
//!
//! Whatever fails, the command does not panic, does not hang, is ended by no signal, says why it ends,
//! and ends with 0 only if every byte arrived; a server serves the next client. The errors of accept are
//! tried by every run. Every other call, error and N take minutes:
//!
//! ```text
//! cargo test -p adit-cli --test faults -- --ignored
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;
#[path = "faults/judge.rs"]
mod judge;
#[path = "faults/scenes.rs"]
mod scenes;
#[path = "faults/traced.rs"]
mod traced;

use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Program, adit, find};
use judge::{Verdict, judge};
use scenes::{Scene, connect, forward, serve_datagrams, serve_many, serve_once};
use traced::{Fault, may_trace};

/// Errors of accept after which the listener goes on (accept(2), "Error handling"; a shortage; a signal).
const ACCEPT: [&str; 16] = [
    "EINTR",
    "ECONNABORTED",
    "EPROTO",
    "EPERM",
    "ENETDOWN",
    "ENETUNREACH",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENONET",
    "ENOPROTOOPT",
    "EOPNOTSUPP",
    "ECONNRESET",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
];

/// Errors that only a bug can bring: the listener has to stop, with a word for it.
const ACCEPT_BUGS: [&str; 4] = ["EBADF", "EINVAL", "ENOTSOCK", "EFAULT"];

/// Every call that is worth failing, and the errors that the kernel gives there.
const CALLS: [(&str, &[&str]); 16] = [
    ("accept4", &ACCEPT),
    ("accept4", &ACCEPT_BUGS),
    (
        "connect",
        &["ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "EADDRNOTAVAIL", "EACCES", "ENOBUFS"],
    ),
    ("socket", &["EMFILE", "ENFILE", "EAFNOSUPPORT", "ENOBUFS", "EACCES"]),
    ("bind", &["EADDRINUSE", "EACCES", "EADDRNOTAVAIL", "ENOMEM"]),
    ("listen", &["EADDRINUSE", "ENOBUFS"]),
    ("setsockopt", &["ENOPROTOOPT", "ENOMEM"]),
    ("recvfrom", &["ECONNRESET", "ETIMEDOUT", "EINTR", "ENOMEM"]),
    ("sendto", &["ECONNRESET", "EPIPE", "ENOBUFS", "EINTR"]),
    ("recvmmsg", &["ECONNREFUSED", "EHOSTUNREACH", "EINTR", "ENOMEM"]),
    ("sendmmsg", &["ENOBUFS", "EPERM", "ECONNREFUSED", "EINTR"]),
    ("read", &["EIO", "EINTR"]),
    ("write", &["EPIPE", "EIO", "ENOSPC", "EINTR"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait", &["EINTR"]),
    (
        "clone3,epoll_create1,eventfd2,socketpair,openat,shutdown,fcntl",
        &["EMFILE", "EAGAIN", "ENOMEM"],
    ),
];

/// A call of which more than so many are made is failed no further.
const NTH_MAX: u32 = 40;

const SCENES: [Scene; 5] = [
    Scene { name: "serve once", run: serve_once },
    Scene { name: "serve", run: serve_many },
    Scene { name: "serve over UDP", run: serve_datagrams },
    Scene { name: "connect", run: connect },
    Scene { name: "forward", run: forward },
];

#[test]
fn a_server_lives_on_whatever_accept_says_three_times() {
    let serve = Scene { name: "serve", run: serve_many };
    let faults = ACCEPT.iter().map(|error| Fault { call: "accept4", error, first: 1, last: 3 });
    let tried = all(faults.map(|fault| (serve, fault)).collect());
    for (fault, verdict) in tried {
        // No client may notice: each of them waits in the queue until it is let in.
        assert!(verdict.is_reached && verdict.is_whole, "{fault} {verdict:?}");
    }
}

#[test]
fn a_listener_that_is_none_any_more_ends_its_server_with_a_word() {
    let serve = Scene { name: "serve", run: serve_many };
    let faults =
        ACCEPT_BUGS.iter().map(|error| Fault { call: "accept4", error, first: 1, last: 9 });
    for (fault, verdict) in all(faults.map(|fault| (serve, fault)).collect()) {
        assert!(verdict.is_reached && verdict.status == 1, "{fault} {verdict:?}");
        assert!(verdict.said.contains("(code=internal)"), "{fault} {verdict:?}");
    }
}

#[test]
fn bytes_that_cannot_be_read_or_written_are_no_success() {
    let fault = |(call, error)| Fault { call, error, first: 1, last: 1 };
    let faults = [("recvfrom", "ECONNRESET"), ("sendto", "EINTR"), ("sendto", "EPIPE")].map(fault);
    let mut cases = Vec::new();
    for scene in [SCENES[0], SCENES[3]] {
        cases.extend(faults.map(|fault| (scene, fault)));
    }
    // Of a target that cannot be written to a forward reads what it still says, which here takes long.
    cases.extend(faults.into_iter().take(2).map(|fault| (SCENES[4], fault)));
    let tried = all(cases);
    assert!(tried.iter().any(|(_, verdict)| verdict.is_reached));
    for (fault, verdict) in tried {
        let is_transient = fault.error == "EINTR" || !verdict.is_reached;
        assert_eq!(verdict.status == 0, is_transient, "{fault} {verdict:?}");
    }
}

#[test]
fn a_place_that_cannot_be_printed_ends_the_server() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut serve = adit(&["serve", "echo", "127.0.0.1:0", "--print-addr"]);
    let ran = Program::start_with_output(serve.stdin(Stdio::null()).stdout(full)).wait();
    ran.assert_failed(1, "internal");
    assert!(ran.err.contains("cannot print where the server listens"), "{ran:?}");
}

#[test]
#[ignore = "takes minutes: part of ./check --nightly"]
fn every_call_may_fail_with_every_error_the_nth_time() {
    let mut kinds = Vec::new();
    for scene in SCENES {
        for (calls, errors) in CALLS {
            let calls = calls.split(',');
            kinds.extend(
                calls.flat_map(|call| errors.iter().map(move |error| (scene, call, *error))),
            );
        }
    }
    let (runs, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let complaints = AtomicUsize::new(0);
    in_parallel(&kinds, |&(scene, call, error)| {
        for n in 1..=NTH_MAX {
            let fault = Fault { call, error, first: n, last: n };
            let result = judge(scene, &fault);
            runs.fetch_add(1, Relaxed);
            match result {
                Ok(verdict) if !verdict.is_reached => return,
                Ok(_) => drop(reached.fetch_add(1, Relaxed)),
                // Said at once: all of them take minutes.
                Err(complaint) => {
                    complaints.fetch_add(1, Relaxed);
                    println!("{complaint}\n");
                }
            }
        }
    });
    println!("{runs:?} runs, in {reached:?} of them a call failed and all went well");
    assert_eq!(complaints.into_inner(), 0, "complaints, see above");
}

/// Tries all of them, some at a time; none where nothing can be traced.
#[track_caller]
fn all(cases: Vec<(Scene, Fault)>) -> Vec<(Fault, Verdict)> {
    let tried = Mutex::new(Vec::new());
    in_parallel(&cases, |(scene, fault)| {
        tried.lock().unwrap().push((*fault, judge(*scene, fault)));
    });
    let tried = tried.into_inner().unwrap().into_iter();
    tried.map(|(fault, result)| (fault, result.unwrap_or_else(|why| panic!("{why}")))).collect()
}

/// Does something for each, two at a time; not at all where strace cannot be used.
fn in_parallel<T: Sync>(all: &[T], act: impl Fn(&T) + Sync) {
    if find("strace").is_none() || !may_trace() {
        return;
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Relaxed)) {
                    act(one);
                }
            });
        }
    });
}
