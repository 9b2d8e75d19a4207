//! The commands, by what they are about. Each part has less than 255.

mod connection;
mod hashes;
mod keys;
mod lists;
mod scripts;
mod server;
mod sets;
mod sorted_sets;
mod streams;
mod strings;

use super::entry::Entry;

/// All of them.
pub(super) static ALL: [&[Entry]; 10] = [
    &strings::COMMANDS,
    &hashes::COMMANDS,
    &sets::COMMANDS,
    &sorted_sets::COMMANDS,
    &keys::COMMANDS,
    &lists::COMMANDS,
    &streams::COMMANDS,
    &scripts::COMMANDS,
    &connection::COMMANDS,
    &server::COMMANDS,
];
