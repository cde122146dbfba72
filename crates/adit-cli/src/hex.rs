//! `--hex`: the bytes that go each way, sixteen to a line, as hexdump(1) shows them.

use adit::event::{Direction, Role};
use adit::{Event, What};

use crate::say::Part;

/// Bytes on a line.
const WIDTH: usize = 16;

/// The lines for an event; none if no bytes went.
///
/// `>` is towards the server, `<` towards the client. A relay shows bytes where they come, once.
pub(crate) fn lines(event: &Event<'_>, part: Part) -> Vec<String> {
    let What::Data { dir, off, bytes, .. } = event.what else { return Vec::new() };
    if part == Part::Relay && dir == Direction::Out {
        return Vec::new();
    }
    let is_up = (event.role == Role::Server) == (dir == Direction::In);
    let way = if is_up { '>' } else { '<' };
    let number = event.conversation.unwrap_or(0);
    let is_datagram = event.peer.is_some_and(|peer| peer.transport().is_datagram());
    // Bytes of a stream are counted through, those of a datagram each on its own.
    let first = if is_datagram { 0 } else { off };
    if bytes.is_empty() {
        return vec![format!(" #{number} {way} {first:08x}  (empty)")];
    }
    let line = |(index, row): (usize, &[u8])| {
        let at = first + (index * WIDTH) as u64;
        format!(" #{number} {way} {at:08x}  {:<49} |{}|", hexadecimal(row), text(row))
    };
    bytes.chunks(WIDTH).enumerate().map(line).collect()
}

fn hexadecimal(row: &[u8]) -> String {
    let mut shown = String::with_capacity(3 * WIDTH + 1);
    for (index, byte) in row.iter().enumerate() {
        let gap = if index == WIDTH / 2 { "  " } else { " " };
        shown.push_str(if index == 0 { "" } else { gap });
        shown.push_str(&format!("{byte:02x}"));
    }
    shown
}

fn text(row: &[u8]) -> String {
    row.iter().map(|byte| if matches!(byte, b' '..=b'~') { *byte as char } else { '.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::say::Part;
    use adit::event::{Direction, Role};
    use adit::{Event, What};
    use std::time::Duration;

    fn shown(role: Role, part: Part, dir: Direction, off: u64, bytes: &[u8]) -> Vec<String> {
        let what = What::Data { dir, seq: 0, off, bytes };
        let event = Event { at: Duration::ZERO, conversation: Some(2), peer: None, role, what };
        lines(&event, part)
    }

    #[test]
    fn sixteen_bytes_stand_on_a_line_with_their_place_in_the_stream() {
        let bytes: Vec<u8> = (0x18..0x30).collect();
        assert_eq!(
            shown(Role::Client, Part::Client, Direction::Out, 32, &bytes),
            [
                " #2 > 00000020  18 19 1a 1b 1c 1d 1e 1f  20 21 22 23 24 25 26 27  |........ !\"#$%&'|",
                " #2 > 00000030  28 29 2a 2b 2c 2d 2e 2f                           |()*+,-./|",
            ]
        );
    }

    #[test]
    fn the_way_is_the_same_for_every_part_and_a_relay_shows_bytes_once() {
        let way = |role, part, dir| {
            let lines = shown(role, part, dir, 0, b"x");
            lines.first().map(|line| line.chars().nth(4).unwrap())
        };
        assert_eq!(way(Role::Client, Part::Client, Direction::In), Some('<'));
        assert_eq!(way(Role::Server, Part::Server, Direction::In), Some('>'));
        assert_eq!(way(Role::Server, Part::Relay, Direction::In), Some('>'));
        assert_eq!(way(Role::Client, Part::Relay, Direction::In), Some('<'));
        assert_eq!(way(Role::Client, Part::Relay, Direction::Out), None);
    }
}
