//! Finds a name in the table: a hash table that the compiler fills.

use super::{entry::Entry, table::ALL};

/// Four times as many as there are commands, so that one probe is the rule.
const SLOTS: usize = 2048;
/// A slot that holds nothing.
const EMPTY: (u8, u8) = (u8::MAX, u8::MAX);
/// The longest name of the table has 20.
const LONGEST: usize = 24;

static SLOT: [(u8, u8); SLOTS] = filled();

/// FNV-1a of the name in small letters, as far as a mask makes them.
const fn slot(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ (name[at] | 0x20) as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize % SLOTS
}

/// Where in which part of the table the names of each slot stand.
#[allow(clippy::cast_possible_truncation)]
const fn filled() -> [(u8, u8); SLOTS] {
    let mut slots = [EMPTY; SLOTS];
    let mut part = 0;
    while part < ALL.len() {
        let mut entry = 0;
        // One less than the mark of an empty slot.
        assert!(ALL[part].len() < u8::MAX as usize);
        while entry < ALL[part].len() {
            let name = ALL[part][entry].name.as_bytes();
            assert!(name.len() <= LONGEST);
            let mut at = slot(name);
            while slots[at].0 != EMPTY.0 {
                at = (at + 1) % SLOTS;
            }
            slots[at] = (part as u8, entry as u8);
            entry += 1;
        }
        part += 1;
    }
    slots
}

/// The entry with this name, in whatever case.
pub(super) fn find(name: &[u8]) -> Option<&'static Entry> {
    if name.len() > LONGEST {
        return None;
    }
    let mut at = slot(name);
    // It ends: most slots are empty.
    loop {
        let (part, entry) = SLOT[at];
        let entry = ALL.get(usize::from(part))?.get(usize::from(entry))?;
        if entry.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(entry);
        }
        at = (at + 1) % SLOTS;
    }
}
