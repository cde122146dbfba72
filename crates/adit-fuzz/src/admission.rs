//! Admission: a header of a proxy is whole, not yet whole, or none, and no list lets in whom it should not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use adit_proto::access::{Access, AccessList, Network, Rule, networks};
use adit_proto::escape::is_unsafe;
use adit_proto::proxy::{HEADER_BYTES_MAX, Header, LINE_BYTES_MAX, Version, decode};

use crate::pieces::{byte, number};

pub(crate) fn proxy(data: &[u8]) {
    let whole = decode(data);
    if let Err(error) = &whole {
        assert!(!error.to_string().chars().any(is_unsafe));
    }
    // What was decided stands, whatever follows; what was not needs no more than a header can have.
    let mut decided = None;
    for cut in 0..=data.len().min(HEADER_BYTES_MAX + 1) {
        let answer = decode(&data[..cut]);
        if let Some(decided) = &decided {
            assert_eq!(&answer, decided, "decided anew after {cut} bytes");
        } else if answer != Ok(None) {
            assert_eq!(answer, whole, "decided otherwise after {cut} bytes");
            decided = Some(answer);
        }
    }
    assert!(decided.is_some() || data.len() < HEADER_BYTES_MAX, "waits for ever");
    let Ok(Some((header, bytes))) = whole else { return };
    assert!(bytes <= data.len() && bytes <= HEADER_BYTES_MAX);
    for version in [Version::V1, Version::V2] {
        let mut again = Vec::new();
        header.encode(version, &mut again);
        assert!(again.len() <= LINE_BYTES_MAX);
        // A line has no word for a proxy that speaks for itself.
        let is_lost = (header, version) == (Header::Local, Version::V1);
        let read = if is_lost { Header::Unknown } else { header };
        assert_eq!(decode(&again), Ok(Some((read, again.len()))));
    }
}

pub(crate) fn access(data: &[u8]) {
    let (rules, mut addresses) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => data.split_at(end),
        None => (data, &[][..]),
    };
    let text = String::from_utf8_lossy(rules);
    let networks = match networks(&text) {
        Ok(networks) => networks,
        Err(error) => {
            for said in [error.to_string(), error.hint()] {
                assert!(!said.chars().any(is_unsafe) && said.len() < 1_000, "{said:?}");
            }
            return;
        }
    };
    for network in &networks {
        assert_eq!(network.to_string().parse::<Network>().as_ref(), Ok(network));
    }
    let access = |place: usize| if place % 3 == 1 { Access::Deny } else { Access::Allow };
    let rules = (0..).zip(networks).map(|(place, network)| Rule { network, access: access(place) });
    let list = AccessList::new(rules, Access::Deny);
    while !addresses.is_empty() {
        let address = address(&mut addresses, &list);
        let first = list.rules().iter().find(|rule| rule.network.contains(address));
        let expected = first.map_or(Access::Deny, |rule| rule.access);
        assert_eq!(list.allows(address), expected == Access::Allow, "{address}");
        if let IpAddr::V4(plain) = address {
            let mapped = IpAddr::V6(plain.to_ipv6_mapped());
            assert_eq!(list.allows(mapped), list.allows(address), "{mapped}");
        }
    }
}

/// Any address, or one at the edge of a network that a rule names.
fn address(data: &mut &[u8], list: &AccessList) -> IpAddr {
    let kind = byte(data);
    let rule = usize::from(kind) % list.rules().len().max(1);
    let base = list.rules().get(rule).map(|rule| rule.network.to_string());
    let base = base.as_deref().and_then(|text| text.split('/').next()?.parse().ok());
    match (kind & 0xc0, base) {
        (0x00, Some(IpAddr::V4(base))) => {
            Ipv4Addr::from_bits(base.to_bits().wrapping_sub(1).wrapping_add(u32::from(kind & 3)))
                .into()
        }
        (0x00, Some(IpAddr::V6(base))) => {
            Ipv6Addr::from_bits(base.to_bits().wrapping_sub(1).wrapping_add(u128::from(kind & 3)))
                .into()
        }
        (0x80, _) => {
            Ipv6Addr::from_bits(u128::from(number(data)) << 64 | u128::from(number(data))).into()
        }
        _ => Ipv4Addr::from([byte(data), byte(data), byte(data), byte(data)]).into(),
    }
}
