//! Race: in which order the addresses of one name are tried (RFC 8305, section 4).

use std::net::SocketAddr;
use std::time::Duration;

/// How long one address has to answer before the next one is tried beside it (RFC 8305, section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Orders addresses so that the families take turns, each in the order the resolver gave, the family
/// of the first address leading.
///
/// ```
/// use adit_proto::race::interleave;
/// let given = ["[::1]:7", "[::2]:7", "127.0.0.1:7"].map(|a| a.parse().unwrap());
/// let order = interleave(&given).iter().map(ToString::to_string).collect::<Vec<_>>();
/// assert_eq!(order, ["[::1]:7", "127.0.0.1:7", "[::2]:7"]);
/// ```
pub fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let leads = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == leads);
    first.reverse();
    second.reverse();
    let mut order = Vec::with_capacity(addresses.len());
    while let Some(address) = first.pop() {
        order.push(address);
        order.extend(second.pop());
    }
    second.reverse();
    order.extend(second);
    order
}

#[cfg(test)]
mod tests {
    use super::interleave;

    #[test]
    fn no_address_is_lost_or_doubled_and_the_families_take_turns() {
        let given = ["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"].map(|a| a.parse().unwrap());
        let order: Vec<String> = interleave(&given).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]);
        assert!(interleave(&[]).is_empty());
    }
}
