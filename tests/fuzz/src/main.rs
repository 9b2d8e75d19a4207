//! libFuzzer in front of the targets: `FUZZ_TARGET` says which. With `FUZZ_SEEDS` it writes into that folder what it begins with.
#![no_main]

use std::{env, fs, path::Path, process::exit, sync::OnceLock};

#[path = "../targets.rs"]
mod targets;

fn target() -> &'static targets::Target {
    static TARGET: OnceLock<&'static targets::Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let wanted = env::var("FUZZ_TARGET").unwrap_or_default();
        targets::ALL.iter().find(|(name, _)| *name == wanted).unwrap_or_else(|| {
            let all: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("FUZZ_TARGET has to be one of {}", all.join(" "));
            exit(2)
        })
    })
}

/// Writes the seeds of all targets into folders of their names, and what inputs are made of into `pieces`.
fn write_seeds(folder: &Path) {
    for (name, _) in targets::ALL {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        for (number, seed) in targets::seeds(name).into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).expect("a seed");
        }
    }
    let pieces = targets::PIECES.iter().map(|piece| {
        let bytes: String = piece.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    });
    fs::write(folder.join("pieces"), pieces.collect::<String>()).expect("the pieces");
}

libfuzzer_sys::fuzz_target!(
    init: {
        if let Ok(folder) = env::var("FUZZ_SEEDS") {
            write_seeds(Path::new(&folder));
            exit(0);
        }
    },
    |data: &[u8]| target().1(data)
);
