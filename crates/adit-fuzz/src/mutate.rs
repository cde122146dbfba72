//! Mutate: inputs nobody thought of, made of ones that somebody did.

/// Numbers that follow from a seed: the same on every machine (`splitmix64`, public domain).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        let number = self.next().checked_rem(end).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }
}

/// The input of this seed: one of `corpus`, changed in 1 to 8 places.
///
/// ```
/// use adit_fuzz::mutate::input;
/// let corpus = [b"PROXY TCP4".to_vec(), b"hello".to_vec()];
/// assert_eq!(input(7, &corpus), input(7, &corpus));
/// ```
pub fn input(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = corpus.get(random.below(corpus.len())).cloned().unwrap_or_default();
    let other = corpus.get(random.below(corpus.len())).map_or(&[][..], Vec::as_slice);
    for _ in 0..=random.below(8) {
        change(&mut random, &mut bytes, other);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// Longer inputs cost time and find nothing that shorter ones do not.
const BYTES_MAX: usize = 8192;

/// Values at which something changes.
const EDGES: [u8; 12] = [0, 1, 4, 0x0a, 0x0d, b'"', b'{', 0x7f, 0x80, 0xc3, 0xfe, 0xff];

/// Numbers at which something changes, as text.
const NUMBERS: [&str; 8] = [
    "0",
    "-1",
    "255",
    "65536",
    "4294967295",
    "9223372036854775808",
    "18446744073709551615",
    "1e309",
];

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let (from, to) = span(random, bytes.len());
    match random.below(8) {
        0 => edit(bytes, from, |byte| byte ^ (1 << (from % 8))),
        1 => {
            let edge = EDGES[random.below(EDGES.len())];
            edit(bytes, from, |_| edge);
        }
        2 => bytes.insert(from, EDGES[random.below(EDGES.len())]),
        3 => drop(bytes.drain(from..to)),
        4 => {
            let again = bytes[from..to].to_vec();
            bytes.splice(to..to, again);
        }
        5 => {
            let (start, end) = span(random, other.len());
            bytes.splice(from..to, other[start..end].iter().copied());
        }
        6 => {
            let digits = bytes[from..].iter().position(u8::is_ascii_digit).map(|at| from + at);
            let start = digits.unwrap_or(from);
            let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = NUMBERS[random.below(NUMBERS.len())];
            bytes.splice(start..start + length, number.bytes());
        }
        _ => bytes.truncate(from),
    }
}

/// A place in `length` bytes, and one up to 64 further.
fn span(random: &mut Random, length: usize) -> (usize, usize) {
    let from = random.below(length + 1);
    (from, (from + random.below(65)).min(length))
}

fn edit(bytes: &mut [u8], at: usize, change: impl Fn(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}
