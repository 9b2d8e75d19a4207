//! Bytes that are read one part after the other, and may be too few.

use bytes::{Buf, Bytes};

/// What is left of the bytes. None wherever they do not suffice.
pub struct Reader(Bytes);

impl Reader {
    /// At the beginning.
    pub fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    /// One that says yes or no, and nothing else.
    pub fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A number of two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16_le().ok()
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32_le().ok()
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64_le().ok()
    }

    /// A number of four bytes with a sign.
    pub fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32_le().ok()
    }

    /// A number of eight bytes with a sign.
    pub fn i64(&mut self) -> Option<i64> {
        self.0.try_get_i64_le().ok()
    }

    /// How many bytes or members follow: no more than there are bytes left, as each takes one at least.
    pub fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok().filter(|length| *length <= self.0.len())
    }

    /// So many bytes as their length says; no copy of them.
    pub fn bytes(&mut self) -> Option<Bytes> {
        let length = self.length()?;
        Some(self.0.split_to(length))
    }

    /// The same, if they are a text.
    pub fn text(&mut self) -> Option<String> {
        std::str::from_utf8(&self.bytes()?).ok().map(str::to_owned)
    }
}
