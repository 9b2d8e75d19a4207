//! An earlier release, built from the history.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::cluster::{CHART, repository};

/// Version 0.1.0.
const COMMIT: &str = "393608d6";

/// The chart and the operator of an earlier release.
pub struct Release {
    pub chart: PathBuf,
    pub binary: PathBuf,
}

impl Release {
    /// Version 0.1.0. What was built once stays in the target directory.
    pub fn first() -> Self {
        let folder = repository().join("target/releases").join(COMMIT);
        let source = folder.join("source");
        if !source.exists() {
            unpack(&source);
        }
        let binary = folder.join("debug/cachedservice-operator");
        if !binary.exists() {
            build(&source, &folder);
        }
        Self { chart: source.join(CHART), binary }
    }
}

fn unpack(source: &Path) {
    let part = source.with_extension("part");
    // What an earlier try left.
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).expect("a folder below target");
    let mut archive = Command::new("git")
        // Whoever checked the repository out may be another user than the one who runs the tests.
        .args(["-c", "safe.directory=*", "archive", COMMIT])
        .current_dir(repository())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run git");
    let tree = archive.stdout.take().expect("the archive");
    let unpacked = Command::new("tar").arg("-x").current_dir(&part).stdin(tree).status().expect("run tar");
    let archived = archive.wait().expect("git's end");
    assert!(
        archived.success() && unpacked.success(),
        "the history lacks commit {COMMIT}, which is version 0.1.0 and where upgrades start from; \
         a shallow clone gets it with: git fetch --unshallow"
    );
    fs::rename(&part, source).expect("rename a folder below target");
}

fn build(source: &Path, target: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // With these, which cargo sets for tests, build scripts would run anew.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    let built = cargo
        .args(["build", "--quiet", "--locked", "--bin", "cachedservice-operator"])
        .current_dir(source)
        .env("CARGO_TARGET_DIR", target)
        // Most of the dependencies are those of this version, and are compiled already.
        .env("CARGO_BUILD_BUILD_DIR", repository().join("target"))
        .status();
    assert!(built.expect("run cargo").success(), "version 0.1.0 does not build in {}", source.display());
}
