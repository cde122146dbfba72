//! From an address to listening sockets, and what to say when there are none.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::FileTypeExt as _;

use adit_net::accept::Listener;
use adit_net::listen::SocketFile;
use adit_net::owner::{self, Protocol};
use adit_net::stream::Options;
use adit_net::unix::UnixName;
use adit_net::{datagram, listen};
use adit_proto::address::{Place, Role, SocketOptions};

use crate::endpoint::{self, Endpoint, Transport};
use crate::ready::{ReadyDatagrams, ReadyListener};
use crate::tls::{self, ServerTls};
use crate::{Address, AddressError, Blame, Code, Error, Limits, Result};

/// What a server can be told to listen on: the text of an address, with its scheme, or an address.
pub trait ToAddress {
    /// The address.
    ///
    /// # Errors
    /// The text is none.
    fn to_address(&self) -> Result<Address>;
}

impl ToAddress for Address {
    fn to_address(&self) -> Result<Address> {
        Ok(self.clone())
    }
}

impl ToAddress for str {
    fn to_address(&self) -> Result<Address> {
        self.parse().map_err(|error| bad_address(&error))
    }
}

impl ToAddress for String {
    fn to_address(&self) -> Result<Address> {
        self.as_str().to_address()
    }
}

/// Where a server really listens can be connected to: `client.connect(running.addr(0))`.
impl ToAddress for Endpoint {
    fn to_address(&self) -> Result<Address> {
        let place = match self.place() {
            endpoint::Place::Ip(address) => Place::Ip(*address),
            endpoint::Place::Path(path) => Place::Path(text_of(path, self)?),
            endpoint::Place::Abstract(name) => Place::Abstract(text_of(name, self)?),
            _ => return Err(usage(&format!("{self} is no address"))),
        };
        Ok(Address::new(self.transport(), place))
    }
}

fn text_of(name: &[u8], endpoint: &Endpoint) -> Result<String> {
    let text = std::str::from_utf8(name);
    text.map(str::to_owned).map_err(|_no_text| usage(&format!("the name of {endpoint} is no text")))
}

impl<A: ToAddress + ?Sized> ToAddress for &A {
    fn to_address(&self) -> Result<Address> {
        (**self).to_address()
    }
}

pub(crate) fn usage(error: &dyn fmt::Display) -> Error {
    Error::new(Code::Usage, Blame::Caller, error.to_string())
}

/// What is wrong with an address, and what to write instead.
pub(crate) fn bad_address(error: &AddressError) -> Error {
    let failure = usage(error);
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// A socket that a server listens on, as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Door {
    /// Its address.
    pub endpoint: Endpoint,
    /// Over IPv6, and never over IPv4.
    pub is_v6_only: bool,
    /// Bytes it answers per byte of a datagram peer that is not on loopback; none where there is no
    /// such bound.
    pub amplification: Option<u32>,
}

/// The sockets of one `listen` call: first what is asked for, then what was bound.
pub(crate) struct Doors {
    address: Option<Address>,
    /// The stream sockets; the first thread takes them, so that the descriptors told of stay theirs.
    listeners: Vec<Listener>,
    /// The same once more, for each further thread.
    clones: Vec<Vec<Listener>>,
    /// Per address the group of sockets, one for each thread.
    datagrams: Vec<Vec<Option<DatagramDoor>>>,
    /// Removes the files of Unix sockets when the server is gone.
    files: Vec<SocketFile>,
    pub(crate) amplify: Option<u32>,
    pub(crate) tls: Option<ServerTls>,
}

/// A bound datagram socket that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) enum DatagramDoor {
    Udp(UdpSocket),
    Unix(std::os::unix::net::UnixDatagram),
}

impl DatagramDoor {
    pub(crate) fn socket(&self) -> Option<(Endpoint, i32)> {
        match self {
            Self::Udp(socket) => {
                let address = socket.local_addr().ok()?;
                Some((Endpoint::ip(Transport::Udp, address), socket.as_raw_fd()))
            }
            Self::Unix(socket) => {
                let name = UnixName::of_std(&socket.local_addr().ok()?)?;
                let endpoint = Endpoint::named(Transport::UnixDatagram, unix_place(&name));
                Some((endpoint, socket.as_raw_fd()))
            }
        }
    }
}

