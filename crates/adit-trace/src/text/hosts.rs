//! The hosts: which programs on which hosts, with which sockets, and who talks to whom.

use std::collections::BTreeMap;

use super::head::{known, side};
use super::page::{Page, pad};
use super::sums::Sums;
use super::{COLUMNS_MAX, Options};
use crate::rows::{Observers, Stage, clean, cut, plural, size, width};
use crate::story::{Seen, Story, Talk, Way};

/// At most this many conversations have an arrow each.
const ARROWS_MAX: usize = 24;
/// At most this many hosts are drawn as boxes.
const HOSTS_MAX: usize = 12;

#[derive(Default)]
struct Host {
    lines: Vec<String>,
}

/// The picture of the whole story.
pub(super) fn hosts(page: &mut Page, story: &Story, options: &Options) {
    let is_chosen = |talk: &&Talk| options.talk.is_none_or(|number| talk.number == number);
    let talks: Vec<&Talk> = story.talks.iter().filter(is_chosen).collect();
    page.blank();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for door in &story.doors {
        let server = program(story, &[Seen::Server, Seen::RelayToClient]);
        let name = options.names.door(door.scheme.is_datagram());
        let line = format!("{server}: {name} {} {}", door.scheme.word(), clean(&door.addr));
        add(&mut hosts, host(&door.addr), line);
    }
    // A client that wrote this trace has no part in the conversations of others.
    let mut clients: BTreeMap<(String, bool), u64> = BTreeMap::new();
    for talk in &talks {
        let is_its_own = Observers::of(&talk.acts).client;
        *clients.entry((host(&talk.client), !is_its_own)).or_default() += 1;
        let is_door = story.doors.iter().any(|door| port(&door.addr) == port(&talk.server));
        if is_door {
            hosts.entry(host(&talk.server)).or_default();
        } else if !talk.server.is_empty() {
            let server = program(story, &[Seen::Server]);
            let name = options.names.server(talk.scheme.is_datagram());
            let addr = clean(&talk.server);
            let line = format!("{server}: {name} {} {addr}", talk.scheme.word());
            add(&mut hosts, host(&talk.server), line);
        }
    }
    for ((name, is_other), count) in clients {
        let client = program(story, if is_other { &[] } else { &[Seen::Client] });
        let line = format!("{client}: {} x {}", options.names.client(), count);
        add(&mut hosts, name, line);
    }
    for (name, host) in hosts.iter().take(HOSTS_MAX) {
        boxed(page, &format!("host {name}"), &host.lines);
    }
    if hosts.len() > HOSTS_MAX {
        page.line(&format!("... {} more hosts ...", hosts.len() - HOSTS_MAX));
    }
    page.blank();
    for talk in talks.iter().take(ARROWS_MAX) {
        page.line(&arrow(talk));
    }
    if talks.len() > ARROWS_MAX {
        let rest = u64::try_from(talks.len() - ARROWS_MAX).unwrap_or(u64::MAX);
        page.line(&format!("... {} folded ...", plural(rest, "conversation")));
    }
    if talks.is_empty() {
        page.line("no conversation");
    }
}

fn add(hosts: &mut BTreeMap<String, Host>, name: String, line: String) {
    let host = hosts.entry(name).or_default();
    if !host.lines.contains(&line) {
        host.lines.push(line);
    }
}

/// `1  127.0.0.1:51512 ---- tcp, 6 B up, 6 B down ----> 127.0.0.1:7000`
fn arrow(talk: &Talk) -> String {
    let sums = Sums::of(talk);
    let best = |way| {
        let stages = [Stage::Written, Stage::Came, Stage::Wire, Stage::Passed, Stage::Read];
        stages.into_iter().find_map(|stage| sums.at(way, stage)).unwrap_or_default().bytes
    };
    let via = if talk.relay.is_some() { " via relay" } else { "" };
    let label = format!(
        "{}{via} {} up {} down",
        talk.scheme.word(),
        size(best(Way::Up)),
        size(best(Way::Down))
    );
    let ends_max = (COLUMNS_MAX - 15 - width(&label)) / 2;
    let (client, server) =
        (cut(&known(&talk.client), ends_max), cut(&known(&talk.server), ends_max));
    let number = format!("{:>4}  ", talk.number);
    let used = width(&number) + width(&client) + width(&server) + width(&label) + 5;
    let rest = COLUMNS_MAX.saturating_sub(used).clamp(4, 16);
    let (one, two) = ("-".repeat(rest / 2), "-".repeat(rest - rest / 2));
    format!("{number}{client} {one} {label} {two}> {server}")
}

/// The program that plays one of these parts.
fn program(story: &Story, parts: &[Seen]) -> String {
    let known = story.programs.iter().find(|program| parts.contains(&program.seen));
    match known {
        Some(program) => {
            let pid =
                if program.pid == 0 { String::new() } else { format!(" pid {}", program.pid) };
            let name = if program.name.is_empty() { side(program.seen) } else { &program.name };
            cut(name, 30) + &pid
        }
        None => "program not in this trace".to_owned(),
    }
}

/// The host part of an address: without its port, with its brackets.
fn host(addr: &str) -> String {
    match addr.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => clean(host),
        _ if addr.is_empty() => "unknown".to_owned(),
        _ => "this one".to_owned(),
    }
}

fn port(addr: &str) -> Option<&str> {
    addr.rsplit_once(':').map(|(_, port)| port)
}

fn boxed(page: &mut Page, name: &str, lines: &[String]) {
    let name = cut(name, COLUMNS_MAX - 8);
    let rest = COLUMNS_MAX - 5 - width(&name);
    page.line(&format!("+- {name} {}+", "-".repeat(rest)));
    for line in lines {
        page.line(&format!("| {} |", pad(line, COLUMNS_MAX - 4)));
    }
    page.line(&format!("+{}+", "-".repeat(COLUMNS_MAX - 2)));
}
