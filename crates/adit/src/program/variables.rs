//! The environment of a program, as far as it tells of the peer: numbers, and nothing the peer chose.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::Endpoint;
use crate::conn::Wire;
use crate::endpoint::{Place, Transport};

/// Variables as the guard takes them: `NAME=VALUE` with a NUL behind each.
struct Variables(Vec<u8>);

impl Variables {
    fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        // A name in the abstract namespace may hold one; a variable cannot.
        if !value.contains(&0) {
            for part in [name.as_bytes(), b"=", value, b"\0"] {
                self.0.extend_from_slice(part);
            }
        }
    }

    /// What a server of the family of tcpserver says of an address.
    fn set_address(&mut self, prefix: &str, side: (&str, &str), at: SocketAddr) {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let (theirs, ours) = side;
        self.set(&format!("{prefix}{theirs}IP"), &ip);
        self.set(&format!("{prefix}{theirs}PORT"), &port);
        self.set(&format!("ADIT_{ours}_ADDR"), &ip);
        self.set(&format!("ADIT_{ours}_PORT"), &port);
    }
}

/// Of a connection.
pub(super) fn of_wire(wire: &Wire) -> Vec<u8> {
    let mut variables = of(&wire.remote, wire.local.as_ref(), wire.number);
    set_beside(&mut variables, wire.credentials(), wire.via.as_ref());
    if let Some(tls) = wire.tls() {
        set_tls(&mut variables, tls);
    }
    variables.0
}

/// Of a connection whose socket is given away.
pub(super) fn of_socket(peer: &crate::Peer, socket: &OwnedFd) -> Vec<u8> {
    let is_unix = peer.transport() == Transport::Unix;
    let credentials = is_unix.then(|| adit_net::connect::peer_credentials(socket).ok()).flatten();
    let mut variables = of(peer.remote(), peer.local(), peer.number());
    set_beside(&mut variables, credentials, peer.via());
    variables.0
}

/// Process, user and group at the other end of a Unix socket; the proxy that has named the peer.
fn set_beside(
    variables: &mut Variables,
    credentials: Option<(i32, u32, u32)>,
    via: Option<&Endpoint>,
) {
    if let Some((pid, uid, gid)) = credentials {
        variables.set("UNIXREMOTEEUID", uid.to_string());
        variables.set("UNIXREMOTEEGID", gid.to_string());
        variables.set("UNIXREMOTEPID", pid.to_string());
    }
    if let Some(via) = via {
        variables.set("ADIT_VIA", via.place_text());
    }
}

/// Nothing of what the certificate says: its names are the peer's text.
#[cfg(feature = "tls")]
fn set_tls(variables: &mut Variables, tls: &crate::tls::Info) {
    variables.set("ADIT_TLS_VERSION", tls.version);
    if let Some(certificate) = &tls.peer {
        variables.set("ADIT_TLS_PEER_SHA256", format!("{:x}", certificate.pin));
    }
}

#[cfg(not(feature = "tls"))]
fn set_tls(_variables: &mut Variables, _tls: &crate::tls::Info) {}

/// Of a datagram.
pub(super) fn of_peer(peer: &crate::Peer) -> Vec<u8> {
    of(peer.remote(), peer.local(), peer.number()).0
}

fn of(remote: &Endpoint, local: Option<&Endpoint>, number: u64) -> Variables {
    let mut variables = Variables(Vec::with_capacity(512));
    let proto = match remote.transport() {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        _ => "UNIX",
    };
    variables.set("PROTO", proto);
    variables.set("ADIT_SCHEME", remote.transport().word());
    variables.set("ADIT_CONN", number.to_string());
    if let Some(at) = remote.socket_addr() {
        variables.set_address(proto, ("REMOTE", "PEER"), at);
    }
    match local.map(Endpoint::place) {
        Some(Place::Ip(at)) => variables.set_address(proto, ("LOCAL", "LOCAL"), *at),
        Some(Place::Path(path)) => {
            variables.set("UNIXLOCALPATH", path);
            variables.set("ADIT_LOCAL_ADDR", path);
        }
        Some(Place::Abstract(name)) => {
            let name = [b"@", &**name].concat();
            variables.set("UNIXLOCALPATH", &name);
            variables.set("ADIT_LOCAL_ADDR", &name);
        }
        _ => {}
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Place, Transport, of};

    fn said(remote: &Endpoint, local: &Endpoint) -> String {
        String::from_utf8(of(remote, Some(local), 7).0).unwrap().replace('\0', " ")
    }

    #[test]
    fn addresses_are_numbers_in_both_families() {
        let end = |text: &str| Endpoint::ip(Transport::Tcp, text.parse().unwrap());
        assert_eq!(
            said(&end("[::ffff:10.0.0.1]:4711"), &end("[fe80::1%3]:80")),
            "PROTO=TCP ADIT_SCHEME=tcp ADIT_CONN=7 TCPREMOTEIP=10.0.0.1 TCPREMOTEPORT=4711 \
             ADIT_PEER_ADDR=10.0.0.1 ADIT_PEER_PORT=4711 TCPLOCALIP=fe80::1 TCPLOCALPORT=80 \
             ADIT_LOCAL_ADDR=fe80::1 ADIT_LOCAL_PORT=80 "
        );
    }

    #[test]
    fn a_name_that_the_peer_chose_is_not_told() {
        let named = |place| Endpoint::named(Transport::Unix, place);
        let peer = named(Place::Path(b"() { :;}; evil".as_slice().into()));
        let local = named(Place::Path(b"/run/a".as_slice().into()));
        let said = said(&peer, &local);
        assert!(!said.contains("evil"), "{said}");
        assert!(said.contains("UNIXLOCALPATH=/run/a "), "{said}");
    }
}
