//! The operator's record, kept where a restart of the container finds it.
//!
//! The kubelet brings a changed ConfigMap into a pod up to a minute or two later. A container that is
//! started again meanwhile would not know what it has acknowledged, and give what Redis holds of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

/// A file with the last record.
pub struct Copy {
    file: PathBuf,
    /// The number of its last purge; taken while it is written.
    last: Mutex<u64>,
}

impl Copy {
    /// In this file.
    #[must_use]
    pub fn at(file: &Path) -> Self {
        Self { file: file.to_owned(), last: Mutex::new(0) }
    }

    /// Keeps a record whose last purge has this number, unless a later one is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, record: &str, last: u64) -> io::Result<()> {
        let mut kept = self.last.lock();
        if last <= *kept {
            return Ok(());
        }
        let new = self.file.with_extension("new");
        fs::write(&new, record)?;
        // Whole, or not at all.
        fs::rename(&new, &self.file)?;
        *kept = last;
        Ok(())
    }
}
