//! Binding Unix sockets, and the file that a bound socket leaves in the file system.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::listen::BACKLOG;
use crate::unix::UnixName;

/// The file of a Unix socket; removed on drop if it is still the one that was made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Holds the file, so that its number cannot go to another one: some file systems give the
    /// number of a removed file to the next one at once, and that may be the socket of our successor.
    file: OwnedFd,
}

impl SocketFile {
    /// Takes note of the socket that was just bound at `path`.
    fn of(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds the permissions that the process's umask took away at bind. The file is only ever opened
    /// further, and it is the file that was bound, whatever stands at its path by now.
    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let is = rustix::fs::fstat(&self.file)?.st_mode;
        if is & 0o777 == mode & 0o777 {
            return Ok(());
        }
        // A descriptor that is merely a place cannot be given to fchmod (open(2), `O_PATH`).
        let place = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        fs::set_permissions(place, fs::Permissions::from_mode(mode & 0o777))
    }

    fn is_in_place(&self) -> bool {
        let Ok(ours) = rustix::fs::fstat(&self.file) else {
            return false;
        };
        fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _turn = take_turn(&self.path);
        // Somebody else's socket may have taken the place meanwhile.
        if self.is_in_place() {
            // Left behind it is replaced by the next server.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Listens on a Unix stream socket. `mode` are the permissions of its file, whatever the umask.
///
/// A file left behind by a server that is gone is replaced; one that answers is not, and neither is
/// any file that is no socket. Of several servers that find the same file at the same time one wins.
///
/// # Errors
/// "Address in use" if a server answers there; the directory is missing or not writable; the name is
/// too long.
pub fn unix(name: &UnixName, mode: u32) -> io::Result<(UnixListener, Option<SocketFile>)> {
    // A socket that is bound and does not listen yet looks like one left behind.
    let _turn = name.path().map(take_turn);
    let (socket, file) = bind(name, mode, SocketType::STREAM)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

/// Binds a Unix datagram socket; as [`unix`].
///
/// # Errors
/// As [`unix`].
pub fn unix_datagram(name: &UnixName, mode: u32) -> io::Result<(UnixDatagram, Option<SocketFile>)> {
    let _turn = name.path().map(take_turn);
    let (socket, file) = bind(name, mode, SocketType::DGRAM)?;
    Ok((socket.into(), file))
}

fn bind(name: &UnixName, mode: u32, kind: SocketType) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let socket = socket_with(AddressFamily::UNIX, kind, FLAGS, None)?;
    // The mode of the unbound socket, less the umask, becomes that of the file: there is no moment at
    // which others could connect.
    fchmod(&socket, Mode::from_raw_mode(mode & 0o777))?;
    let path = match name {
        UnixName::Path(_) => name.path().ok_or(io::ErrorKind::InvalidInput)?,
        UnixName::Abstract(name) => {
            rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
            return Ok((socket, None));
        }
    };
    let address = SocketAddrUnix::new(path)?;
    if let Err(error) = rustix::net::bind(&socket, &address) {
        if error != Errno::ADDRINUSE || !is_stale(path, kind) {
            return Err(error.into());
        }
        fs::remove_file(path)?;
        rustix::net::bind(&socket, &address)?;
    }
    let file = SocketFile::of(path)?;
    file.set_mode(mode)?;
    Ok((socket, Some(file)))
}

/// Is the file a socket that nobody answers at?
fn is_stale(path: &Path, kind: SocketType) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return false;
    }
    let Ok(probe) = socket_with(AddressFamily::UNIX, kind, FLAGS, None) else {
        return false;
    };
    let Ok(address) = SocketAddrUnix::new(path) else {
        return false;
    };
    rustix::net::connect(probe.as_fd(), &address) == Err(Errno::CONNREFUSED)
}

/// Makes servers that bind and unbind in one directory at the same time do so one after the other:
/// else two could both find a file stale, and the slower one remove the socket the other has just made.
///
/// It is a lock on the directory itself, so there is no file to leave behind, and only who may read
/// the directory can hold it. Somebody who holds it on purpose delays a start by 100 ms, no more.
fn take_turn(path: &Path) -> Option<OwnedFd> {
    const TRIES: u32 = 100;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = parent.unwrap_or_else(|| Path::new("."));
    let directory = rustix::fs::open(place, flags, Mode::empty()).ok()?;
    for _ in 0..TRIES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            // A waiting flock has no limit of its own.
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
        }
    }
    None
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

// Miri knows no Unix sockets.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::{unix, unix_datagram};
    use crate::unix::UnixName;
    use std::io::ErrorKind;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::sync::Barrier;

    /// A directory of this test's own, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("adit-{name}-{}", std::process::id()));
            drop(std::fs::remove_dir_all(&path));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn socket(&self) -> (PathBuf, UnixName) {
            let path = self.0.join("s");
            let name = UnixName::Path(path.as_os_str().as_bytes().into());
            (path, name)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = Directory::new("stale");
        let (path, name) = directory.socket();
        let stale = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(stale);
        let (_listener, file) = unix(&name, 0o600).unwrap();
        assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(unix(&name, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_datagram_socket_is_replaced_too() {
        let directory = Directory::new("dgram");
        let (path, name) = directory.socket();
        drop(std::os::unix::net::UnixDatagram::bind(&path).unwrap());
        let (_socket, _file) = unix_datagram(&name, 0o600).unwrap();
        assert_eq!(unix_datagram(&name, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let directory = Directory::new("file");
        let (path, name) = directory.socket();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(unix(&name, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_socket_that_was_replaced_meanwhile_is_left_alone() {
        let directory = Directory::new("replaced");
        let (path, name) = directory.socket();
        let (listener, file) = unix(&name, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop((listener, file));
        assert!(path.exists());
    }

    #[test]
    fn a_successor_with_the_same_file_number_is_left_alone() {
        let directory = Directory::new("successor");
        let (path, name) = directory.socket();
        let (listener, file) = unix(&name, 0o600).unwrap();
        // With the socket closed, only the guard keeps the number of the removed file from going to
        // the next one.
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn of_servers_that_find_a_stale_file_together_one_wins() {
        for _ in 0..50 {
            let directory = Directory::new("race");
            let (path, name) = directory.socket();
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let start = Barrier::new(4);
            let results: Vec<_> = std::thread::scope(|scope| {
                let bind = || {
                    start.wait();
                    unix(&name, 0o600)
                };
                let servers: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                servers.into_iter().map(|server| server.join().unwrap()).collect()
            });
            assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
            // The one that won is the one that clients reach.
            std::os::unix::net::UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn the_mode_is_the_one_asked_for_whatever_the_umask() {
        let directory = Directory::new("mode");
        let (path, name) = directory.socket();
        for mode in [0o600, 0o660, 0o666] {
            let (_listener, _file) = unix(&name, mode).unwrap();
            assert_eq!(path.symlink_metadata().unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn an_abstract_name_has_no_file_and_one_owner() {
        let name = format!("adit-owner-{}", std::process::id());
        let name = UnixName::Abstract(name.as_bytes().into());
        let (_listener, file) = unix(&name, 0o600).unwrap();
        assert!(file.is_none());
        assert_eq!(unix(&name, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
