//! What is purged from outside: memory forgets it, and nothing that was asked for before is stored after it.

use super::Near;
use crate::settings::purges::Target;

impl Near {
    /// Forgets what a purge is about, of all users and databases; what is about responses is nothing of this memory.
    pub fn purge(&self, targets: &[Target]) {
        for target in targets {
            match target {
                Target::Everything => self.forget_all(),
                Target::RedisKey(key) => self.forget(key.as_bytes()),
                Target::RedisPrefix(prefix) => self.forget_prefix(prefix.as_bytes()),
                Target::Key(_) | Target::Prefix(_) | Target::Tag(_) => {}
            }
        }
    }
}
