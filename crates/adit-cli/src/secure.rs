//! TLS on the command line: flags fill in what an address leaves open.

use std::path::PathBuf;

use adit::address::TlsMode;
use adit::system::process::hide_memory;
use adit::tls::ServerTls;
use adit::{Address, Blame, Code, Error, Result};

use crate::args::Tls;
use crate::complaint::usage;
use crate::say::Voice;

/// A flag with the option of an address that it stands for, and what was written behind it.
type Flag<'a> = (&'static str, Option<&'a String>);

/// Fills in the flags of a client; warns where nobody is checked.
pub(crate) fn clients<'a>(
    addresses: impl IntoIterator<Item = &'a mut Address>,
    flags: &Tls,
    voice: &Voice,
) -> Result<()> {
    let own = [
        ("ca", flags.ca.as_ref()),
        ("sni", flags.sni.as_ref()),
        ("alpn", flags.alpn.as_ref()),
        ("cert", flags.cert.as_ref()),
        ("key", flags.key.as_ref()),
    ];
    let addresses = fill(addresses, flags.tls.as_deref(), &own)?;
    if flags.client_ca.is_some() {
        return Err(usage("--client-ca is for servers", "authorities of a server: --ca FILE"));
    }
    keep_secret(addresses.iter().any(|address| address.keys.has("cert")))?;
    for address in addresses {
        if mode(address)? == TlsMode::Insecure {
            let what = format!(
                "insecure: whoever stands between here and {} can read and change everything",
                address.spoken()
            );
            voice.warn(&what);
        }
    }
    Ok(())
}

/// Fills in the flags of a server; gives the certificate that it makes itself, if it shall.
pub(crate) fn servers<'a>(
    addresses: impl IntoIterator<Item = &'a mut Address>,
    flags: &Tls,
) -> Result<Option<ServerTls>> {
    let own = [
        ("client-ca", flags.client_ca.as_ref()),
        ("alpn", flags.alpn.as_ref()),
        ("cert", flags.cert.as_ref()),
        ("key", flags.key.as_ref()),
    ];
    let addresses = fill(addresses, flags.tls.as_deref(), &own)?;
    for (flag, is_there) in [("--ca", flags.ca.is_some()), ("--sni", flags.sni.is_some())] {
        if is_there {
            let hint = "authorities of client certificates: --client-ca FILE";
            return Err(usage(format!("{flag} is for clients"), hint));
        }
    }
    // A server has a key in any case.
    keep_secret(!addresses.is_empty())?;
    let mut is_auto = false;
    for address in addresses {
        match (mode(address)?, address.keys.has("cert")) {
            (TlsMode::Auto, false) => is_auto = true,
            (TlsMode::Auto, true) => {
                let what = format!("{}: one certificate is enough", address.spoken());
                return Err(usage(what, "leave out --cert, or --tls=auto, which makes one"));
            }
            (_, true) => {}
            (_, false) => {
                let what = format!("{}: TLS needs a certificate", address.spoken());
                return Err(usage(what, "--cert FILE --key FILE, or --tls=auto makes one"));
            }
        }
    }
    if is_auto { ServerTls::auto(data_folder()?).map(Some) } else { Ok(None) }
}

/// Fills in the flags of a relay: some are for the end that listens, some for the one that connects.
pub(crate) fn relay(
    listen: &mut [Address],
    target: &mut Address,
    flags: &Tls,
    voice: &Voice,
) -> Result<Option<ServerTls>> {
    // A certificate of its own is made where it listens, and trust is for the target.
    let is_auto = flags.tls.as_deref() == Some("auto");
    let speaks = |how: bool| flags.tls.clone().filter(|_| how);
    let (cert, key, alpn) = (flags.cert.clone(), flags.key.clone(), flags.alpn.clone());
    let (ca, sni, client_ca) = (flags.ca.clone(), flags.sni.clone(), flags.client_ca.clone());
    clients([target], &Tls { tls: speaks(!is_auto), ca, sni, ..Tls::default() }, voice)?;
    servers(listen, &Tls { tls: speaks(is_auto), cert, key, client_ca, alpn, ..Tls::default() })
}

/// Fills in, gives the addresses that speak TLS; refuses flags that none of them has a use for.
fn fill<'a>(
    addresses: impl IntoIterator<Item = &'a mut Address>,
    how: Option<&str>,
    flags: &[Flag<'_>],
) -> Result<Vec<&'a Address>> {
    let mut secured = Vec::new();
    for address in addresses {
        if let Some(how) = how {
            speak(address, how)?;
        }
        if !address.tls {
            continue;
        }
        // A key belongs to its certificate.
        let has_own = address.keys.has("cert");
        for (name, value) in flags.iter().filter(|(name, _)| !has_own || *name != "key") {
            if let Some(value) = value {
                address.keys.fill(name, value).map_err(|error| {
                    usage(format!("--{name}: {error}"), &error.hint().unwrap_or_default())
                })?;
            }
        }
        secured.push(&*address);
    }
    match flags.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) if secured.is_empty() => {
            let what = format!("--{name} is for TLS, and nothing here speaks it");
            Err(usage(what, "write tls:// in front of the address, or add --tls"))
        }
        _ => Ok(secured),
    }
}

fn speak(address: &mut Address, how: &str) -> Result<()> {
    if address.transport.is_datagram() {
        let what = format!("--tls is for connections, and {} is for datagrams", address.spoken());
        return Err(usage(what, "one command for each"));
    }
    address.tls = true;
    // A pin in the address says already whom to trust.
    if address.keys.has("pin") {
        return Ok(());
    }
    address
        .keys
        .fill("tls", how)
        .map_err(|error| usage(format!("--{error}"), &error.hint().unwrap_or_default()))
}

/// Hides the memory of this process before a key comes into it. The command does that, and the library
/// does not: what else is in a process, and who looks into it, is for its program to know.
fn keep_secret(has_key: bool) -> Result<()> {
    if !has_key {
        return Ok(());
    }
    hide_memory().map_err(|error| {
        let what = "cannot keep the memory of this process to itself, where the key will be";
        Error::new(Code::Internal, Blame::Local, what).with_source(error)
    })
}

fn mode(address: &Address) -> Result<TlsMode> {
    let options = address.keys.tls();
    options.map(|options| options.mode).map_err(|error| usage(error.to_string(), ""))
}

/// Where programs keep what they have made for a user (XDG Base Directory).
fn data_folder() -> Result<PathBuf> {
    let of =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = of("XDG_DATA_HOME").or_else(|| of("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("adit")).ok_or_else(|| {
        let what = "no folder for the certificate: neither XDG_DATA_HOME nor HOME is set";
        Error::new(Code::Config, Blame::Caller, what).with_hint("bring one: --cert FILE --key FILE")
    })
}
