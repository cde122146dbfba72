//! Networks of the test's own: hosts that are network namespaces, and links between them.
//!
//! Nothing here needs root where the system lets users have namespaces (`user_namespaces(7)`); as root it
//! works without them. Where neither is possible, [`Net::new`] says why, and a test that needs a
//! network says that it is skipped. The work is done by the programs `unshare`, `nsenter` and `ip`.

mod link;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

pub use link::{Link, Side};

/// Why there is no such network, host or link here, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent(String);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

/// Where hosts are made. Each host ends with its own value, not with this one.
///
/// ```
/// use adit_lab::net::{Net, Side};
/// let Ok(net) = Net::new() else { return }; // not everywhere is it permitted
/// let (near, far) = (net.host().unwrap(), net.host().unwrap());
/// let link = net.link(&near, &far).unwrap();
/// assert!(near.run(&["ip", "route", "get", &link.address(Side::Far).to_string()]).is_ok());
/// ```
#[derive(Debug)]
pub struct Net {
    /// Holds the user namespace that hosts belong to; as root, a network that nobody uses.
    base: Namespace,
    links: AtomicU8,
}

/// A host: a network of its own with its own loopback, ports and settings; its files and processes are
/// those of the machine. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Host(Namespace);

/// A process that does nothing but keep a namespace alive.
#[derive(Debug)]
struct Namespace {
    /// It reads from a pipe of ours, so it ends with us, however we end.
    holder: Child,
    enter: Enter,
    /// What the kernel calls the namespace: `net:[4026532281]`.
    name: PathBuf,
}

/// How to enter a namespace: the first words of a command line.
#[derive(Clone, Debug)]
struct Enter {
    pid: u32,
    has_users: bool,
}

/// How long a program that sets something up may take.
const SETUP: &str = "10";

impl Net {
    /// A place for hosts.
    ///
    /// # Errors
    /// This machine has no `unshare`, `nsenter` or `ip`, or permits no namespaces.
    pub fn new() -> Result<Self, Absent> {
        for (program, package) in [("unshare", UTIL), ("nsenter", UTIL), ("ip", "iproute2")] {
            if !is_here(program) {
                return Err(Absent(format!("no network here: no {program}, of {package}")));
            }
        }
        let as_root = Namespace::start(command(&["unshare", "--net"]), false);
        let base = as_root.or_else(|_not_root| {
            let words = ["unshare", "--user", "--map-root-user", "--net"];
            Namespace::start(command(&words), true)
        })?;
        Ok(Self { base, links: AtomicU8::new(0) })
    }

    /// A new host, with its loopback up.
    ///
    /// # Errors
    /// The machine permits no more.
    pub fn host(&self) -> Result<Host, Absent> {
        let mut make = self.base.enter.command("unshare");
        make.arg("--net");
        let host = Host(Namespace::start(make, self.base.enter.has_users)?);
        host.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// A cable between two hosts, each with an address at its end; both ends are up.
    ///
    /// # Errors
    /// The kernel has no virtual cables (veth), or there are 250 of this net already.
    pub fn link(&self, near: &Host, far: &Host) -> Result<Link, Absent> {
        let number = self.links.fetch_add(1, Relaxed);
        Link::new(number, &near.0.enter, &far.0.enter)
    }
}

const UTIL: &str = "util-linux";

impl Host {
    /// A command that will run on this host. The process it becomes is its own, not a child's: signals
    /// and exit status are its.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.0.enter.command(program)
    }

    /// Runs a program that ends at once, in 10 s at most; gives what it says.
    ///
    /// # Errors
    /// It is not here, fails, or does not end.
    pub fn run(&self, words: &[&str]) -> Result<String, Absent> {
        self.0.enter.run(words)
    }

    /// Sets a setting of the kernel's network for this host alone: `net.ipv4.ip_local_port_range`.
    ///
    /// # Errors
    /// There is no such setting, it takes no such value, or it may not be set from here.
    pub fn set(&self, name: &str, value: &str) -> Result<(), Absent> {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        // Read and written by a process on the host: the kernel shows everybody his own.
        self.run(&["sh", "-c", "printf %s \"$1\" >\"$2\"", "sh", value, &file]).map(drop)
    }

    /// Gives the host an address more, on its loopback.
    ///
    /// # Errors
    /// It has it already.
    pub fn add_address(&self, address: Ipv4Addr) -> Result<(), Absent> {
        self.run(&["ip", "address", "add", &format!("{address}/32"), "dev", "lo"]).map(drop)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Killed ones take a moment to leave; one that starts others meanwhile is met again.
        for _round in 0..100 {
            let there = processes_in(&self.0.name);
            let others = there.iter().filter(|pid| **pid != self.0.enter.pid);
            let killed = others.filter(|pid| adit_net::process::kill(**pid).is_ok()).count();
            if killed == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Namespace {
    /// Starts what keeps a new namespace: `make` is a command that runs another one in it.
    fn start(mut make: Command, has_users: bool) -> Result<Self, Absent> {
        make.args(["sh", "-c", "echo here && exec cat >/dev/null"]);
        make.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |why: &dyn fmt::Display| Absent(format!("no network here: {why}"));
        let mut holder = make.spawn().map_err(|error| failed(&error))?;
        let mut said = String::new();
        let heard = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut said));
        let enter = Enter { pid: holder.id(), has_users };
        let name = fs::read_link(format!("/proc/{}/ns/net", enter.pid)).unwrap_or_default();
        let is_own = fs::read_link("/proc/self/ns/net").is_ok_and(|own| own != name);
        if matches!(heard, Some(Ok(_))) && said == "here\n" && is_own {
            return Ok(Self { holder, enter, name });
        }
        // It has ended, or is of no use.
        drop(holder.kill());
        let why = holder.wait_with_output().map(|ended| ended.stderr).unwrap_or_default();
        Err(failed(&String::from_utf8_lossy(&why).trim()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

impl Enter {
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        self.words(&mut command);
        command.arg("--").arg(program);
        command
    }

    fn words(&self, command: &mut Command) {
        command.arg(format!("--target={}", self.pid)).arg("--net");
        if self.has_users {
            command.args(["--user", "--preserve-credentials"]);
        }
    }

    fn run(&self, words: &[&str]) -> Result<String, Absent> {
        let mut command = Command::new("timeout");
        command.args([SETUP, "nsenter"]);
        self.words(&mut command);
        command.arg("--").args(words).stdin(Stdio::null());
        let failed = |why: &str| Absent(format!("{} failed: {}", words.join(" "), why.trim()));
        let ended = command.output().map_err(|error| failed(&error.to_string()))?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
        }
        Err(failed(&format!("{} {}", ended.status, String::from_utf8_lossy(&ended.stderr))))
    }
}

/// The processes in a network namespace, as far as they can be seen; none once they have ended.
fn processes_in(name: &Path) -> Vec<u32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_in = |pid: &u32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|at| at == name);
    pids.filter(is_in).collect()
}

fn command(words: &[&str]) -> Command {
    let (program, rest) = words.split_first().unwrap_or((&"", &[]));
    let mut command = Command::new(program);
    command.args(rest);
    command
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
