//! Messages with their addresses: recvmmsg(2), sendmmsg(2), packet info and the error queue.
//!
//! Headers are built for one call on the stack and point into buffers that outlive the call.
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes of kernel structures and batches, far below 2^32"
)]

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use socket2::SockAddr;

use crate::datagram::Local;

/// Datagrams taken or given by one system call.
pub(crate) const HEADERS: usize = 16;
/// Longest datagram there is, on any transport served here.
const DATAGRAM_BYTES: usize = 65_535;
/// Room for packet info of both families, or for one extended error with its address.
const CONTROL_BYTES: usize = 256;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The memory that [`receive`] fills: buffers, addresses and control data of one batch.
pub(crate) struct Headers {
    buffers: Box<[u8]>,
    names: Box<[libc::sockaddr_storage; HEADERS]>,
    controls: Box<[Control; HEADERS]>,
    arrived: Vec<Arrived>,
}

/// One datagram of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) bytes: usize,
    pub(crate) truncated: bool,
    pub(crate) from: SockAddr,
    pub(crate) local: Option<Local>,
    pub(crate) to_everybody: bool,
}

impl Headers {
    pub(crate) fn new() -> Self {
        // SAFETY: sockaddr_storage is integers only; all zeroes is the unspecified address.
        let name: libc::sockaddr_storage = unsafe { zeroed() };
        Self {
            buffers: vec![0; HEADERS * DATAGRAM_BYTES].into_boxed_slice(),
            names: Box::new([name; HEADERS]),
            controls: Box::new([Control([0; CONTROL_BYTES]); HEADERS]),
            arrived: Vec::with_capacity(HEADERS),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.arrived.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], &Arrived)> {
        let arrived = self.arrived.get(index)?;
        let start = index * DATAGRAM_BYTES;
        Some((self.buffers.get(start..start + arrived.bytes)?, arrived))
    }

    pub(crate) fn clear(&mut self) {
        self.arrived.clear();
    }
}

/// Receives what is there, at most [`HEADERS`] datagrams; never waits.
pub(crate) fn receive(socket: BorrowedFd<'_>, headers: &mut Headers) -> io::Result<usize> {
    headers.arrived.clear();
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; HEADERS];
    // SAFETY: mmsghdr is pointers and integers; all zeroes is an empty message.
    let mut messages: [libc::mmsghdr; HEADERS] = unsafe { zeroed() };
    let buffers = headers.buffers.chunks_exact_mut(DATAGRAM_BYTES);
    for (index, buffer) in buffers.enumerate() {
        vectors[index] =
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        header.msg_name = (&raw mut headers.names[index]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_control = headers.controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES;
    }
    // SAFETY: every header points to memory in `vectors` and `headers` that lives through the call
    // and is as long as the header says.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            HEADERS as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let Ok(received) = usize::try_from(received) else {
        return Err(io::Error::last_os_error());
    };
    for (index, message) in messages.iter().enumerate().take(received) {
        let header = &message.msg_hdr;
        let (local, to_everybody) = local_of(header);
        headers.arrived.push(Arrived {
            bytes: (message.msg_len as usize).min(DATAGRAM_BYTES),
            truncated: header.msg_flags & libc::MSG_TRUNC != 0,
            // SAFETY: the kernel wrote `msg_namelen` bytes of an address into this name.
            from: unsafe { SockAddr::new(headers.names[index].into_socket2(), header.msg_namelen) },
            local,
            to_everybody,
        });
    }
    Ok(received)
}

/// Where a datagram came to, from its control data. A socket for both families gets both kinds of
/// packet info about an IPv4 datagram; IPv4's own is the better one, because it names an address of
/// ours (`ipi_spec_dst`) where the header's destination (`ipi_addr`) is a broadcast. True if it was a
/// broadcast or multicast.
fn local_of(header: &libc::msghdr) -> (Option<Local>, bool) {
    let (mut v4, mut v6) = (None, None);
    for_each_control(header, |level, kind, data| match (level, kind) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => v4 = read::<libc::in_pktinfo>(data),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => v6 = read::<libc::in6_pktinfo>(data),
        _ => {}
    });
    let is_shared = v4.is_some_and(|info| info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr);
    let v4 = v4.map(|info| {
        let ip = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
        (ip, u32::try_from(info.ipi_ifindex).unwrap_or(0))
    });
    let v6 = v6.map(|info| (Ipv6Addr::from(info.ipi6_addr.s6_addr), info.ipi6_ifindex));
    match (v4, v6) {
        (Some((ip, interface)), None) => (Some(Local { ip: ip.into(), interface }), is_shared),
        (Some((ip, interface)), Some(_)) => {
            (Some(Local { ip: ip.to_ipv6_mapped().into(), interface }), is_shared)
        }
        // No datagram can leave from a multicast address (RFC 4291, section 2.7).
        (None, Some((ip, _))) if ip.is_multicast() => (None, true),
        (None, Some((ip, interface))) => (Some(Local { ip: ip.into(), interface }), false),
        (None, None) => (None, false),
    }
}

/// Walks the control messages that the kernel wrote behind a header.
fn for_each_control(header: &libc::msghdr, mut each: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: `msg_control` points to `msg_controllen` bytes written by the kernel (or to none).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: the macros only give headers that lie whole within the control data.
        let control = unsafe { *next };
        // SAFETY: as above; the data follows the header.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: pointer arithmetic within one header, on no memory.
        let header_bytes = unsafe { libc::CMSG_LEN(0) } as usize;
        let bytes = control.cmsg_len.saturating_sub(header_bytes).min(CONTROL_BYTES);
        // SAFETY: `cmsg_len` bytes from the header's start were written by the kernel, and they are
        // not written to while the slice lives.
        each(control.cmsg_level, control.cmsg_type, unsafe {
            std::slice::from_raw_parts(data, bytes)
        });
        // SAFETY: both arguments come from this header.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
}

