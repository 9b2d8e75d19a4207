//! The tests that the documents name for what they guarantee.

use std::path::Path;

use super::{code_spans, is_path, read, table_in};

#[test]
fn every_guarantee_of_the_near_cache_names_a_test_that_exists() {
    let rows = table_in("docs/near-cache.md", "guarantees");
    assert!(rows.len() >= 10, "{} guarantees", rows.len());
    for row in rows {
        let [guarantee, .., held_by] = &row[..] else { panic!("{row:?}") };
        let (mut source, mut count) = (String::new(), 0);
        for span in code_spans(held_by) {
            if is_path(span) {
                source = read(Path::new(span));
            } else {
                assert!(source.contains(&format!("fn {span}(")), "there is no test {span}: {guarantee}");
                count += 1;
            }
        }
        assert!(count > 0, "no test holds it: {guarantee}");
    }
}
