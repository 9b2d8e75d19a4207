//! Files that the kubelet puts others in the place of, while the sidecar runs.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What tells one state of a file from another. The kubelet swaps a symbolic link: another file has
/// another number.
pub type Stamp = (u64, i64, i64, u64);

/// The present state of a file.
///
/// # Errors
/// When it cannot be looked at.
pub fn stamp(file: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

/// What a look at a file has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The same as the last time.
    Same,
    /// It is not there.
    Absent,
    /// It holds this now.
    Text(String),
}

/// A file that is looked at again and again.
pub struct Watched {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl Watched {
    /// Not looked at yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
    }

    /// What it holds, if that is something else than the last time.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn look(&mut self) -> io::Result<Look> {
        let read = stamp(&self.path).and_then(|present| {
            if self.seen == Some(present) {
                return Ok(Look::Same);
            }
            let text = fs::read_to_string(&self.path)?;
            self.seen = Some(present);
            Ok(Look::Text(text))
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.seen = None;
                Ok(Look::Absent)
            }
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_for_each_state_also_behind_a_link() {
        let folder = std::env::temp_dir().join(format!("watched-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [link, first, second] = ["link", "first", "second"].map(|name| folder.join(name));
        let _ = fs::remove_file(&link);
        let mut watched = Watched::new(&link);
        assert_eq!(watched.look().unwrap(), Look::Absent);
        fs::write(&first, "a").unwrap();
        fs::write(&second, "b").unwrap();
        std::os::unix::fs::symlink(&first, &link).unwrap();
        assert_eq!(watched.look().unwrap(), Look::Text("a".to_owned()));
        assert_eq!(watched.look().unwrap(), Look::Same);
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&second, &link).unwrap();
        assert_eq!(watched.look().unwrap(), Look::Text("b".to_owned()));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(watched.look().unwrap(), Look::Absent);
    }
}
