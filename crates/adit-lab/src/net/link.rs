//! A cable between two hosts, which can be cut one way or both, or pulled.

use std::net::Ipv4Addr;

use super::{Absent, Enter};

/// Which end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a cable has two ends")]
pub enum Side {
    /// That of the first host.
    Near,
    /// That of the second one.
    Far,
}

/// A cable between two hosts; made by [`Net::link`](super::Net::link). It is gone with either host.
#[derive(Debug)]
pub struct Link {
    near: End,
    far: End,
}

/// One end: a device of a host.
#[derive(Debug)]
struct End {
    enter: Enter,
    device: String,
    address: Ipv4Addr,
    /// The address of the device on the cable.
    station: String,
}

/// Nobody's: frames for it are dropped by whoever receives them.
const NOBODY: &str = "02:00:00:00:ff:ff";

impl Link {
    /// Lays the cable of this number: 10.77.N.1 and 10.77.N.2.
    pub(super) fn new(number: u8, near: &Enter, far: &Enter) -> Result<Self, Absent> {
        if number >= 250 {
            return Err(Absent("there are 250 cables already".to_owned()));
        }
        let end = |enter: &Enter, side: u8| End {
            enter: enter.clone(),
            device: format!("cable{number}"),
            address: Ipv4Addr::new(10, 77, number, side),
            station: format!("02:00:00:00:{number:02x}:{side:02x}"),
        };
        let link = Self { near: end(near, 1), far: end(far, 2) };
        let (near, far) = (&link.near, &link.far);
        let pid = far.enter.pid.to_string();
        near.enter.run(&[
            "ip",
            "link",
            "add",
            &near.device,
            "address",
            &near.station,
            "type",
            "veth",
            "peer",
            "name",
            &far.device,
            "address",
            &far.station,
            "netns",
            &pid,
        ])?;
        for end in [near, far] {
            let address = format!("{}/30", end.address);
            end.enter.run(&["ip", "address", "add", &address, "dev", &end.device])?;
        }
        for side in [Side::Near, Side::Far] {
            link.plug(side)?;
            link.heal(side)?;
        }
        Ok(link)
    }

    /// The address of an end.
    pub fn address(&self, side: Side) -> Ipv4Addr {
        self.ends(side).0.address
    }

    /// From now on what this end sends is lost, without a word to anybody; the other way is open.
    ///
    /// # Errors
    /// Its host is gone.
    pub fn cut(&self, side: Side) -> Result<(), Absent> {
        self.send_to(side, NOBODY)
    }

    /// What this end sends arrives again.
    ///
    /// # Errors
    /// Its host is gone.
    pub fn heal(&self, side: Side) -> Result<(), Absent> {
        self.send_to(side, &self.ends(side).1.station)
    }

    /// Pulls the cable out of this end: both hosts notice that nothing is plugged in.
    ///
    /// # Errors
    /// Its host is gone.
    pub fn pull(&self, side: Side) -> Result<(), Absent> {
        self.set(side, "down")
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// Its host is gone.
    pub fn plug(&self, side: Side) -> Result<(), Absent> {
        self.set(side, "up")
    }

    fn set(&self, side: Side, state: &str) -> Result<(), Absent> {
        let end = self.ends(side).0;
        end.enter.run(&["ip", "link", "set", &end.device, state]).map(drop)
    }

    /// Tells an end which station has the address of the other one: no rule of a firewall is needed, which
    /// not every machine has, and no other traffic is met.
    fn send_to(&self, side: Side, station: &str) -> Result<(), Absent> {
        let (end, other) = self.ends(side);
        let other = other.address.to_string();
        let words = ["ip", "neighbour", "replace", &other, "lladdr", station, "dev", &end.device];
        end.enter.run(&[&words[..], &["nud", "permanent"]].concat()).map(drop)
    }

    fn ends(&self, side: Side) -> (&End, &End) {
        match side {
            Side::Near => (&self.near, &self.far),
            Side::Far => (&self.far, &self.near),
        }
    }
}
