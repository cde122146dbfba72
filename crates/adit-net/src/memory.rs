//! Memory: how much of it this process may take.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The memory that this process may take, in bytes: what the host has, what its control group may take
/// (cgroups(7), `memory.max`, or `memory.limit_in_bytes` of version 1), or what `RLIMIT_AS` leaves it,
/// whichever is least. Reaching any of them ends the process. None if the system does not tell.
pub fn limit() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| host_bytes(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group_limit(&groups, Path::new("/sys/fs/cgroup"));
    let addresses = getrlimit(Resource::As).current;
    [host, group, addresses].into_iter().flatten().min()
}

/// `MemTotal` of /proc/meminfo (proc(5)).
fn host_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit among the group that /proc/self/cgroup names and those above it.
fn group_limit(groups: &str, mount: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        // hierarchy-ID:controller-list:cgroup-path
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        match controllers {
            "" => least_above(&mount.join(path), mount, "memory.max"),
            list if list.split(',').any(|controller| controller == "memory") => {
                let mount = mount.join("memory");
                least_above(&mount.join(path), &mount, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The least number in the files of one name from a folder up to the mount. Inside a container the path
/// may be that of the host: folders that are not there are passed over.
fn least_above(folder: &Path, mount: &Path, name: &str) -> Option<u64> {
    let above = folder.ancestors().take_while(|folder| folder.starts_with(mount));
    let number = |folder: &Path| -> Option<u64> {
        let file: PathBuf = folder.join(name);
        // "max" is no number, and no limit.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    above.filter_map(number).min()
}

#[cfg(test)]
mod tests {
    use super::{group_limit, host_bytes, limit};
    use std::fs;

    #[test]
    fn the_host_tells_what_it_has() {
        assert_eq!(
            host_bytes("MemFree: 1 kB\nMemTotal:       24609412 kB\n"),
            Some(25_200_037_888)
        );
        assert_eq!(host_bytes("MemFree: 1 kB\n"), None);
        assert!(limit().unwrap() > 1 << 20);
    }

    #[test]
    fn the_least_limit_above_counts_in_either_version() {
        let mount = std::env::temp_dir().join(format!("adit-groups-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let file = mount.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "max\n");
        write("a/b/c/memory.max", "3000\n");
        assert_eq!(group_limit("0::/a/b/c\n", &mount), Some(1000));
        assert_eq!(group_limit("0::/\n", &mount), None);
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/x/memory.limit_in_bytes", "2000\n");
        let groups = "5:cpu,cpuacct:/x\n4:memory:/x/gone\n0::/\n";
        assert_eq!(group_limit(groups, &mount), Some(2000));
        fs::remove_dir_all(mount).unwrap();
    }
}
