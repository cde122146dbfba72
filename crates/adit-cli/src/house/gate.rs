//! Gate: who is let in, from the flags to the library, and in words.

use std::io::Read as _;
use std::path::Path;

use adit::access::{Rule, networks};
use adit::tls::ServerTls;
use adit::{Access, AccessList, Endpoint, Forward, Kind, Limit, Limits, Network, Server};
use adit_lab::cut::Cut;

use crate::args::{self, Networks};
use crate::complaint::{quoted, usage};
use crate::connect::size;

/// A file of networks is read up to here; a hundred thousand of them take a fortieth.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Memory for conversations and what they hold: a command is one of many programs of its host.
const MEMORY_BYTES: usize = 256 << 20;
/// Rules that are named where it is said who may come.
const NAMED_MAX: usize = 4;

/// Who is let in.
pub(crate) struct Gate {
    access: Option<AccessList>,
    proxies: Option<Vec<Network>>,
    /// The certificate that the command makes itself.
    tls: Option<ServerTls>,
    limits: Limits,
}

impl Gate {
    /// What the flags say; reads the files they name. `tls` is the certificate the command has made.
    pub(crate) fn of(flags: &args::House, tls: Option<ServerTls>) -> adit::Result<Self> {
        let gate = &flags.gate;
        let proxies = match (gate.proxy_in, gate.proxy_from.is_empty()) {
            (true, true) => {
                let what = "--proxy-in believes nobody without --proxy-from";
                return Err(usage(what, "say where proxies are: --proxy-from 10.0.0.0/24"));
            }
            (false, false) => {
                let what = "--proxy-from does nothing without --proxy-in";
                return Err(usage(what, "add --proxy-in, or leave it out; who may come: --allow"));
            }
            (true, false) => Some(gate.proxy_from.clone()),
            (false, true) => None,
        };
        let limits = Limits {
            conversations: flags.max_conns,
            when_full: match gate.when_full {
                args::WhenFull::Wait => adit::WhenFull::Wait,
                args::WhenFull::Refuse => adit::WhenFull::Refuse,
                args::WhenFull::Shed => adit::WhenFull::Shed,
            },
            per_source: gate.per_source,
            conn_rate: gate.conn_rate,
            memory: Limit::At(MEMORY_BYTES),
            byte_rate: gate.byte_rate,
            ..Limits::default()
        };
        Ok(Self { access: access(&gate.access)?, proxies, tls, limits })
    }

    /// The limits that say who is let in; the others are the library's.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.clone()
    }

    /// Nothing with this address can begin with a header.
    pub(crate) fn fits(&self, address: &adit::Address) -> adit::Result<()> {
        if self.proxies.is_none() || !address.transport.is_datagram() {
            return Ok(());
        }
        let what =
            format!("--proxy-in: no PROXY header comes with datagrams to {}", address.spoken());
        Err(usage(what, "one command for connections, one for datagrams"))
    }

    /// Puts a server behind it.
    pub(crate) fn guard<K: Kind>(&self, mut server: Server<K>) -> Server<K> {
        if let Some(access) = &self.access {
            server = server.access(access.clone());
        }
        if let Some(tls) = &self.tls {
            server = server.tls(tls.clone());
        }
        match &self.proxies {
            Some(proxies) => server.proxy_from(proxies.iter().copied()),
            None => server,
        }
    }

    /// What the limits really are: a cap above what descriptors allow is one that is never met.
    pub(super) fn limits_line(&self, server: &adit::Running) -> String {
        let mut line = format!("limits  {} conversations at once", server.conversations_max());
        if let Some(most) = self.limits.per_source.at() {
            line.push_str(&format!(", {most} of a source"));
        }
        if let Some(rate) = self.limits.conn_rate.at() {
            line.push_str(&format!(", {} new a second of a source", rate.per_second));
        }
        line
    }

    /// Puts a relay behind it.
    pub(crate) fn guard_relay(&self, mut forward: Forward) -> Forward {
        if let Some(access) = &self.access {
            forward = forward.access(access.clone());
        }
        if let Some(tls) = &self.tls {
            forward = forward.tls(tls.clone());
        }
        match &self.proxies {
            Some(proxies) => forward.proxy_from(proxies.iter().copied()),
            None => forward,
        }
    }

    /// Puts a relay that cuts behind it.
    pub(crate) fn guard_cut(&self, mut cut: Cut) -> Cut {
        if let Some(access) = &self.access {
            cut = cut.access(access.clone());
        }
        match &self.proxies {
            Some(proxies) => cut.proxy_from(proxies.iter().copied()),
            None => cut,
        }
    }

    /// Does it show a certificate that the command has made?
    pub(super) fn is_auto(&self, tls: &ServerTls) -> bool {
        self.tls.as_ref().is_some_and(|own| own.pin() == tls.pin())
    }

    /// `, TLS, allowed: 10.0.0.0/8, through proxies at 10.0.0.9, 1 MB/s for each source`; of addresses nothing where everybody may
    /// come, and of a Unix socket, which has none.
    pub(super) fn words(&self, endpoint: &Endpoint, tls: Option<&ServerTls>) -> String {
        let mut words = String::new();
        if let Some(tls) = tls {
            words.push_str(", TLS");
            if self.is_auto(tls) {
                words
                    .push_str(&format!(" with a certificate of its own, pin {}", tls.pin().word()));
            }
            if tls.wants_client_certificates() {
                words.push_str(", clients need a certificate");
            }
        }
        let rate = self.limits.byte_rate.at().map(|rate| size(rate.bytes_per_second));
        if endpoint.socket_addr().is_none() {
            if let Some(rate) = rate {
                words.push_str(&format!(", {rate}/s for each conversation"));
            }
            return words;
        }
        if let Some(access) = &self.access {
            words.push_str(", allowed: ");
            words.push_str(&allowed(access));
        }
        if let Some(proxies) = &self.proxies {
            words.push_str(", through proxies at ");
            words.push_str(&some(proxies.iter().map(ToString::to_string)));
        }
        if let Some(rate) = rate {
            words.push_str(&format!(", {rate}/s for each source"));
        }
        words
    }
}