impl Doors {
    pub(crate) fn streams(address: &impl ToAddress) -> Result<Self> {
        let address = address.to_address()?;
        if address.transport.is_datagram() {
            return Err(usage(&format!("{address} is for datagrams: use listen_datagrams")));
        }
        Self::new(address)
    }

    pub(crate) fn datagrams(address: &impl ToAddress) -> Result<Self> {
        let address = address.to_address()?;
        if !address.transport.is_datagram() {
            return Err(usage(&format!("{address} is for connections: use listen")));
        }
        Self::new(address)
    }

    pub(crate) fn ready(listener: ReadyListener) -> Self {
        let mut doors = Self::empty();
        doors.listeners.push(listener.0);
        doors
    }

    /// A socket is one thread's: whoever opened it has not opened a group, over which peers are spread.
    pub(crate) fn ready_datagrams(socket: ReadyDatagrams) -> Self {
        let mut doors = Self::empty();
        doors.datagrams.push(vec![Some(socket.0)]);
        doors
    }

    fn new(address: Address) -> Result<Self> {
        address.check(Role::Listen).map_err(|error| bad_address(&error))?;
        let amplify = address.keys.options().map_err(|error| bad_address(&error))?.amplify;
        Ok(Self { address: Some(address), amplify, ..Self::empty() })
    }

    const fn empty() -> Self {
        Self {
            address: None,
            listeners: Vec::new(),
            clones: Vec::new(),
            datagrams: Vec::new(),
            files: Vec::new(),
            amplify: None,
            tls: None,
        }
    }

    /// Settles whether it speaks TLS, and how.
    pub(crate) fn secure(&mut self, shared: Option<&ServerTls>) -> Result<()> {
        if let Some(address) = &self.address {
            self.tls = tls::server(address, shared)?;
        }
        Ok(())
    }

    /// Binds the stream sockets for so many threads; gives their real addresses.
    pub(crate) fn open(&mut self, threads: usize) -> Result<Vec<Endpoint>> {
        if let Some(address) = self.address.clone() {
            self.bind_streams(&address).map_err(|error| cannot_listen(&address, &error))?;
        }
        for listener in &self.listeners {
            let failed = |error| {
                Error::new(Code::Internal, Blame::Caller, "the listening socket cannot be used")
                    .with_source(error)
            };
            listener.set_nonblocking().map_err(failed)?;
        }
        let clones = |_thread| self.listeners.iter().map(Listener::try_clone).collect();
        let clones: io::Result<_> = (1..threads).map(clones).collect();
        self.clones = clones.map_err(|error| {
            Error::new(Code::NoDescriptors, Blame::Local, "cannot share a listening socket")
                .with_source(error)
        })?;
        Ok(self.listeners.iter().map(endpoint_of).collect())
    }

    fn bind_streams(&mut self, address: &Address) -> io::Result<()> {
        let settings = settings(address)?;
        let options = socket_options(&settings);
        match &address.place {
            Place::Loopback(port) => {
                let both = listen::tcp_loopback(*port, &options)?;
                self.listeners.extend(both.into_iter().map(Listener::from));
            }
            Place::Any(port) if !settings.v6only => {
                self.listeners.push(listen::tcp_any(*port, &options)?.into());
            }
            Place::Path(_) | Place::Abstract(_) => {
                let name = unix_name(&address.place);
                let (listener, file) = listen::unix(&name, settings.mode.unwrap_or(0o600))?;
                self.listeners.push(listener.into());
                self.files.extend(file);
            }
            place => {
                for address in resolve(place)? {
                    self.listeners.push(listen::tcp(address, settings.v6only, &options)?.into());
                }
            }
        }
        Ok(())
    }

    /// Binds the datagram sockets, one per thread; gives their real addresses.
    pub(crate) fn open_datagrams(&mut self, threads: usize) -> Result<Vec<Endpoint>> {
        let Some(address) = self.address.clone() else {
            if let Some(DatagramDoor::Udp(socket)) =
                self.datagrams.iter().flatten().flatten().next()
            {
                // Else an answer could leave from another address than the one that was asked.
                datagram::adopt(socket).map_err(|error| {
                    Error::new(Code::Internal, Blame::Caller, "the datagram socket cannot be used")
                        .with_source(error)
                })?;
            }
            return Ok(self.sockets().into_iter().map(|(endpoint, _)| endpoint).collect());
        };
        self.bind_datagrams(&address, threads).map_err(|error| cannot_listen(&address, &error))
    }

