//! Listening sockets: TCP in both families, Unix by path or abstract name.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use socket2::{Domain, Socket, Type};

use crate::stream::Options;
use crate::unix::UnixName;

/// Connections the kernel queues before accept; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How often a port that is free for both loopback addresses is looked for.
pub(crate) const LOOPBACK_TRIES: u32 = 16;

/// Listens on one address. `v6only` says whether an IPv6 wildcard leaves IPv4 alone.
///
/// A port whose last connections are still in `TIME_WAIT` can be taken again at once (socket(7),
/// `SO_REUSEADDR`); one that somebody listens on cannot.
///
/// # Errors
/// The address is taken, not ours or not permitted.
pub fn tcp(address: SocketAddr, v6only: bool, options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(v6only)?;
    }
    options.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listens on both loopback addresses under one port: IPv4 first, then IPv6 if this host has it.
/// Port 0 finds a port that is free for both.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_loopback(port: u16, options: &Options) -> io::Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        let first = tcp((Ipv4Addr::LOCALHOST, port).into(), false, options)?;
        let bound = first.local_addr()?.port();
        match tcp((Ipv6Addr::LOCALHOST, bound).into(), true, options) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) if has_no_ipv6(&error) => return Ok(vec![first]),
            Err(_) if port == 0 && tries < LOOPBACK_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Listens on every address of both families: one socket for both, or IPv4 alone on a host without
/// IPv6.
///
/// # Errors
/// As [`tcp`].
pub fn tcp_any(port: u16, options: &Options) -> io::Result<TcpListener> {
    match tcp((Ipv6Addr::UNSPECIFIED, port).into(), false, options) {
        Err(error) if has_no_ipv6(&error) => {
            tcp((Ipv4Addr::UNSPECIFIED, port).into(), false, options)
        }
        listener => listener,
    }
}

/// Does the error say that this host has no IPv6, or none on loopback?
pub(crate) fn has_no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT)
    )
}

/// The file of a Unix socket; removed on drop if it is still the one that was made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else's socket may have taken the place meanwhile.
        let ours = |file: &fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(|file| ours(&file)) {
            // Left behind it is replaced by the next server.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Listens on a Unix stream socket. `mode` are the permissions of its file.
///
/// A file left behind by a server that is gone is replaced; one that answers is not, and neither is
/// any file that is no socket.
///
/// # Errors
/// "Address in use" if a server answers there; the directory is missing or not writable; the name is
/// too long.
pub fn unix(name: &UnixName, mode: u32) -> io::Result<(UnixListener, Option<SocketFile>)> {
    let (socket, file) = bind_unix(name, mode, SocketType::STREAM)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

/// Binds a Unix datagram socket; as [`unix`].
///
/// # Errors
/// As [`unix`].
pub fn unix_datagram(name: &UnixName, mode: u32) -> io::Result<(UnixDatagram, Option<SocketFile>)> {
    let (socket, file) = bind_unix(name, mode, SocketType::DGRAM)?;
    Ok((socket.into(), file))
}

fn bind_unix(
    name: &UnixName,
    mode: u32,
    kind: SocketType,
) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // The mode of the unbound socket becomes that of the file: there is no moment at which others
    // could connect.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    let Some(path) = name.path() else {
        let UnixName::Abstract(name) = name else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new_abstract_name(name)?)?;
        return Ok((socket, None));
    };
    let address = rustix::net::SocketAddrUnix::new(path)?;
    if let Err(error) = rustix::net::bind(&socket, &address) {
        if error != rustix::io::Errno::ADDRINUSE || !is_stale(path, kind) {
            return Err(error.into());
        }
        fs::remove_file(path)?;
        rustix::net::bind(&socket, &address)?;
    }
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    Ok((socket, Some(file)))
}

/// Is the file a socket that nobody answers at?
fn is_stale(path: &Path, kind: SocketType) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return false;
    }
    let flags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
    let Ok(probe) = socket_with(AddressFamily::UNIX, kind, flags, None) else {
        return false;
    };
    let Ok(address) = rustix::net::SocketAddrUnix::new(path) else {
        return false;
    };
    let answer = rustix::net::connect(probe.as_fd(), &address);
    answer == Err(rustix::io::Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::{tcp, tcp_any, tcp_loopback, unix, unix_datagram};
    use crate::stream::Options;
    use crate::unix::UnixName;
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpStream};
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

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
    fn loopback_gives_both_families_one_port() {
        let listeners = tcp_loopback(0, &Options::default()).unwrap();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn a_wildcard_is_reached_over_ipv4() {
        let listener = tcp_any(0, &Options::default()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        let first = tcp((Ipv4Addr::LOCALHOST, 0).into(), false, &Options::default()).unwrap();
        let again = tcp(first.local_addr().unwrap(), false, &Options::default());
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
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
}
