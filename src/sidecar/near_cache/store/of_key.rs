//! What is stored of one key. PURE.

use super::Store;

/// What is stored of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfKey {
    /// Replies that may be given, now or when their connection is up to date.
    pub replies: usize,
    /// What all take, in bytes.
    pub bytes: u64,
    /// For so many milliseconds the last of them is given.
    pub left: u64,
}

impl Store {
    /// What is stored of a key, if there is anything that may be given.
    #[must_use]
    pub fn of_key(&self, key: &[u8], now: u64) -> Option<OfKey> {
        let hash = self.hash(key);
        let is_of_use = self.is_of_use(now);
        let shard = self.shard(hash)?.lock();
        let slot = shard.slot(hash, key)?;
        let mut of_key = OfKey { replies: 0, bytes: slot.size(), left: 0 };
        slot.each(&mut |record| {
            if is_of_use(record) {
                of_key.replies += 1;
                of_key.left = of_key.left.max(record.expires() - now);
            }
        });
        (of_key.replies > 0).then_some(of_key)
    }
}