/// Is there a file among the rules, which may have changed?
pub(super) fn has_files(flags: &args::AccessRules) -> bool {
    flags.0.iter().any(|(_, said)| matches!(said, Networks::File(_)))
}

/// The rules of `--allow` and `--deny`; none without them. Reads the files they name.
pub(super) fn access(flags: &args::AccessRules) -> adit::Result<Option<AccessList>> {
    let mut rules = Vec::new();
    for (access, said) in &flags.0 {
        let networks = match said {
            Networks::One(network) => vec![*network],
            Networks::File(path) => read(path, flag(*access))?,
        };
        rules.extend(networks.into_iter().map(|network| Rule { network, access: *access }));
    }
    // Whoever says who may come means that nobody else may.
    let otherwise = if flags.says_who() { Access::Deny } else { Access::Allow };
    Ok((!flags.0.is_empty()).then(|| AccessList::new(rules, otherwise)))
}

fn flag(access: Access) -> &'static str {
    match access {
        Access::Allow => "--allow",
        Access::Deny => "--deny",
    }
}

/// The networks of a file. An empty one is a slip: it would let in nobody, or everybody.
fn read(path: &Path, flag: &str) -> adit::Result<Vec<Network>> {
    let name = quoted(&path.to_string_lossy());
    let cannot = |error: &std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::InvalidData => "it is no text".to_owned(),
            std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
            _ => error.to_string(),
        };
        usage(format!("{flag}: cannot read {name}: {why}"), "a file has one network a line")
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let what = format!("{flag}: {name} is longer than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(usage(what, "name networks instead of addresses"));
    }
    let found = networks(&text)
        .map_err(|error| usage(format!("{flag}: {name}, {error}"), &error.hint()))?;
    if found.is_empty() {
        let what = format!("{flag}: no network stands in {name}");
        return Err(usage(what, "one a line, as 10.0.0.0/8; or leave the flag out"));
    }
    Ok(found)
}

/// The rules in their order, as far as they are few.
pub(super) fn allowed(list: &AccessList) -> String {
    let is_only = |access| list.rules().iter().all(|rule| rule.access == access);
    if is_only(Access::Deny) {
        return format!(
            "all but {}",
            some(list.rules().iter().map(|rule| rule.network.to_string()))
        );
    }
    some(list.rules().iter().map(|rule| match rule.access {
        Access::Allow => rule.network.to_string(),
        Access::Deny => format!("not {}", rule.network),
    }))
}

/// The first of them, and how many more there are.
fn some(words: impl ExactSizeIterator<Item = String>) -> String {
    let more = words.len().saturating_sub(NAMED_MAX);
    let named: Vec<_> = words.take(NAMED_MAX).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}
