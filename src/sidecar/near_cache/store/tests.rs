use super::*;
use crate::sidecar::near_cache::{
    coherence::LEASE,
    commands::{Handling, meaning},
};

const PLACE: u8 = 3;

fn store(bytes: u64) -> Store {
    let store = Store::new(bytes, 1024, Coherence::default());
    store.coherence().confirm(PLACE, 0);
    store
}

fn command(words: &str) -> Command {
    Command::of(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn keys(command: &Command) -> Indices {
    let meaning = meaning(&command.args().collect::<Vec<_>>()[..]);
    assert!(matches!(meaning.handling, Handling::Cached(_)));
    meaning.reads()
}

fn put_until(store: &Store, tag: u32, words: &str, reply: &str, expires: u64, token: Token) -> bool {
    let command = command(words);
    let question = Question { tag, command: &command, keys: keys(&command) };
    store.put(&question, Terms { token, expires, rule: 7 }, reply.as_bytes(), 0)
}

fn put(store: &Store, tag: u32, words: &str, reply: &str) -> bool {
    put_until(store, tag, words, reply, 1000, store.coherence().begin(PLACE))
}

fn get_at(store: &Store, tag: u32, words: &str, now: u64) -> Option<String> {
    let command = command(words);
    let mut out = BytesMut::from(&b"before "[..]);
    let found = store.get(&Question { tag, command: &command, keys: keys(&command) }, now, &mut out);
    assert!(found.is_none_or(|rule| rule == 7));
    let text = String::from_utf8(out.to_vec()).unwrap();
    let reply = text.strip_prefix("before ").unwrap().to_owned();
    assert_eq!(found.is_some(), !reply.is_empty());
    found.map(|_| reply)
}

fn get_stale_at(store: &Store, words: &str, now: u64) -> Option<u16> {
    let command = command(words);
    store.get_stale(&Question { tag: 0, command: &command, keys: keys(&command) }, now, &mut BytesMut::new())
}

fn get(store: &Store, tag: u32, words: &str) -> Option<String> {
    get_at(store, tag, words, 0)
}

#[test]
fn what_is_stale_is_given_until_it_expires_or_its_key_is_changed() {
    let store = store(1 << 20);
    for words in ["GET a", "HGET a f", "GET b"] {
        assert!(put_until(&store, 0, words, "x", 500, store.coherence().begin(PLACE)));
        assert_eq!(get_stale_at(&store, words, 0), None, "it is current");
    }
    store.coherence().break_off(PLACE);
    assert_eq!((get(&store, 0, "GET a"), get_stale_at(&store, "GET a", 499)), (None, Some(7)));
    assert_eq!((get_stale_at(&store, "GET a", 500), get_stale_at(&store, "GET c", 0)), (None, None));
    store.happened(b"a");
    assert_eq!(
        ["GET a", "HGET a f", "GET b"].map(|words| get_stale_at(&store, words, 0)),
        [None, None, Some(7)]
    );
    store.happened_to_prefix(b"b");
    assert_eq!(get_stale_at(&store, "GET b", 0), None);
}

#[test]
fn a_reply_is_found_by_its_exact_command_alone() {
    let store = store(1 << 20);
    let long = format!("HGET a {}", "f".repeat(300));
    let commands = ["GET a", "HGET a f", "HGET a ff", "HGET a F", "GETRANGE a 0 1", "HMGET a f f", &long];
    for (number, words) in commands.iter().enumerate() {
        assert_eq!(get(&store, 0, words), None, "{words}");
        assert!(put(&store, 0, words, &number.to_string()));
    }
    for (number, words) in commands.iter().enumerate() {
        assert_eq!(get(&store, 0, words), Some(number.to_string()), "{words}");
        assert_eq!(get(&store, 1, words), None, "of another user: {words}");
    }
    assert_eq!(get(&store, 0, "hGeT a f"), Some("1".to_owned()), "names are the same in small letters");
    assert_eq!(get(&store, 0, "GET b"), None);
    assert_eq!(store.keys(), 1);
}

#[test]
fn whatever_was_read_of_a_key_goes_with_it() {
    let store = store(1 << 20);
    for (tag, words) in [(0, "GET a"), (1, "GET a"), (0, "HGET a f"), (0, "GET b"), (0, "SINTER c a")] {
        assert!(put(&store, tag, words, "x"));
    }
    store.happened(b"a");
    for (tag, words) in [(0, "GET a"), (1, "GET a"), (0, "HGET a f"), (0, "SINTER c a")] {
        assert_eq!(get(&store, tag, words), None, "{words}");
    }
    assert_eq!(get(&store, 0, "GET b").as_deref(), Some("x"));
    store.happened(b"b");
    store.happened(b"c");
    assert_eq!((store.keys(), store.bytes()), (0, 0));
}

#[test]
fn what_happened_during_a_fill_keeps_it_out() {
    let store = store(1 << 20);
    let began = store.coherence().begin(PLACE);
    store.happened(b"a");
    assert!(!put_until(&store, 0, "GET a", "x", 1000, began));
    assert!(!put_until(&store, 0, "MGET b a", "x", 1000, began));
    assert!(put_until(&store, 0, "GET b", "x", 1000, began));
    store.coherence().forget_all();
    assert!(!put_until(&store, 0, "GET c", "x", 1000, began));
    assert_eq!(get(&store, 0, "GET b"), None);
}

#[test]
fn nothing_is_given_after_its_time_or_that_of_its_connection() {
    let store = store(1 << 20);
    assert!(put_until(&store, 0, "GET a", "x", 500, store.coherence().begin(PLACE)));
    assert!(put_until(&store, 0, "GET b", "x", 1 << 40, store.coherence().begin(PLACE)));
    assert!(get_at(&store, 0, "GET a", 499).is_some() && get_at(&store, 0, "GET a", 500).is_none());
    assert!(get_at(&store, 0, "GET b", LEASE).is_some() && get_at(&store, 0, "GET b", LEASE + 1).is_none());
    store.coherence().confirm(PLACE, 100);
    assert!(get_at(&store, 0, "GET b", LEASE + 100).is_some(), "the connection was late and not lost");
    store.coherence().lose(PLACE);
    store.coherence().confirm(PLACE, 200);
    assert!(get_at(&store, 0, "GET b", 200).is_none(), "another has its place");
}

#[test]
fn memory_is_bounded_in_bytes_however_many_replies_a_key_has() {
    const ROOM: u64 = 256 << 10;
    let (many, of_one) = (store(ROOM), store(ROOM));
    for number in 0..5000 {
        assert!(put(&many, 0, &format!("GET key:{number}"), &"x".repeat(100)));
        assert!(put(&of_one, 0, &format!("HGET a field:{number}"), &"x".repeat(100)));
        assert!(many.bytes() <= ROOM && of_one.bytes() <= ROOM);
    }
    assert!(many.bytes() > ROOM / 4 * 3, "{}", many.bytes());
    assert!(many.evictions() > 3000);
    assert!(!put(&many, 0, "GET large", &"x".repeat(40 << 10)));
    let counted: u64 =
        (0..5000).filter(|number| get(&many, 0, &format!("GET key:{number}")).is_some()).count() as u64;
    assert_eq!(counted, many.keys() as u64);
    many.resize(ROOM / 4, 0);
    assert!((ROOM / 8..=ROOM / 4).contains(&many.bytes()), "{}", many.bytes());
}

#[test]
fn what_is_read_often_stays_while_others_pass_through() {
    let store = store(256 << 10);
    let hot = |number: u32| format!("GET hot:{number}");
    for number in 0..200 {
        put(&store, 0, &hot(number), &"x".repeat(100));
    }
    let mut misses = 0;
    for number in 0..20_000 {
        put(&store, 0, &format!("GET once:{number}"), &"x".repeat(100));
        if get(&store, 0, &hot(number % 200)).is_none() {
            misses += 1;
            put(&store, 0, &hot(number % 200), &"x".repeat(100));
        }
    }
    assert!(misses < 1000, "{misses} of 20000");
}

#[test]
fn replies_of_any_length_are_given_as_they_came() {
    let store = store(1 << 28);
    for length in (0..2500).step_by(7).chain([5000, 10_000, 1 << 20]) {
        let reply: String = (0..length).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
        let reply = format!("+{reply}");
        for words in [
            format!("GET {length}"),
            format!("HGET {length} f"),
            format!("HGET hash {length}"),
            format!("GET {}", "k".repeat(length / 8)),
        ] {
            assert!(put(&store, 0, &words, &reply));
            assert_eq!(get(&store, 0, &words).as_ref(), Some(&reply), "{length}");
            assert!(put(&store, 0, &words, "+1"));
            assert_eq!(get(&store, 0, &words).as_deref(), Some("+1"), "{length}");
        }
        store.happened(length.to_string().as_bytes());
    }
    store.happened(b"hash");
    (0..1400).chain([1 << 17]).for_each(|length| store.happened("k".repeat(length).as_bytes()));
    assert_eq!((store.keys(), store.bytes()), (0, 0));
}

#[test]
fn keys_of_a_prefix_go_together_and_fills_of_before_are_not_stored() {
    let store = store(1 << 20);
    for words in ["GET user:1", "HGET user:2 f", "MGET a user:3", "GET a", "GET use"] {
        assert!(put(&store, 0, words, "x"));
    }
    let began = store.coherence().begin(PLACE);
    store.happened_to_prefix(b"user:");
    for words in ["GET user:1", "HGET user:2 f", "MGET a user:3"] {
        assert_eq!(get(&store, 0, words), None, "{words}");
    }
    assert!(get(&store, 0, "GET a").is_some() && get(&store, 0, "GET use").is_some());
    assert!(!put_until(&store, 0, "GET user:4", "x", 1000, began));
    assert!(put(&store, 0, "GET user:4", "x"));
    for key in ["a", "use", "user:4"] {
        store.happened(key.as_bytes());
    }
    assert_eq!((store.keys(), store.bytes()), (0, 0));
}

#[test]
fn what_is_stored_of_a_key_is_told_as_long_as_it_may_be_given() {
    let store = store(1 << 20);
    assert_eq!(store.of_key(b"a", 0), None);
    assert!(put_until(&store, 0, "GET a", "x", 500, store.coherence().begin(PLACE)));
    let one = store.of_key(b"a", 100).unwrap();
    assert_eq!((one.replies, one.left, one.bytes), (1, 400, store.bytes()));
    assert!(put_until(&store, 1, "GET a", &"x".repeat(300), 900, store.coherence().begin(PLACE)));
    let two = store.of_key(b"a", 100).unwrap();
    assert_eq!((two.replies, two.left, two.bytes), (2, 800, store.bytes()));
    assert!(two.bytes > one.bytes + 300);
    assert_eq!(store.of_key(b"a", 600).map(|of_key| (of_key.replies, of_key.left)), Some((1, 300)));
    assert_eq!((store.of_key(b"a", 900), store.of_key(b"b", 0)), (None, None));
    store.happened(b"a");
    assert_eq!(store.of_key(b"a", 100), None);
}
