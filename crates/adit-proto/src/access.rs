//! Access: who may come, as a list of networks of which the first that holds an address decides.
//!
//! Rules are written in an order and looked up in none: the list is flattened once into ranges that do
//! not overlap, and a look-up is one binary search, whatever the number of rules. IPv4-mapped IPv6
//! addresses (RFC 4291, section 2.5.5.2) are IPv4 everywhere, in rules and in what is looked up: a
//! socket of both families would else show a client in a form that no rule was written for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::escape::escape_line;

/// A network: an address and how many of its leading bits count, as in `10.0.0.0/8`; an address alone is
/// a network of one.
///
/// ```
/// use adit_proto::access::Network;
/// let network: Network = "10.0.0.0/8".parse().unwrap();
/// assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert_eq!("::ffff:10.0.0.0/104".parse(), Ok(network));
/// assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

/// Why a word is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Not an address in front of the slash.
    #[error("\"{}\" is no address and no network", shown(word))]
    Address {
        /// What was written.
        word: String,
    },
    /// Not a number of bits behind the slash.
    #[error("\"{}\" has no prefix length from 0 to {most}", shown(word))]
    Prefix {
        /// What was written.
        word: String,
        /// The longest of this family.
        most: u8,
    },
    /// Bits are set that do not count: one of the two is a slip.
    #[error("\"{}\" has bits set behind its prefix; the network is {meant}", shown(word))]
    HostBits {
        /// What was written.
        word: String,
        /// The network it is in.
        meant: Network,
    },
}

impl NetworkError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Address { .. } => "write 10.1.2.3, 10.0.0.0/8 or fd00::/8, no names".to_owned(),
            Self::Prefix { .. } => "write 10.0.0.0/8 or fd00::/8".to_owned(),
            Self::HostBits { meant, .. } => {
                format!("write {meant}, or the address without a prefix")
            }
        }
    }
}

impl Network {
    /// The network of the first `prefix_bits` of an address; none if the family has not so many.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (family, bits) = key(address);
        let canonical = address.to_canonical();
        // The prefix of a mapped address counts its 96 leading bits too.
        let prefix_bits = if canonical.is_ipv4() && address.is_ipv6() {
            prefix_bits.checked_sub(96)?
        } else {
            prefix_bits
        };
        let host_bits = family.bits().checked_sub(prefix_bits)?;
        Some(Self { base: family.address(bits & !low_bits(host_bits)), prefix_bits })
    }

    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, bits) = key(address);
        let (of, first, last) = self.range();
        family == of && (first..=last).contains(&bits)
    }

    /// Every address of its family.
    pub fn is_everything(&self) -> bool {
        self.prefix_bits == 0
    }

    /// First and last address, as numbers.
    fn range(&self) -> (Family, u128, u128) {
        let (family, first) = key(self.base);
        let host_bits = family.bits().saturating_sub(self.prefix_bits);
        (family, first, first | low_bits(host_bits))
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let word = || text.chars().take(WORD_CHARS_MAX).collect::<String>();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(NetworkError::Address { word: word() });
        };
        let Some(prefix) = prefix else { return Ok(Self::from(address)) };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let bits = prefix.parse::<u8>().ok().filter(|bits| is_number && *bits <= most);
        let Some(bits) = bits else { return Err(NetworkError::Prefix { word: word(), most }) };
        // A prefix that cuts through the mapped range is none of IPv4 and holds no address that is looked
        // up: it stays a network of IPv6.
        let network = Self::new(address, bits).or_else(|| {
            let base = v6_bits(address) & !low_bits(128_u8.checked_sub(bits)?);
            Some(Self { base: Family::V6.address(base), prefix_bits: bits })
        });
        let Some(network) = network else {
            return Err(NetworkError::Prefix { word: word(), most });
        };
        if network.base == address.to_canonical() || network.base == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { word: word(), meant: network })
        }
    }
}

