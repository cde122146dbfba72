//! The sandbox of a program: how much it may use, what it may see of the machine, and what it may ask for.
//!
//! What it may use are limits of the kernel (setrlimit(2)), what it may see is a set of rules
//! (landlock(7)), what it may not ask for is a list of calls (`calls`). All are made before the guard is
//! forked, since that allocates and opens files; what is left for the child are a few calls with numbers
//! (`confine`), and a program whose sandbox fails there is not run.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use adit_proto::escape::escape_line;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::calls;
use super::exec::last_error;

/// What a program is kept to; the same for each of its processes.
#[derive(Debug)]
pub struct Sandbox {
    limits: Vec<(Resource, Rlimit)>,
    /// None where the kernel has no Landlock.
    rules: Option<OwnedFd>,
    /// The kernel can refuse calls.
    refuses_calls: bool,
    policy: String,
}

/// Seconds of a processor that one process may use; a second later it is killed.
const CPU_SECONDS: u64 = 60;
/// Descriptors.
const DESCRIPTORS: u64 = 256;
/// Bytes of address space.
const MEMORY_BYTES: u64 = 1 << 30;
/// Processes and threads of its user, whoever started them: the kernel counts no finer.
const PROCESSES: u64 = 1024;

/// What can be read and run; what of it is not there is left out.
const READABLE: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/etc/ssl"];
/// Shells and libraries expect it to be there.
const NULL: &str = "/dev/null";

// Rights of landlock(7), by the version of its interface that brought them.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const ALL_FIRST: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// Neither abstract sockets nor signals beyond the sandbox.
const SCOPED: u64 = 3;

const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// Everything but running what was written, and making devices.
const WRITE: u64 = (ALL_FIRST | REFER | TRUNCATE) & !(EXECUTE | MAKE_CHAR | MAKE_BLOCK);

impl Sandbox {
    /// For the program at this path, run by root or by somebody else. One that runs for long has no limit
    /// on its time. It may write below the folder this process is in, unless that is the root.
    ///
    /// # Errors
    /// What the kernel has cannot be set up.
    pub fn new(program: &Path, is_root: bool, runs_long: bool) -> io::Result<Self> {
        let folder = std::env::current_dir()?;
        // Below the root is everything.
        let folder = Some(folder).filter(|folder| folder.parent().is_some());
        let abi = landlock_version();
        let rules = match abi {
            0 => None,
            abi => Some(rules(abi, program, folder.as_deref())?),
        };
        let limits = limits(runs_long);
        let refuses_calls = calls::is_supported();
        let policy = [
            limits_in_words(&limits, is_root),
            rules_in_words(abi, folder.as_ref()),
            calls_in_words(refuses_calls),
        ];
        Ok(Self { limits, rules, refuses_calls, policy: policy.join("; ") })
    }

    /// What it comes to on this machine, in one line.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The descriptor that the guard keeps.
    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.rules.as_ref().map(|rules| rules.as_raw_fd())
    }

    /// Puts this process into the sandbox, for good. Between fork and exec: calls with numbers only.
    pub(super) fn confine(&self) -> Result<(), Errno> {
        if let Some(rules) = &self.rules {
            // SAFETY: numbers only.
            let done = unsafe {
                libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32)
            };
            if done != 0 {
                return Err(last_error());
            }
        }
        self.limits.iter().try_for_each(|(resource, limit)| setrlimit(*resource, *limit))?;
        if self.refuses_calls { calls::refuse() } else { Ok(()) }
    }
}

fn limits(runs_long: bool) -> Vec<(Resource, Rlimit)> {
    let of = |resource, soft: u64, hard: u64| {
        // Nobody is given more than there was.
        let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
        (resource, limit)
    };
    let time = (!runs_long).then(|| of(Resource::Cpu, CPU_SECONDS, CPU_SECONDS + 1));
    let others = [
        of(Resource::As, MEMORY_BYTES, MEMORY_BYTES),
        of(Resource::Nofile, DESCRIPTORS, DESCRIPTORS),
        of(Resource::Nproc, PROCESSES, PROCESSES),
    ];
    time.into_iter().chain(others).collect()
}

fn limits_in_words(limits: &[(Resource, Rlimit)], is_root: bool) -> String {
    let words = limits.iter().map(|(resource, limit)| {
        let most = limit.current.unwrap_or(u64::MAX);
        match resource {
            Resource::Cpu => format!("{most} s of a processor"),
            Resource::As => format!("{} MiB of memory", most >> 20),
            Resource::Nofile => format!("{most} descriptors"),
            _ if is_root => "any number of processes, as it runs as root".to_owned(),
            _ => format!("{most} processes of its user"),
        }
    });
    words.collect::<Vec<_>>().join(", ")
}