    fn bind_datagrams(&mut self, address: &Address, threads: usize) -> io::Result<Vec<Endpoint>> {
        let settings = settings(address)?;
        let options = socket_options(&settings);
        let groups = match &address.place {
            Place::Loopback(port) => datagram::udp_loopback(*port, threads, &options)?,
            Place::Any(port) if !settings.v6only => {
                vec![datagram::udp_any(*port, threads, &options)?]
            }
            Place::Path(_) | Place::Abstract(_) => {
                let name = unix_name(&address.place);
                let (socket, file) = listen::unix_datagram(&name, settings.mode.unwrap_or(0o600))?;
                self.files.extend(file);
                // One socket, one thread: Unix knows no group.
                self.datagrams.push(vec![Some(DatagramDoor::Unix(socket))]);
                let place = unix_place(&name);
                return Ok(vec![Endpoint::named(Transport::UnixDatagram, place)]);
            }
            place => {
                let group =
                    |address| datagram::udp_group(address, threads, settings.v6only, &options);
                resolve(place)?.into_iter().map(group).collect::<io::Result<_>>()?
            }
        };
        let mut endpoints = Vec::new();
        for group in groups {
            if let Some(first) = group.first() {
                endpoints.push(Endpoint::ip(Transport::Udp, first.local_addr()?));
            }
            let sockets = group.into_iter().map(|socket| Some(DatagramDoor::Udp(socket)));
            self.datagrams.push(sockets.collect());
        }
        Ok(endpoints)
    }

    /// The bound sockets: where each listens, and its descriptor.
    pub(crate) fn sockets(&self) -> Vec<(Endpoint, i32)> {
        let streams = self.listeners.iter().map(|it| (endpoint_of(it), it.as_fd().as_raw_fd()));
        let datagrams = self.datagrams.iter().flatten().flatten();
        streams.chain(datagrams.filter_map(DatagramDoor::socket)).collect()
    }

    /// Was it bound here, and not by somebody else?
    pub(crate) fn is_own(&self) -> bool {
        self.address.is_some()
    }

    /// Each socket as it really is, groups as one.
    pub(crate) fn describe(&self, limits: &Limits) -> Vec<Door> {
        let streams = self.listeners.iter().map(|listener| Door {
            endpoint: endpoint_of(listener),
            is_v6_only: listen::is_v6_only(listener),
            amplification: None,
        });
        let amplification = self.amplify.or_else(|| limits.amplification.at());
        let first = |group: &Vec<Option<DatagramDoor>>| {
            let door = group.first()?.as_ref()?;
            let (endpoint, _) = door.socket()?;
            let is_v6_only =
                matches!(door, DatagramDoor::Udp(socket) if listen::is_v6_only(socket));
            let amplification = amplification.filter(|_| !matches!(door, DatagramDoor::Unix(_)));
            Some(Door { endpoint, is_v6_only, amplification })
        };
        streams.chain(self.datagrams.iter().filter_map(first)).collect()
    }

    /// The listening sockets of a thread.
    pub(crate) fn listeners(&mut self, thread: usize) -> Vec<Listener> {
        match thread.checked_sub(1) {
            None => std::mem::take(&mut self.listeners),
            Some(further) => self.clones.get_mut(further).map(std::mem::take).unwrap_or_default(),
        }
    }

    /// The datagram sockets of a thread.
    pub(crate) fn datagram_sockets(&mut self, thread: usize) -> Vec<DatagramDoor> {
        let of_thread = |group: &mut Vec<Option<DatagramDoor>>| group.get_mut(thread)?.take();
        self.datagrams.iter_mut().filter_map(of_thread).collect()
    }

    /// The files to remove when the server is gone.
    pub(crate) fn take_files(&mut self) -> Vec<SocketFile> {
        std::mem::take(&mut self.files)
    }
}