impl From<IpAddr> for Network {
    /// The network of one address.
    fn from(address: IpAddr) -> Self {
        let base = address.to_canonical();
        Self { base, prefix_bits: key(base).0.bits() }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == key(self.base).0.bits() {
            return write!(f, "{}", self.base);
        }
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// May somebody come?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "one may or may not")]
pub enum Access {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// One line of an [`AccessList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a network, and what is said of it")]
pub struct Rule {
    /// Whom it speaks of.
    pub network: Network,
    /// What it says.
    pub access: Access,
}

/// Who may come: rules of which the first that holds an address decides, and what holds for the rest.
///
/// ```
/// use adit_proto::access::{Access, AccessList, Rule};
/// let office = AccessList::allow_only(["10.0.0.0/8".parse().unwrap()]);
/// assert!(office.allows("10.1.2.3".parse().unwrap()));
/// assert!(!office.allows("192.0.2.1".parse().unwrap()));
///
/// let but_one = AccessList::new(
///     [
///         Rule { network: "10.6.6.6".parse().unwrap(), access: Access::Deny },
///         Rule { network: "10.0.0.0/8".parse().unwrap(), access: Access::Allow },
///     ],
///     Access::Deny,
/// );
/// assert!(!but_one.allows("10.6.6.6".parse().unwrap()));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccessList {
    rules: Vec<Rule>,
    otherwise: Access,
    v4: Table,
    v6: Table,
}

impl AccessList {
    /// A list of rules, and what holds for whom no rule speaks of.
    pub fn new(rules: impl IntoIterator<Item = Rule>, otherwise: Access) -> Self {
        let rules: Vec<_> = rules.into_iter().collect();
        let table = |family| Table::new(&rules, family, otherwise);
        Self { v4: table(Family::V4), v6: table(Family::V6), rules, otherwise }
    }

    /// Only these; an empty list lets nobody in.
    pub fn allow_only(networks: impl IntoIterator<Item = Network>) -> Self {
        let allow = |network| Rule { network, access: Access::Allow };
        Self::new(networks.into_iter().map(allow), Access::Deny)
    }

    /// Everybody but these.
    pub fn deny_only(networks: impl IntoIterator<Item = Network>) -> Self {
        let deny = |network| Rule { network, access: Access::Deny };
        Self::new(networks.into_iter().map(deny), Access::Allow)
    }

    /// May this address come?
    pub fn allows(&self, address: IpAddr) -> bool {
        let (family, bits) = key(address);
        let table = if family == Family::V4 { &self.v4 } else { &self.v6 };
        table.access(bits).unwrap_or(self.otherwise) == Access::Allow
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What holds for whom no rule speaks of.
    pub fn otherwise(&self) -> Access {
        self.otherwise
    }
}

impl fmt::Debug for AccessList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessList")
            .field("rules", &self.rules.len())
            .field("otherwise", &self.otherwise)
            .finish_non_exhaustive()
    }
}

/// Where a text of networks is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
#[non_exhaustive]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong in it.
    pub why: WordError,
}

/// What is wrong in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordError {
    /// A word is no network.
    #[error(transparent)]
    Network(NetworkError),
    /// A second word in one line.
    #[error("\"{}\" is one word too many", shown(word))]
    Further {
        /// That word.
        word: String,
    },
}

impl LineError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match &self.why {
            WordError::Network(error) => error.hint(),
            WordError::Further { .. } => "one network a line, remarks behind a #".to_owned(),
        }
    }
}

/// Reads networks from a text, one a line; empty lines and what stands behind a `#` are passed over.
///
/// # Errors
/// The first line that is something else, by its number.
///
/// ```
/// use adit_proto::access::networks;
/// assert_eq!(networks("# the office\n10.0.0.0/8  # all of it\n\n::1\n").unwrap().len(), 2);
/// let error = networks("10.0.0.0/8\n10.0.0.0/33\n").unwrap_err();
/// assert_eq!(error.to_string(), "line 2: \"10.0.0.0/33\" has no prefix length from 0 to 32");
/// ```
pub fn networks(text: &str) -> Result<Vec<Network>, LineError> {
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split_once('#').map_or(content, |(rule, _remark)| rule);
        let mut words = content.split_whitespace();
        let Some(word) = words.next() else { continue };
        let failed = |why| LineError { line, why };
        found.push(word.parse().map_err(|error| failed(WordError::Network(error)))?);
        if let Some(word) = words.next() {
            let word = word.chars().take(WORD_CHARS_MAX).collect();
            return Err(failed(WordError::Further { word }));
        }
    }
    Ok(found)
}

/// A word of a user, or of a file, as it is safe to print.
fn shown(word: &str) -> String {
    escape_line(word.as_bytes(), WORD_CHARS_MAX)
}

