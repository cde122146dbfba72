//! The system calls that no safe wrapper offers. The only place with `unsafe` in adit.
#![expect(unsafe_code, reason = "raw descriptors, ioctl and message headers have no safe face")]

mod messages;

pub(crate) use messages::{HEADERS, Headers, Outgoing, receive, receive_error, send, send_many};

use std::fs::File;
use std::io::{self, Read as _};
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// 64 random bits from the kernel (getrandom(2)).
///
/// # Errors
/// The kernel's sources are not there, as in a broken sandbox. There is no number to use instead: one
/// that is always the same would make all clients retry at the same moment.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    if fill_random(&mut bytes).is_err() {
        // A sandbox that knows no getrandom may still have the older file (random(4)).
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    }
    Ok(u64::from_ne_bytes(bytes))
}

fn fill_random(bytes: &mut [u8; 8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `bytes`, which lives through the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got) == Ok(bytes.len()) {
        Ok(())
    } else {
        // 8 bytes are never cut short (getrandom(2), "Notes").
        Err(io::Error::last_os_error())
    }
}

/// 64 bits that differ between processes and calls, to spread retries; not for secrets.
///
/// Random where the kernel gives random bits. Without them, from what differs anyway: a constant
/// would bring all clients of a server back in the same instant.
pub fn jitter_u64() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    random_u64().unwrap_or_else(|_no_source| {
        RandomState::new().hash_one((std::process::id(), std::thread::current().id()))
    })
}

/// Has a runtime watch a descriptor.
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same open descriptor, closes it only when dropped, and
    // `AsyncFd` drops it only after it has stopped watching.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// Takes over a descriptor that this process inherited.
pub(crate) fn take_descriptor(descriptor: RawFd) -> io::Result<File> {
    if descriptor <= libc::STDERR_FILENO {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard input, output and error are taken",
        ));
    }
    close_on_exec(descriptor)?;
    // SAFETY: the descriptor is open (fcntl just said so). It was named by whoever started this
    // process, for us to own, and is taken before anything else is opened, so it is nobody else's.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Sets the close-on-exec flag; fails if the descriptor is not open.
