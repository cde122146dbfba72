//! From an address and the settings of a program to those of one server or one connection.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adit_proto::address::{Keys, TlsMode, TlsOptions};
use adit_tls::{ClientTls, ServerTls};

use super::TlsIo;
use crate::admission::close_refused;
use crate::conn::{Io, Socket};
use crate::listen::bad_address;
use crate::{Address, Blame, Code, Error, Limit, Result};

/// A limit that is off.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn within(limit: Limit<Duration>) -> Duration {
    limit.at().unwrap_or(FAR)
}

fn wrong(address: &Address, what: &str, hint: &str) -> Error {
    let what = format!("{}: {what}", address.spoken());
    Error::new(Code::Usage, Blame::Caller, what).with_hint(hint)
}

/// The settings of one listener: those in its address, else the server's; none if it speaks no TLS.
pub(crate) fn server(address: &Address, shared: Option<&ServerTls>) -> Result<Option<ServerTls>> {
    if !address.tls {
        return Ok(None);
    }
    let options = address.keys.tls().map_err(|error| bad_address(&error))?;
    if matches!(options.mode, TlsMode::Pin(_) | TlsMode::Insecure) {
        let what = "a server trusts nobody by a pin, and is not insecure";
        return Err(wrong(address, what, "whom it lets in: client-ca=FILE"));
    }
    if options.ca.is_some() || options.sni.is_some() {
        let what = "ca and sni are for clients";
        return Err(wrong(address, what, "authorities of client certificates: client-ca=FILE"));
    }
    let mut tls = match (&options, shared) {
        (TlsOptions { cert: Some(cert), key, .. }, _) => {
            ServerTls::files(cert, key.as_ref().unwrap_or(cert))?
        }
        (_, Some(shared)) => shared.clone(),
        _ => {
            let hint = "add cert=FILE,key=FILE to it, or .tls(ServerTls::..) to the server";
            return Err(wrong(address, "TLS needs a certificate", hint));
        }
    };
    if let Some(authorities) = &options.client_ca {
        tls = tls.client_ca(authorities)?;
    }
    if !options.alpn.is_empty() {
        tls = tls.alpn(options.alpn)?;
    }
    Ok(Some(tls))
}

/// What a client needs for handshakes: its settings, and those of the address it connected to last.
#[derive(Clone, Default)]
pub(crate) struct Handshakes {
    shared: Option<ClientTls>,
    /// Files of authorities are read once, not for every connection.
    latest: Arc<Mutex<Option<(Keys, ClientTls)>>>,
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes").finish_non_exhaustive()
    }
}

impl Handshakes {
    pub(crate) fn of(shared: ClientTls) -> Self {
        Self { shared: Some(shared), latest: Arc::default() }
    }

    /// The settings for an address.
    fn client(&self, address: &Address) -> Result<ClientTls> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((keys, tls)) = &*latest
            && *keys == address.keys
        {
            return Ok(tls.clone());
        }
        let tls = client(address, self.shared.as_ref())?;
        *latest = Some((address.keys.clone(), tls.clone()));
        Ok(tls)
    }

    /// Whether the settings for an address can be used: nobody is called before that is known.
    pub(crate) fn ready(&self, address: &Address) -> Result<()> {
        if address.tls { self.client(address).map(drop) } else { Ok(()) }
    }

    /// Reads the files for an address again, for the connections to come. None if there are none.
    pub(crate) fn reload(&self, address: &Address) -> Result<Option<ClientTls>> {
        let options = address.keys.tls().map_err(|error| bad_address(&error))?;
        let is_by_system = self.shared.is_none() && options.mode == TlsMode::Verify;
        if !is_by_system && options.ca.is_none() && options.cert.is_none() {
            return Ok(None);
        }
        // Nobody waits for it who connects meanwhile.
        let tls = client(address, self.shared.as_ref())?;
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = Some((address.keys.clone(), tls.clone()));
        Ok(Some(tls))
    }

    /// Shakes hands over a fresh connection.
    pub(crate) async fn shake(
        &self,
        address: &Address,
        io: Io,
        limit: Limit<Duration>,
    ) -> Result<Io> {
        let tls = self.client(address)?;
        let Io::Plain(socket) = io else { return Ok(io) };
        // A Unix socket has no name of its own; where one is wanted, sni gives it.
        let host = address.host().unwrap_or_else(|| "localhost".to_owned());
        let shaken = tls.connect(socket, &host, Named(address), within(limit)).await;
        let failed = match shaken {
            Ok(stream) => return Ok(Io::Tls(Box::new(TlsIo::new(stream)))),
            Err(failed) => failed,
        };
        let (error, socket) = failed.into_parts();
        if let Some(mut socket) = socket {
            // The peer shall read our alert, and no reset.
            close_refused::<Socket>(&mut socket).await;
        }
        let error = error.with_peer(address.spoken());
        Err(match error.code() {
            Code::HandshakeTimeout => error.with_limit("handshake-timeout"),
            _ => error,
        })
    }
}

/// An address as messages about certificates call it: without the scheme.
struct Named<'a>(&'a Address);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spoken = self.0.spoken();
        f.write_str(spoken.split_once(' ').map_or(spoken.as_str(), |(_, place)| place))
    }
}

fn client(address: &Address, shared: Option<&ClientTls>) -> Result<ClientTls> {
    let options = address.keys.tls().map_err(|error| bad_address(&error))?;
    if options.client_ca.is_some() {
        let what = "client-ca is for servers";
        return Err(wrong(address, what, "authorities of the server's certificate: ca=FILE"));
    }
    let mut tls = match (&options.mode, &options.ca, shared) {
        (TlsMode::Auto, ..) => {
            let what = "tls=auto makes the certificate of a server";
            return Err(wrong(address, what, "to connect to such a server: pin=sha256:.."));
        }
        (TlsMode::Pin(pin), ..) => ClientTls::pinned(pin.parse()?)?,
        (TlsMode::Insecure, ..) => ClientTls::insecure()?,
        (_, Some(file), _) => ClientTls::ca(file)?,
        (_, None, Some(shared)) => shared.clone(),
        _ => ClientTls::system()?,
    };
    match (&options.cert, &options.key) {
        (Some(cert), key) => tls = tls.certificate(cert, key.as_ref().unwrap_or(cert))?,
        (None, Some(_)) => {
            return Err(wrong(address, "a key without its certificate", "add cert=FILE"));
        }
        (None, None) => {}
    }
    if !options.alpn.is_empty() {
        tls = tls.alpn(options.alpn)?;
    }
    match &options.sni {
        Some(name) => tls.sni(name),
        None => Ok(tls),
    }
}
