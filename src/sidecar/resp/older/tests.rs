use std::borrow::Cow;

use proptest::prelude::*;

use super::{Shape, older};

fn converted(reply: &str, shape: Shape) -> Option<String> {
    older(reply.as_bytes(), shape).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap())
}

fn by_type(reply: &str) -> String {
    converted(reply, Shape::ByType).unwrap()
}

#[test]
fn what_both_have_is_not_copied() {
    for reply in ["$2\r\nab\r\n", ":7\r\n", "+OK\r\n", "-ERR no\r\n"] {
        let older = older(reply.as_bytes(), Shape::Pairs).unwrap();
        assert!(matches!(older, Cow::Borrowed(_)));
        assert_eq!(*older, *reply.as_bytes());
    }
}

#[test]
fn what_has_no_type_in_resp2_is_a_string_a_number_or_an_array() {
    assert_eq!(
        by_type("%2\r\n$1\r\na\r\n,0.1\r\n$1\r\nb\r\n_\r\n"),
        "*4\r\n$1\r\na\r\n$3\r\n0.1\r\n$1\r\nb\r\n$-1\r\n"
    );
    assert_eq!(by_type("~1\r\n#t\r\n"), "*1\r\n:1\r\n");
    assert_eq!(by_type("#f\r\n"), ":0\r\n");
    assert_eq!(by_type("(12345678901234567890\r\n"), "$20\r\n12345678901234567890\r\n");
    assert_eq!(by_type("=7\r\ntxt:a\r\n\r\n"), "$3\r\na\r\n\r\n");
    assert_eq!(by_type("!6\r\nERR\r\na\r\n"), "-ERR  a\r\n");
    assert_eq!(by_type(",inf\r\n"), "$3\r\ninf\r\n");
}

#[test]
fn what_is_told_beside_a_value_is_left_out() {
    assert_eq!(by_type("*2\r\n|1\r\n+ttl\r\n:3600\r\n:1\r\n:2\r\n"), "*2\r\n:1\r\n:2\r\n");
}

#[test]
fn a_null_is_that_of_an_array_where_the_command_has_arrays() {
    assert_eq!(by_type("*1\r\n_\r\n"), "*1\r\n$-1\r\n");
    assert_eq!(converted("*1\r\n_\r\n", Shape::NullArrays).unwrap(), "*1\r\n*-1\r\n");
}

#[test]
fn pairs_with_scores_are_all_in_one_array() {
    let pairs = "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,-inf\r\n";
    assert_eq!(
        converted(pairs, Shape::Pairs).unwrap(),
        "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$4\r\n-inf\r\n"
    );
    assert_eq!(converted("*0\r\n", Shape::Pairs).unwrap(), "*0\r\n");
    assert_eq!(converted("*1\r\n$1\r\na\r\n", Shape::Pairs), None, "no pair");
}

#[test]
fn what_is_no_whole_reply_of_a_read_is_refused() {
    for reply in [
        "",
        "$",
        "$3\r\nab\r\n",
        "$2\r\nabc\r\n",
        "*2\r\n:1\r\n",
        ":1\r\n:2\r\n",
        "*1\r\n:1\r\n:2\r\n",
        ">1\r\n:1\r\n",
        "$?\r\n",
        "*?\r\n.\r\n",
        "$+1\r\na\r\n",
        "*-5\r\n",
        "=2\r\nab\r\n",
        "*99999999999999999999\r\n",
        "%18446744073709551615\r\n",
        "x\r\n",
        "\r\n",
    ] {
        assert_eq!(converted(reply, Shape::ByType), None, "{reply:?}");
    }
    assert_eq!(converted(&format!("{}:1\r\n", "*1\r\n".repeat(100_000)), Shape::ByType), None);
    assert_eq!(converted(&format!("{}:1\r\n", "|0\r\n".repeat(100_000)), Shape::ByType), None);
}

/// A reply in both protocols.
fn reply() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let pair = |new: String, old: String| (new.into_bytes(), old.into_bytes());
    let leaf = prop_oneof![
        any::<i64>().prop_map(move |number| pair(format!(":{number}\r\n"), format!(":{number}\r\n"))),
        any::<f64>().prop_map(move |double| {
            let text = double.to_string();
            pair(format!(",{text}\r\n"), format!("${}\r\n{text}\r\n", text.len()))
        }),
        any::<bool>().prop_map(move |is| {
            pair(format!("#{}\r\n", if is { 't' } else { 'f' }), format!(":{}\r\n", u8::from(is)))
        }),
        Just(pair("_\r\n".into(), "$-1\r\n".into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let string = [format!("${}\r\n", bytes.len()).as_bytes(), &bytes[..], b"\r\n"].concat();
            (string.clone(), string)
        }),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        (prop::sample::select(&b"*~%"[..]), prop::collection::vec(inner, 0..6)).prop_map(
            |(kind, mut items)| {
                let mut count = items.len();
                if kind == b'%' {
                    count /= 2;
                    items.truncate(count * 2);
                }
                let mut new = format!("{}{count}\r\n", kind as char).into_bytes();
                let mut old = format!("*{}\r\n", items.len()).into_bytes();
                for (one, other) in items {
                    new.extend(one);
                    old.extend(other);
                }
                (new, old)
            },
        )
    })
}

proptest! {
    #[test]
    fn whatever_is_nested_becomes_what_resp2_has((new, old) in reply()) {
        let converted = older(&new, Shape::ByType);
        prop_assert_eq!(converted.as_deref(), Some(&old[..]));
        for cut in 0..new.len().min(60) {
            prop_assert_eq!(older(&new[..cut], Shape::ByType), None);
        }
    }

    #[test]
    fn no_input_makes_it_panic(bytes in prop::collection::vec(prop::sample::select(&b"*%~|$=!+-:,(#_>?0123456789\r\na"[..]), 0..60)) {
        for shape in [Shape::ByType, Shape::Pairs, Shape::NullArrays] {
            let _ = older(&bytes, shape);
        }
    }
}
