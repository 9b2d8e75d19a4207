//! The keys that the token of this service makes, as its file has it at each look.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::identity::Key;
use crate::sidecar::file::{Stamp, stamp};

/// A token that another has taken the place of is one still for so long: the kubelets of the pods write it up to a
/// minute apart.
const CHANGING: Duration = Duration::from_mins(5);

/// Those of a file.
pub struct Keys {
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    stamp: Option<Stamp>,
    present: Option<Key>,
    /// The one before it, and since when it is.
    former: Option<(Key, Instant)>,
}

/// What a look has shown.
pub struct Known {
    /// The present one first, and the one before while the pods change. None where there never was one.
    pub keys: Vec<Key>,
    /// Why the file could not be read; then those of before hold.
    pub trouble: Option<String>,
}

impl Keys {
    /// Those of a file; without one there is none.
    #[must_use]
    pub fn of(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), seen: Mutex::default() }
    }

    /// As they are now.
    #[must_use]
    pub fn look(&self) -> Known {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        let trouble = seen.read(self.file.as_deref(), now).err();
        let former = seen.former.as_ref().filter(|(_, since)| now - *since < CHANGING).map(|(key, _)| key);
        Known { keys: seen.present.iter().chain(former).cloned().collect(), trouble }
    }
}

impl Seen {
    fn read(&mut self, file: Option<&Path>, now: Instant) -> Result<(), String> {
        let file = file.ok_or("the settings name no tokenFile")?;
        let cannot = |error| format!("the token cannot be read: {error}");
        let stamp = stamp(file).map_err(cannot)?;
        if self.stamp == Some(stamp) {
            return Ok(());
        }
        let key = Key::of(&fs::read(file).map_err(cannot)?).ok_or("the token is empty")?;
        self.stamp = Some(stamp);
        if self.present.as_ref() != Some(&key) {
            self.former = self.present.replace(key).map(|former| (former, now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_read_that_fails_changes_nothing_and_a_token_holds_on_for_a_while_after_the_next() {
        let file = std::env::temp_dir().join(format!("keys-{}", std::process::id()));
        let _ = fs::remove_file(&file);
        let keys = Keys::of(Some(&file));
        let key = |token: &str| Key::of(token.as_bytes()).unwrap();
        let look = || {
            let Known { keys, trouble } = keys.look();
            (keys, trouble.is_some())
        };
        assert!(look() == (vec![], true));
        fs::write(&file, "first\n").unwrap();
        assert!(look() == (vec![key("first")], false));
        fs::write(&file, "").unwrap();
        assert!(look() == (vec![key("first")], true), "an empty one is none");
        fs::remove_file(&file).unwrap();
        assert!(look() == (vec![key("first")], true));
        fs::write(&file, "the second").unwrap();
        assert!(look() == (vec![key("the second"), key("first")], false));
        tokio::time::advance(CHANGING).await;
        assert!(look() == (vec![key("the second")], false));
        fs::remove_file(&file).unwrap();
        assert!(look() == (vec![key("the second")], true));
        assert!(Keys::of(None).look().keys.is_empty());
    }
}