pub(crate) fn close_on_exec(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer and touches no memory; a bad descriptor is an error.
    match unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives a signal back its default effect.
pub(crate) fn default_signal(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_DFL is no handler: nothing of this process will run in a signal's context.
    match unsafe { libc::signal(signal, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Calls `note` when a signal comes; system calls that it interrupts are made again (signal(7)).
///
/// `note` may do only what signal-safety(7) allows.
pub(crate) fn catch_signal(
    signal: libc::c_int,
    note: extern "C" fn(libc::c_int),
) -> io::Result<()> {
    // SAFETY: all of sigaction is integers and a set of bits, for which zero is a value: no flags and no
    // signal blocked meanwhile.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is whole, its function has the form of a handler without SA_SIGINFO, and the old
    // action is not asked for.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Bytes sent and not acknowledged.
pub(crate) fn outgoing_queue(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the number of TIOCOUTQ, tcp(7)) writes one int, which `bytes` is.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(usize::try_from(bytes).unwrap_or(0)),
    }
}

/// What the kernel knows of a TCP connection. Times in microseconds or milliseconds as named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// The state, numbered as in `include/net/tcp_states.h`: 1 established, 4 FIN-WAIT-1, 8 CLOSE-WAIT.
    pub state: u8,
    /// Both ends are open.
    pub established: bool,
    /// The end of our direction was sent and not acknowledged.
    pub end_unacknowledged: bool,
    /// Smoothed round trip time.
    pub rtt_us: u32,
    /// Its mean deviation.
    pub rtt_variation_us: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
    /// Segments sent and not acknowledged.
    pub unacknowledged_segments: u32,
    /// Time since the last acknowledgement came.
    pub last_ack_ms: u32,
    /// Probes and repetitions in a row that were not answered: 0 as long as the peer's system answers,
    /// also if it takes nothing. Still there when the kernel has given the connection up.
    pub unanswered: u32,
    /// Congestion window in segments.
    pub congestion_window: u32,
    /// Bytes the peer is ready to take; 0 if its window is closed. Kernels before 5.4 do not tell.
    pub send_window: Option<u32>,
    /// Of a listening socket: the connections that may wait to be accepted.
    pub backlog: Option<u32>,
}

/// TCP states (`include/net/tcp_states.h`).
const TCP_ESTABLISHED: u8 = 1;
const TCP_FIN_WAIT1: u8 = 4;
const TCP_LAST_ACK: u8 = 9;
const TCP_LISTEN: u8 = 10;
const TCP_CLOSING: u8 = 11;

/// Reads `TCP_INFO`.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `info`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: tcp_info is integers only, and every byte is zero or written by the kernel.
    let info = unsafe { info.assume_init() };
    // What the kernel is too old to write stays zero, which would look like a closed window.
    let window_end = offset_of!(libc::tcp_info, tcpi_snd_wnd) + size_of_val(&info.tcpi_snd_wnd);
    let has_window = usize::try_from(length).is_ok_and(|written| written >= window_end);
    Ok(TcpInfo {
        state: info.tcpi_state,
        established: info.tcpi_state == TCP_ESTABLISHED,
        end_unacknowledged: [TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_CLOSING].contains(&info.tcpi_state),
        rtt_us: info.tcpi_rtt,
        rtt_variation_us: info.tcpi_rttvar,
        retransmits: info.tcpi_total_retrans,
        unacknowledged_segments: info.tcpi_unacked,
        last_ack_ms: info.tcpi_last_ack_recv,
        unanswered: u32::from(info.tcpi_probes) + u32::from(info.tcpi_retransmits),
        congestion_window: info.tcpi_snd_cwnd,
        send_window: has_window.then_some(info.tcpi_snd_wnd),
        // The kernel uses the fields for another purpose there (`tcp_get_info` in net/ipv4/tcp.c).
        backlog: (info.tcpi_state == TCP_LISTEN).then_some(info.tcpi_sacked),
    })
}

/// Process, user and group at the other end of a Unix socket. A process that this one cannot see has
/// the number 0, which the safe wrappers of this option take for impossible.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(i32, u32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of_val(&peer)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `peer`, which has that many and is
    // integers only.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // A socket that is not connected, or of another family, names nobody.
    if peer.uid == u32::MAX {
        return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
    }
    Ok((peer.pid, peer.uid, peer.gid))
}

/// Datagrams, or attempts to connect, dropped because the queue was full (`SO_MEMINFO`, field `SK_MEMINFO_DROPS`).
pub(crate) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `sock_diag(7)`: the ninth of the u32 fields.
    const SK_MEMINFO_DROPS: usize = 8;
    let mut fields = [0_u32; 16];
    let mut length = libc::socklen_t::try_from(size_of_val(&fields)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `fields`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    fields.get(SK_MEMINFO_DROPS).copied().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// An option of a socket that is switched on or off.
#[derive(Clone, Copy)]
pub(crate) enum Switch {
    /// Leaves the choice of the port to connect (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
    BindAddressNoPort,
    /// Tells where an IPv4 datagram came to (ip(7), `IP_PKTINFO`).
    PacketInfo4,
    /// The same over IPv6 (ipv6(7), `IPV6_RECVPKTINFO`).
    PacketInfo6,
    /// Queues ICMP errors (ip(7), `IP_RECVERR`).
    Errors4,
    /// The same over IPv6 (ipv6(7), `IPV6_RECVERR`).
    Errors6,
}

/// Switches an option on.
pub(crate) fn switch_on(socket: &impl AsRawFd, switch: Switch) -> io::Result<()> {
    let (level, option) = match switch {
        Switch::BindAddressNoPort => (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT),
        Switch::PacketInfo4 => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        Switch::PacketInfo6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        Switch::Errors4 => (libc::IPPROTO_IP, libc::IP_RECVERR),
        Switch::Errors6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the kernel reads one int, which `on` is.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
