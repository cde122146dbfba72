//! Where a relay goes for others: not to where a host's own secrets are, because a name says so.

use std::fs;
use std::process::Command;

use crate::common::{Program, Scratch, adit, run, skipped};
use crate::field::{Field, here};

/// Where clouds tell a host who it is, and with which secrets.
const SECRETS: &str = "169.254.169.254";

#[test]
fn a_relay_follows_no_name_to_the_secrets_of_its_host() {
    let test = "targets::a_relay_follows_no_name_to_the_secrets_of_its_host";
    let Some(field) = Field::of(test) else { return };
    let scratch = Scratch::new();
    let hosts = scratch.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{SECRETS} secrets.test\n")).unwrap();
    // A view of the file system of its own, in which the test says what names mean.
    let script = "mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"";
    let in_own_view = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).args(words).env("HOSTS", &hosts);
        command
    };
    if !in_own_view(&["true"]).output().is_ok_and(|ran| ran.status.success()) {
        return skipped("no file system view of one's own can be made here");
    }
    field.there(&["ip", "address", "add", &format!("{SECRETS}/32"), "dev", "c0"]);
    here("ip route add \"$1\" via 10.77.0.2", &[SECRETS]);
    let asked = |scheme: &str, target: &str| {
        let target = format!("{scheme}://{target}:7000");
        let words = [env!("CARGO_BIN_EXE_adit"), "forward", "--print-addr"];
        let place = format!("{scheme}://127.0.0.1:0");
        let words = [&words[..], &[&place, &target]].concat();
        let relay = Program::start(&mut in_own_view(&words));
        let place = relay.out.first_line().unwrap().replace(' ', "://");
        let ran = run(&mut adit(&[&place, "-w", "5s"]), b"who am I?\n");
        (ran.text(), relay)
    };
    let _server = field.serve(&["echo", ":7000", "udp://:7000"]);
    for scheme in ["tcp", "udp"] {
        let (answer, relay) = asked(scheme, "secrets.test");
        assert_eq!(answer, "", "{scheme}: {}", relay.err.text());
        relay.err.wait_for("leads to 169.254.169.254, on this host's own link (code=unsafe)");
        // Who writes the address means it.
        assert_eq!(asked(scheme, SECRETS).0, "who am I?\n", "{scheme}");
    }
}
