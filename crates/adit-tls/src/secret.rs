//! Secret: what is erased when nobody needs it any more, and cannot be shown.

use std::io::{self, Read};
use std::ops::Deref;

use zeroize::Zeroize;

/// A key, or bytes that hold one. It has neither Debug nor Display, so that no message can hold it.
///
/// What is made from it in other crates is theirs: rustls erases the DER it is given, aws-lc the key. The
/// reader of PEM keeps the base64 of a section in a buffer of its own, which is freed as it is.
pub(crate) struct Secret<T: Zeroize>(T);

/// The first room of what is read, in bytes: a key of each usual kind fits.
const ROOM_BYTES: usize = 4096;

impl<T: Zeroize> Secret<T> {
    pub(crate) fn new(secret: T) -> Self {
        Self(secret)
    }
}

impl Secret<Vec<u8>> {
    /// Reads to the end, or to `bytes_max`. Room that has become too small is erased as well.
    ///
    /// A growing `Vec` would leave a copy behind each time: that is why this loop is here.
    pub(crate) fn read(mut source: impl Read, bytes_max: usize) -> io::Result<Self> {
        let mut room = Self(vec![0; ROOM_BYTES.min(bytes_max)]);
        let mut length = 0;
        loop {
            if length == room.0.len() && length < bytes_max {
                let mut larger = Self(vec![0; length.saturating_mul(2).min(bytes_max)]);
                larger.0.iter_mut().zip(&room.0).for_each(|(to, from)| *to = *from);
                room = larger;
            }
            match source.read(room.0.get_mut(length..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(bytes) => length = length.saturating_add(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        room.0.truncate(length);
        Ok(room)
    }
}

impl Secret<String> {
    /// Text that will have at most so many bytes.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds text. There is room for it: else a copy would be left behind.
    pub(crate) fn push_str(&mut self, text: &str) {
        debug_assert!(self.0.capacity() - self.0.len() >= text.len(), "too little room");
        self.0.push_str(text);
    }
}

impl<T: Zeroize> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::{ROOM_BYTES, Secret};
    use std::cell::Cell;
    use std::fmt::{Debug, Display};
    use std::io::Read;
    use std::rc::Rc;
    use zeroize::Zeroize;

    /// Says when it is erased.
    struct Marked(Rc<Cell<u32>>);

    impl Zeroize for Marked {
        fn zeroize(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    #[test]
    fn what_is_dropped_is_erased_once() {
        let erased = Rc::new(Cell::new(0));
        let secret = Secret::new(Marked(erased.clone()));
        assert_eq!(erased.get(), 0);
        drop(secret);
        assert_eq!(erased.get(), 1);
    }

    /// Gives a few bytes at a time, and an interruption in between.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            let bytes = room.len().min(self.0.len()).min(1000);
            let (now, later) = self.0.split_at(bytes);
            room[..bytes].copy_from_slice(now);
            self.0 = later;
            Ok(bytes)
        }
    }

    #[test]
    fn all_is_read_and_no_more_than_may_be() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * ROOM_BYTES + 5).collect();
        for most in [0, 1, ROOM_BYTES, ROOM_BYTES + 1, bytes.len(), bytes.len() + 9, 1 << 20] {
            let read = Secret::read(Slow(&bytes, false), most).unwrap();
            assert!(**read == bytes[..most.min(bytes.len())], "{most}");
        }
        assert!(Secret::read(Slow(b"", false), 9).unwrap().is_empty());
    }

    /// Has an item of this name twice for what implements `$trait`, and then says nothing of which is meant.
    macro_rules! assert_cannot {
        ($trait:ident) => {{
            trait Ambiguous<Which> {
                fn is_there() {}
            }
            struct Can;
            impl<T> Ambiguous<()> for T {}
            impl<T: $trait> Ambiguous<Can> for T {}
            // With the trait there are two of it, and this does not compile.
            <Secret<Vec<u8>> as Ambiguous<_>>::is_there();
        }};
    }

    #[test]
    fn a_secret_cannot_be_shown_or_copied() {
        assert_cannot!(Debug);
        assert_cannot!(Display);
        assert_cannot!(Clone);
    }
}
