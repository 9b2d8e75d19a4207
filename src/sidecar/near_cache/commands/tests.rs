use super::{Args, Handling, meaning};

fn keys(line: &str) -> (Handling, Vec<&str>, Vec<&str>) {
    let args: Vec<&str> = line.split_whitespace().map(|arg| if arg == "''" { "" } else { arg }).collect();
    let meaning = meaning(&args[..]);
    let of = |indices: super::Indices| indices.map(|at| args[at]).collect();
    (meaning.handling, of(meaning.reads()), of(meaning.changes()))
}

#[test]
fn arguments_are_counted_with_the_name() {
    assert_eq!(["GET", "a"].count(), 2);
    assert_eq!(["GET", "a"].arg(1), Some(&b"a"[..]));
    assert_eq!(["GET", "a"].arg(2), None);
}

#[test]
fn a_name_is_known_in_whatever_case() {
    assert_eq!(keys("gEt a"), keys("GET a"));
    assert_eq!(keys("gEtt a").0, Handling::ChangeUnknown);
}