fn rules_in_words(abi: u64, folder: Option<&PathBuf>) -> String {
    if abi == 0 {
        let rest = "signals and abstract sockets are not restricted";
        return format!("this kernel has no Landlock: files, {rest}");
    }
    let there = READABLE.into_iter().filter(|path| Path::new(path).exists());
    let readable = there.collect::<Vec<_>>().join(" ");
    let folder = folder.map_or_else(String::new, |folder| {
        format!(" {}", escape_line(folder.as_os_str().as_bytes(), 200))
    });
    let scoped = match abi {
        6.. => "signals and abstract sockets stay inside",
        _ => "signals and abstract sockets are not restricted",
    };
    format!("reads {readable} and itself, writes {NULL}{folder}; {scoped} (Landlock {abi})")
}

fn calls_in_words(is_supported: bool) -> String {
    if is_supported {
        format!("{} (seccomp)", calls::IN_WORDS)
    } else {
        "no system call is refused: there is no seccomp here".to_owned()
    }
}

/// The version of its interface; 0 if the kernel has none, or it is turned off.
fn landlock_version() -> u64 {
    let version = 1_u32;
    // SAFETY: no attributes, of no size: this asks for the version.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            version,
        )
    };
    u64::try_from(answer).unwrap_or(0)
}

/// `struct landlock_ruleset_attr`. A kernel that knows less of it takes the rest if it is zero.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`, which has no gap.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

fn rules(abi: u64, program: &Path, folder: Option<&Path>) -> io::Result<OwnedFd> {
    let since = |version: u64, right: u64| if abi >= version { right } else { 0 };
    let handled = ALL_FIRST | since(2, REFER) | since(3, TRUNCATE) | since(5, IOCTL_DEV);
    let attr =
        RulesetAttr { handled_access_fs: handled, handled_access_net: 0, scoped: since(6, SCOPED) };
    let size = size_of::<RulesetAttr>();
    // SAFETY: the attributes live through the call and are as long as it is told.
    let fd =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0_u32) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it for this process, closed on exec; nobody else knows it.
    let rules = unsafe { OwnedFd::from_raw_fd(fd) };
    for path in READABLE.iter().map(Path::new).filter(|path| path.exists()) {
        allow(&rules, path, READ & handled)?;
    }
    allow(&rules, program, (EXECUTE | READ_FILE) & handled)?;
    allow(&rules, Path::new(NULL), (READ_FILE | WRITE_FILE | TRUNCATE) & handled)?;
    if let Some(folder) = folder {
        allow(&rules, folder, WRITE & handled)?;
    }
    Ok(rules)
}

/// Allows this for a file, or for everything below a folder.
fn allow(rules: &OwnedFd, path: &Path, rights: u64) -> io::Result<()> {
    let place = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
    let attr = PathBeneathAttr { allowed_access: rights, parent_fd: place.as_raw_fd() };
    let path_beneath = 1_u32;
    // SAFETY: the attributes live through the call and are of the kind that it is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            path_beneath,
            &raw const attr,
            0_u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{limits, limits_in_words, rules_in_words};
    use std::path::PathBuf;

    #[test]
    fn the_policy_says_what_the_kernel_does_not_have() {
        let folder = PathBuf::from("/srv/a\x1bb");
        let none = rules_in_words(0, Some(&folder));
        assert!(none.starts_with("this kernel has no Landlock: files, signals"), "{none}");
        let old = rules_in_words(4, Some(&folder));
        assert!(old.contains("signals and abstract sockets are not restricted"), "{old}");
        assert!(old.contains("writes /dev/null /srv/a\\x1bb; "), "{old}");
        let new = rules_in_words(7, None);
        assert!(
            new.ends_with(
                "writes /dev/null; signals and abstract sockets stay inside (Landlock 7)"
            )
        );
    }

    #[test]
    fn a_worker_may_run_for_as_long_as_it_likes() {
        let words = |runs_long| limits_in_words(&limits(runs_long), false);
        assert!(words(false).contains(" s of a processor"));
        assert!(!words(true).contains("processor"));
        assert!(limits_in_words(&limits(false), true).contains("as it runs as root"));
    }
}
