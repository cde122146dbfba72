//! Networks of the test's own: what one host does no other sees, and cables can be cut.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use adit_lab::net::{Host, Net, Side};

/// A place for hosts; where there is none, the test says so and is skipped.
fn net() -> Option<Net> {
    let made = Net::new();
    if let Err(absent) = &made {
        // Not by eprintln!, which a passing test swallows. A report that cannot be written fails nothing.
        drop(writeln!(std::io::stderr(), "skipped: {absent}"));
    }
    made.ok()
}

/// What a host hears from an address in so many seconds. Nobody listens there: an answer is a refusal.
fn asked(host: &Host, address: Ipv4Addr, seconds: &str) -> String {
    let connect = format!("exec 3<>/dev/tcp/{address}/9");
    host.run(&["timeout", seconds, "bash", "-c", &connect]).unwrap_err().to_string()
}

/// It gets an answer: at once, or to a question asked again after 1, 3 or 7 s, when the kernel has not yet
/// seen that a cable is plugged in.
#[track_caller]
fn assert_answer(host: &Host, address: Ipv4Addr) {
    let heard = asked(host, address, "9");
    assert!(heard.contains("refused"), "{heard}");
}

/// It gets none: `timeout` ends with 124.
#[track_caller]
fn assert_silence(host: &Host, address: Ipv4Addr) {
    let heard = asked(host, address, "1");
    assert!(heard.contains("124") && !heard.contains("refused"), "{heard}");
}

#[test]
fn hosts_have_networks_of_their_own() {
    let Some(net) = net() else { return };
    let (one, other) = (net.host().unwrap(), net.host().unwrap());
    one.add_address(Ipv4Addr::new(10, 9, 8, 7)).unwrap();
    let addresses = ["ip", "-4", "-brief", "address"];
    assert!(one.run(&addresses).unwrap().contains("127.0.0.1/8 10.9.8.7/32"));
    assert!(!other.run(&addresses).unwrap().contains("10.9.8.7"));

    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let theirs = other.run(&["cat", range]).unwrap();
    one.set("net.ipv4.ip_local_port_range", "40000 40031").unwrap();
    assert_eq!(one.run(&["cat", range]).unwrap(), "40000\t40031\n");
    assert_eq!(other.run(&["cat", range]).unwrap(), theirs);
    assert_answer(&one, Ipv4Addr::LOCALHOST);
    let error = one.set("net.ipv4.no_such_setting", "1").unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn a_cable_is_cut_one_way_healed_and_pulled() {
    let Some(net) = net() else { return };
    let (near, far) = (net.host().unwrap(), net.host().unwrap());
    let link = net.link(&near, &far).unwrap();
    let (here, there) = (link.address(Side::Near), link.address(Side::Far));
    assert_answer(&near, there);
    assert_answer(&far, here);
    // Neither end hears an answer when one way is cut.
    link.cut(Side::Near).unwrap();
    assert_silence(&near, there);
    link.heal(Side::Near).unwrap();
    assert_answer(&near, there);
    assert_answer(&far, here);
    link.pull(Side::Far).unwrap();
    assert_silence(&near, there);
    link.plug(Side::Far).unwrap();
    assert_answer(&near, there);
    // Another cable is another network.
    let second = net.link(&near, &far).unwrap();
    assert_ne!(second.address(Side::Far), there);
    assert_answer(&near, second.address(Side::Far));
}

#[test]
fn nothing_is_left_of_a_host() {
    let Some(net) = net() else { return };
    let host = net.host().unwrap();
    let name = host.run(&["readlink", "/proc/self/ns/net"]).unwrap();
    // One that ignores what asks it to end, and one of whom we are not the parent.
    let script = "trap '' TERM INT HUP; sleep 1000 & echo there; wait";
    let mut command = host.command("sh");
    let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut String::new()).unwrap();
    drop(host);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let left = std::fs::read_dir("/proc").unwrap().flatten();
    let in_it = |at: &std::path::Path| at.to_str() == Some(name.trim_end());
    let left = left.filter(|process| {
        std::fs::read_link(process.path().join("ns/net")).is_ok_and(|at| in_it(&at))
    });
    assert_eq!(left.count(), 0);
}
