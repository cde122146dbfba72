//! Processes behind a server: who descends from whom, who is alive.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, Server, client, finish, read_to_end};

/// Looks again and again until it holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every process: its number, its parent, its state.
pub(crate) fn processes() -> Vec<(u32, u32, char)> {
    let folders = fs::read_dir("/proc").unwrap().flatten();
    let stats = folders.filter_map(|folder| fs::read_to_string(folder.path().join("stat")).ok());
    stats.filter_map(|stat| read_stat(&stat)).collect()
}

fn read_stat(stat: &str) -> Option<(u32, u32, char)> {
    let (pid, rest) = stat.split_once(" (")?;
    // The name may hold anything, brackets too.
    let mut fields = rest.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((pid.parse().ok()?, fields.next()?.parse().ok()?, state))
}

/// Everything that descends from a process.
pub(crate) fn descendants(of: u32) -> Vec<(u32, char)> {
    let all = processes();
    let mut found: Vec<(u32, char)> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|(_, of, _)| *of == parent);
        for (pid, _, state) in children {
            found.push((*pid, *state));
            parents.push(*pid);
        }
    }
    found
}

/// The guard: the one child of a server with a program.
pub(crate) fn guard_of(server: &Server) -> u32 {
    let all = processes();
    let mut children = all.iter().filter(|(_, parent, _)| *parent == server.program.id());
    children.next().unwrap().0
}

/// Is the process there, and no zombie?
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| read_stat(&stat))
        .is_some_and(|(_, _, state)| state != 'Z')
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Asks over a connection and reads the whole answer.
pub(crate) fn ask(server: &Server, question: &[u8]) -> Vec<u8> {
    let mut stream = client(server.tcp());
    stream.write_all(question).unwrap();
    finish(&stream);
    read_to_end(&mut stream)
}