/// Kernel structures of integers, for which every pattern of bits is a value.
trait Plain: Copy {}
impl Plain for libc::in_pktinfo {}
impl Plain for libc::in6_pktinfo {}
impl Plain for libc::sock_extended_err {}

fn read<T: Plain>(data: &[u8]) -> Option<T> {
    if data.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: there are enough bytes, `T` is plain, and the read asks for no alignment.
    Some(unsafe { ptr::read_unaligned(data.as_ptr().cast()) })
}

/// A datagram on its way out: its bytes, whom it is for, and which of our addresses it leaves from.
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) to: &'a SockAddr,
    pub(crate) from: Option<Local>,
}

/// Sends one datagram; never waits.
pub(crate) fn send(socket: BorrowedFd<'_>, outgoing: &Outgoing<'_>) -> io::Result<()> {
    match send_many(socket, std::slice::from_ref(outgoing))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Sends as many of the datagrams, at most [`HEADERS`], as the kernel takes; never waits. An error
/// is that of the first one.
pub(crate) fn send_many(socket: BorrowedFd<'_>, batch: &[Outgoing<'_>]) -> io::Result<usize> {
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; HEADERS];
    let mut controls = [MaybeUninit::<Control>::uninit(); HEADERS];
    // SAFETY: mmsghdr is pointers and integers; all zeroes is an empty message.
    let mut messages: [libc::mmsghdr; HEADERS] = unsafe { zeroed() };
    let count = batch.len().min(HEADERS);
    for (index, outgoing) in batch.iter().enumerate().take(count) {
        let bytes = outgoing.bytes;
        // The kernel reads through this pointer and does not write.
        vectors[index] =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut messages[index].msg_hdr;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
        header.msg_name = outgoing.to.as_ptr().cast_mut().cast();
        header.msg_namelen = outgoing.to.len();
        if let Some(local) = outgoing.from {
            let control = controls[index].write(Control([0; CONTROL_BYTES]));
            leave_from(header, control, local);
        }
    }
    // SAFETY: every header points to memory that lives through the call and is as long as it says.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Makes a datagram leave from `local` (ip(7) `IP_PKTINFO`, ipv6(7) `IPV6_PKTINFO`). The interface is
/// named only where the address alone does not say it.
fn leave_from(header: &mut libc::msghdr, control: &mut Control, local: Local) {
    match local.ip {
        IpAddr::V4(ip) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put_control(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            let interface = if ip.is_unicast_link_local() { local.interface } else { 0 };
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: interface,
            };
            put_control(header, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

fn put_control<T: Plain>(
    header: &mut libc::msghdr,
    control: &mut Control,
    level: i32,
    kind: i32,
    info: T,
) {
    let bytes = size_of::<T>() as libc::c_uint;
    // SAFETY: arithmetic on a size.
    let space = unsafe { libc::CMSG_SPACE(bytes) } as usize;
    assert!(space <= CONTROL_BYTES, "packet info fits the control buffer");
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = space;
    // SAFETY: the control buffer is larger than one header, so the first one is there.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: arithmetic on a size.
    let length = unsafe { libc::CMSG_LEN(bytes) } as usize;
    let head = libc::cmsghdr { cmsg_len: length, cmsg_level: level, cmsg_type: kind };
    // SAFETY: `first` points to the start of the control buffer, which is aligned for a header.
    unsafe { ptr::write(first, head) };
    // SAFETY: the data of a header within the buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: `space` bytes are there, which covers the header and `T`; no alignment is asked.
    unsafe { ptr::write_unaligned(data.cast(), info) };
}

/// The next error that an ICMP message brought: whom the datagram was for, and the error number.
/// `None` when there is none (ip(7), `IP_RECVERR`).
pub(crate) fn receive_error(socket: BorrowedFd<'_>) -> io::Result<Option<(SockAddr, i32)>> {
    // SAFETY: sockaddr_storage is integers only.
    let mut name: libc::sockaddr_storage = unsafe { zeroed() };
    let mut control = Control([0; CONTROL_BYTES]);
    let mut byte = [0_u8; 1];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: msghdr is pointers and integers; all zeroes is an empty message.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to memory that lives through the call and is as long as it says.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } == -1 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let mut errno = 0;
    for_each_control(&header, |level, kind, data| {
        let is_error = (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
            || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
        if is_error && let Some(error) = read::<libc::sock_extended_err>(data) {
            errno = i32::try_from(error.ee_errno).unwrap_or(0);
        }
    });
    // SAFETY: the kernel wrote `msg_namelen` bytes of an address into `name`.
    let to = unsafe { SockAddr::new(name.into_socket2(), header.msg_namelen) };
    Ok(Some((to, errno)))
}

/// The same storage under the name socket2 has for it.
trait IntoSocket2 {
    fn into_socket2(self) -> socket2::SockAddrStorage;
}

impl IntoSocket2 for libc::sockaddr_storage {
    fn into_socket2(self) -> socket2::SockAddrStorage {
        let mut storage = socket2::SockAddrStorage::zeroed();
        // SAFETY: the storage is documented to be viewable as this type on this system.
        *unsafe { storage.view_as::<Self>() } = self;
        storage
    }
}