/// So much of a word is kept for the text of an error.
const WORD_CHARS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn address(self, bits: u128) -> IpAddr {
        match self {
            // Of an IPv4 address no higher bit was ever set.
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// An address as a number of its family.
fn key(address: IpAddr) -> (Family, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits())),
        IpAddr::V6(address) => (Family::V6, address.to_bits()),
    }
}

fn v6_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A number whose lowest bits are set.
fn low_bits(count: u8) -> u128 {
    let space = 128_u8.saturating_sub(count);
    u128::MAX.checked_shr(u32::from(space)).unwrap_or(0)
}

/// The addresses of a family in ranges that do not overlap: each begins where it is written and ends
/// before the next.
#[derive(Clone, PartialEq, Eq)]
struct Table(Vec<(u128, Access)>);

/// A network that reaches over the place the sweep has come to, and the first rule that holds in it.
struct Covering {
    last: u128,
    rule: usize,
    access: Access,
}

impl Table {
    /// Networks lie in each other or apart, never across: one sweep in order of their first address,
    /// with those that still reach further on a stack.
    fn new(rules: &[Rule], family: Family, otherwise: Access) -> Self {
        let mut spans: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (rule.network.range(), index, rule.access))
            .filter(|((of, ..), ..)| *of == family)
            .map(|((_, first, last), index, access)| (first, last, index, access))
            .collect();
        spans.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
        let mut table = Self(vec![(0, otherwise)]);
        let mut stack: Vec<Covering> = Vec::new();
        for (first, last, rule, access) in spans {
            table.leave(&mut stack, otherwise, |ends| ends < first);
            let own = Covering { last, rule, access };
            let holds = match stack.last() {
                Some(outer) if outer.rule < rule => {
                    Covering { last, rule: outer.rule, access: outer.access }
                }
                _ => own,
            };
            table.begin(first, holds.access);
            stack.push(holds);
        }
        table.leave(&mut stack, otherwise, |_| true);
        table
    }

    /// Takes networks from the stack that have ended.
    fn leave(
        &mut self,
        stack: &mut Vec<Covering>,
        otherwise: Access,
        is_over: impl Fn(u128) -> bool,
    ) {
        while let Some(ended) = stack.pop_if(|covering| is_over(covering.last)) {
            let access = stack.last().map_or(otherwise, |outer| outer.access);
            // Nothing comes behind the last address of all.
            if let Some(next) = ended.last.checked_add(1) {
                self.begin(next, access);
            }
        }
    }

    fn begin(&mut self, first: u128, access: Access) {
        match self.0.last_mut() {
            Some(last) if last.0 == first => last.1 = access,
            Some(last) if last.1 == access => {}
            _ => self.0.push((first, access)),
        }
    }

    fn access(&self, address: u128) -> Option<Access> {
        let next = self.0.partition_point(|(first, _)| *first <= address);
        self.0.get(next.checked_sub(1)?).map(|(_, access)| *access)
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, AccessList, Network, Rule, networks};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn list(rules: &[(&str, Access)], otherwise: Access) -> AccessList {
        let rule =
            |(text, access): &(&str, Access)| Rule { network: network(text), access: *access };
        AccessList::new(rules.iter().map(rule), otherwise)
    }

    fn allows(list: &AccessList, address: &str) -> bool {
        list.allows(address.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_holds_an_address_decides() {
        use Access::{Allow, Deny};
        let rules = [("10.1.0.0/16", Deny), ("10.1.2.0/24", Allow), ("10.0.0.0/8", Allow)];
        let list = list(&rules, Deny);
        assert!(!allows(&list, "10.1.2.3"), "the wider rule stands in front");
        assert!(allows(&list, "10.2.0.1"));
        assert!(!allows(&list, "11.0.0.0"));
        assert!(!allows(&list, "9.255.255.255"));
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        let list = AccessList::allow_only([network("::ffff:192.0.2.0/120")]);
        assert!(allows(&list, "192.0.2.9") && allows(&list, "::ffff:192.0.2.9"));
        assert!(!allows(&list, "::192.0.2.9"), "that is another address");
        let list = AccessList::deny_only([network("192.0.2.0/24")]);
        assert!(!allows(&list, "::ffff:192.0.2.9"));
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let list = AccessList::allow_only([network("::/0")]);
        assert!(allows(&list, "::1") && allows(&list, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert!(!allows(&list, "127.0.0.1") && !allows(&list, "::ffff:127.0.0.1"));
        let list = AccessList::allow_only([network("0.0.0.0/0")]);
        assert!(allows(&list, "255.255.255.255") && allows(&list, "0.0.0.0"));
        assert!(!allows(&list, "::1"));
    }

    #[test]
    fn an_empty_list_lets_in_nobody_or_everybody_as_it_says() {
        assert!(!allows(&AccessList::allow_only([]), "127.0.0.1"));
        assert!(allows(&AccessList::deny_only([]), "::1"));
    }

    #[test]
    fn what_is_no_network_is_refused_by_its_word() {
        for (text, why) in [
            ("", "\"\" is no address and no network"),
            ("localhost", "\"localhost\" is no address and no network"),
            ("10.0.0", "\"10.0.0\" is no address and no network"),
            ("010.0.0.1", "\"010.0.0.1\" is no address and no network"),
            ("fe80::1%eth0", "\"fe80::1%eth0\" is no address and no network"),
            ("10.0.0.0/", "\"10.0.0.0/\" has no prefix length from 0 to 32"),
            ("10.0.0.0/+8", "\"10.0.0.0/+8\" has no prefix length from 0 to 32"),
            ("10.0.0.0/8/9", "\"10.0.0.0/8/9\" has no prefix length from 0 to 32"),
            ("::/129", "\"::/129\" has no prefix length from 0 to 128"),
            (
                "10.1.0.0/8",
                "\"10.1.0.0/8\" has bits set behind its prefix; the network is 10.0.0.0/8",
            ),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.to_string(), why);
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_hostile_word_prints_as_text() {
        let error = "\x1b[2J\n/8".parse::<Network>().unwrap_err().to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }

    #[test]
    fn a_file_is_refused_by_its_line() {
        let error = networks("10.0.0.0/8\n\n# so\n::1 ::2\n").unwrap_err();
        assert_eq!(error.to_string(), "line 4: \"::2\" is one word too many");
        assert_eq!(networks("\u{feff}::1").unwrap_err().line, 1);
        assert_eq!(networks("#\r\n  ::1\t#x\r\n").unwrap(), [network("::1")]);
    }

    #[test]
    fn a_hundred_thousand_rules_are_one_search() {
        let rule = |n: u32| Rule {
            network: Network::from(IpAddr::V4(Ipv4Addr::from_bits(n * 2))),
            access: Access::Deny,
        };
        let list = AccessList::new((0..100_000).map(rule), Access::Allow);
        assert_eq!(list.v4.0.len(), 200_000, "one range for each rule and one for each gap");
        assert!(!list.allows(Ipv4Addr::from_bits(199_998).into()));
        assert!(list.allows(Ipv4Addr::from_bits(199_999).into()));
    }

    fn any_network() -> impl Strategy<Value = Network> {
        // Few bits, so that networks meet.
        let v4 = (0u32..256, 24u8..=32).prop_map(|(low, bits)| (IpAddr::V4(low.into()), bits));
        let v6 = (0u128..256, 120u8..=128)
            .prop_map(|(low, bits)| (IpAddr::V6(Ipv6Addr::from_bits(low << 64 | low)), bits));
        prop_oneof![v4, v6].prop_map(|(address, bits)| Network::new(address, bits).unwrap())
    }

    proptest! {
        #[test]
        fn the_table_says_what_a_walk_over_the_rules_says(
            rules in prop::collection::vec((any_network(), any::<bool>()), 0..20),
            asked in prop::collection::vec(0u128..256, 1..30),
            otherwise in any::<bool>(),
        ) {
            let access = |allow| if allow { Access::Allow } else { Access::Deny };
            let rules: Vec<_> =
                rules.into_iter().map(|(network, allow)| Rule { network, access: access(allow) }).collect();
            let list = AccessList::new(rules.clone(), access(otherwise));
            for low in asked {
                let v4 = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(low).unwrap()));
                let v6 = IpAddr::V6(Ipv6Addr::from_bits(low << 64 | low));
                for address in [v4, v6] {
                    let first = rules.iter().find(|rule| rule.network.contains(address));
                    let said = first.map_or_else(|| access(otherwise), |rule| rule.access);
                    prop_assert_eq!(list.allows(address), said == Access::Allow);
                }
            }
        }

        #[test]
        fn a_network_reads_back_as_it_prints(network in any_network()) {
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            drop(networks(&text));
        }
    }
}
