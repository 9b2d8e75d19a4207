//! What the container allows the process.

use std::{fs, path::Path};

/// Of control groups, of the second version and of the first. In a container its own stands at the top.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// The first version writes a number that is larger than any memory where there is no limit.
const NONE: u64 = 1 << 60;

/// How much memory there is before the process is ended for it, in bytes; none where nothing limits it.
#[must_use]
pub fn memory() -> Option<u64> {
    LIMITS.iter().find_map(|path| limit(&fs::read_to_string(Path::new(path)).ok()?))
}

fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_number_or_none() {
        for (text, expected) in [
            ("134217728\n", Some(128 << 20)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("", None),
            ("-1\n", None),
        ] {
            assert_eq!(limit(text), expected, "{text:?}");
        }
    }
}