fn settings(address: &Address) -> io::Result<SocketOptions> {
    address.keys.options().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

pub(crate) fn socket_options(settings: &SocketOptions) -> Options {
    Options {
        send_buffer: settings.send_buffer,
        receive_buffer: settings.receive_buffer,
        ttl: settings.ttl,
        tos: settings.tos,
        broadcast: settings.broadcast,
    }
}

/// The addresses of a place; a name is asked of the system, which may take a while.
fn resolve(place: &Place) -> io::Result<Vec<SocketAddr>> {
    match place {
        Place::Ip(address) => Ok(vec![*address]),
        Place::Name(name, port) => Ok((name.as_str(), *port).to_socket_addrs()?.collect()),
        Place::Any(port) => Ok(vec![(std::net::Ipv6Addr::UNSPECIFIED, *port).into()]),
        _ => Ok(Vec::new()),
    }
}

pub(crate) fn unix_name(place: &Place) -> UnixName {
    match place {
        Place::Abstract(name) => UnixName::Abstract(name.as_bytes().into()),
        Place::Path(path) => UnixName::Path(path.as_bytes().into()),
        other => UnixName::Path(format!("{other:?}").into_bytes().into()),
    }
}

pub(crate) fn unix_place(name: &UnixName) -> endpoint::Place {
    match name {
        UnixName::Path(path) => endpoint::Place::Path(path.clone()),
        UnixName::Abstract(name) => endpoint::Place::Abstract(name.clone()),
    }
}

/// Where a listener really listens.
pub(crate) fn endpoint_of(listener: &Listener) -> Endpoint {
    if let Some(address) = listener.ip_address() {
        return Endpoint::ip(Transport::Tcp, address);
    }
    let name = listener.unix_name();
    let place = name.map_or(endpoint::Place::Unnamed, |name| unix_place(&name));
    Endpoint::named(Transport::Unix, place)
}

/// Says why nothing listens there, and what to do about it.
fn cannot_listen(address: &Address, error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    let spoken = address.spoken();
    let is_unix = address.port().is_none();
    let (code, why, hint) = match error.kind() {
        Kind::AddrInUse => in_use(address),
        Kind::AddrNotAvailable => {
            let hint = "use an address of this host, or :PORT for all of them";
            (Code::NoAddress, "this host has no such address".to_owned(), hint)
        }
        Kind::PermissionDenied => {
            let low = address.port().is_some_and(|port| (1..1024).contains(&port));
            let hint = match (is_unix, low) {
                (true, _) => "its folder must be writable for this user: choose another one",
                (false, true) => "use a port from 1024 on, or the right CAP_NET_BIND_SERVICE",
                (false, false) => "choose another port, or ask who administers this host",
            };
            (Code::Denied, "permission denied".to_owned(), hint)
        }
        Kind::NotFound | Kind::NotADirectory if is_unix => {
            (Code::NoAddress, "no such directory".to_owned(), "make the directory first")
        }
        Kind::InvalidInput => (Code::Usage, error.to_string(), ""),
        _ if matches!(address.place, Place::Name(..)) && error.raw_os_error().is_none() => {
            let hint = "check the spelling, or use :PORT for all addresses of this host";
            (Code::Name, "the name is not found".to_owned(), hint)
        }
        _ => (crate::code_of(error), error.to_string(), ""),
    };
    let what = format!("cannot listen on {spoken}: {why}");
    let failure = Error::new(code, Blame::Local, what).with_peer(&spoken);
    if hint.is_empty() { failure } else { failure.with_hint(hint) }
}

/// Somebody has the address: who, if that can be told, or what is in its place.
fn in_use(address: &Address) -> (Code, String, &'static str) {
    let name = match address.transport {
        Transport::Tcp | Transport::Udp => {
            let why = format!("address in use{}", holder(address));
            return (Code::InUse, why, "any free port: use port 0");
        }
        _ => unix_name(&address.place),
    };
    // Not what a link points to: the link itself is in the way.
    let there = name.path().and_then(|path| path.symlink_metadata().ok());
    if there.is_some_and(|there| !there.file_type().is_socket()) {
        let why = "there is a file that is no socket".to_owned();
        return (Code::InUse, why, "choose another name");
    }
    let why = format!("address in use{}", owner::of_unix(&name).map(held_by).unwrap_or_default());
    (Code::InUse, why, "choose another name, or stop the program that listens there")
}

/// `; held by pid 4312 "node"`, if that can be told.
fn holder(address: &Address) -> String {
    let protocol = match address.transport {
        Transport::Tcp => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    let owners = owner::of_port(protocol, address.port().unwrap_or_default());
    let named = |owner: owner::Owner| Some((owner.pid?, owner.program.unwrap_or_default()));
    owners.into_iter().find_map(named).map(held_by).unwrap_or_default()
}

fn held_by((pid, program): (u32, String)) -> String {
    let program = adit_proto::escape::escape_line(program.as_bytes(), 32);
    format!("; held by pid {pid} \"{program}\"")
}
