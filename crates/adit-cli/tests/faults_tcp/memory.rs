//! Memory that runs out: a control group that ends whoever takes more.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::press;
use crate::common::{Server, client, read_line, skipped};

/// Row 39: what the control group allows.
const GROUP_BYTES: &str = "67108864";

/// Row 39: processes that the kernel has ended for want of memory.
const KILLED: u64 = 0;

/// A memory control group of version 1 or 2 that is gone after the test.
struct Group(PathBuf);

impl Group {
    /// None where none can be made: not root, or the files are read-only as in many containers.
    fn new() -> Option<Self> {
        let name = format!("adit-test-{}", std::process::id());
        let places = [("memory", "memory.limit_in_bytes"), (".", "memory.max")];
        places.into_iter().find_map(|(place, file)| {
            let group = Path::new("/sys/fs/cgroup").join(place).join(&name);
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(file), GROUP_BYTES).ok().map(|()| group)
        })
    }

    fn members(&self) -> String {
        self.0.join("cgroup.procs").into_os_string().into_string().unwrap()
    }

    /// Processes that the kernel has ended in it.
    fn killed(&self) -> u64 {
        let events = ["memory.oom_control", "memory.events"];
        let text: String =
            events.iter().filter_map(|name| fs::read_to_string(self.0.join(name)).ok()).collect();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty once the server is gone, which may take a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn row_39_in_a_group_of_64_mib_a_server_sheds_and_lives_on() {
    const CLIENTS: usize = 600;
    let Some(group) = Group::new() else {
        return skipped("no memory control group can be made here");
    };
    let script = format!("echo $$ >{}; exec \"$@\" 3>\"$READY\"", group.members());
    let server = Server::start(&script, &["upper", "127.0.0.1:0"]);
    let mut good = client(server.tcp());
    good.write_all(b"before\n").unwrap();
    assert_eq!(read_line(&mut good), "BEFORE\n");
    // 600 of 192 KiB would be 112 MiB.
    let piece = vec![b'x'; 64 << 10];
    let mut crowd: Vec<_> = (0..CLIENTS).map(|_| client(server.tcp())).collect();
    press(&mut crowd, &piece, || {});
    server.program.err.wait_for("(memory)");
    good.write_all(b"meanwhile\n").unwrap();
    assert_eq!(read_line(&mut good), "MEANWHILE\n");
    drop(crowd);
    let mut late = client(server.tcp());
    late.write_all(b"late\n").unwrap();
    assert_eq!(read_line(&mut late), "LATE\n");
    assert_eq!(group.killed(), KILLED);
    drop((good, late));
    let ran = server.stop();
    assert_eq!(ran.status, 0, "{}", ran.err);
}
