//! What the near-cache reads: commands of clients, and replies of Redis.

use bytes::BytesMut;
use cachedservice::sidecar::{
    near_cache::{
        coherence::Coherence,
        commands::{Handling, Shape, meaning},
        connect::Protocol,
        nothing::nothing,
        store::{Question, Store, Terms},
    },
    resp::{
        older::older,
        reply::{Item, Reader, Scanner},
        request::{Command, Malformed, Parser},
    },
};

/// A command is no longer; beyond it there is a refusal, which is to be reached, too.
const MOST: usize = 1000;
/// And a line no longer than this.
const LINE: usize = 64 << 10;

/// Where the first two bytes say that the others are cut.
fn cut(data: &[u8]) -> Option<(&[u8], [usize; 4])> {
    let ([one, other], bytes) = data.split_first_chunk::<2>()?;
    let mut cuts = [0, usize::from(*one).min(bytes.len()), usize::from(*other).min(bytes.len()), bytes.len()];
    cuts.sort_unstable();
    Some((bytes, cuts))
}

/// Commands in pieces of whatever size are the same, and are passed on as what they were taken for.
pub fn command(data: &[u8]) {
    let Some((bytes, cuts)) = cut(data) else { return };
    let (all, refused) = commands(bytes, &[0, bytes.len()]);
    assert_eq!(commands(bytes, &cuts), (all.clone(), refused));
    for command in &all {
        assert!(command.raw().len() <= MOST.max(LINE * 4) && !command.is_empty());
        let (again, refused) = commands(command.raw(), &[0, command.raw().len()]);
        assert!(refused.is_none() || command.raw().len() > MOST, "{refused:?}");
        assert!(again.first().is_none_or(|again| again == command) && again.len() <= 1);
    }
    // Each argument has come, but for the words of a line, which are no longer than the line.
    let arguments: usize = all.iter().flat_map(Command::args).map(<[u8]>::len).sum();
    assert!(arguments <= bytes.len());
}

/// All that is taken out of bytes that come in pieces, until something is refused.
fn commands(bytes: &[u8], cuts: &[usize]) -> (Vec<Command>, Option<Malformed>) {
    let (mut parser, mut buffer, mut taken) = (Parser::default(), BytesMut::new(), Vec::new());
    for pair in cuts.windows(2) {
        buffer.extend_from_slice(&bytes[pair[0]..pair[1]]);
        loop {
            match parser.take(&mut buffer, MOST) {
                Ok(None) => break,
                Ok(Some(command)) => taken.push(command),
                Err(refused) => return (taken, Some(refused)),
            }
        }
        // Room is made for what is missing: only for what would be taken.
        assert!(parser.missing(&buffer) <= MOST);
    }
    (taken, None)
}

/// The lengths of the replies that bytes begin with, in pieces of whatever size; and whether what follows is none.
fn lengths(bytes: &[u8], cuts: &[usize]) -> (Vec<usize>, bool) {
    let (mut scanner, mut lengths, mut length) = (Scanner::default(), Vec::new(), 0);
    for pair in cuts.windows(2) {
        let mut piece = &bytes[pair[0]..pair[1]];
        while !piece.is_empty() {
            let Ok(seen) = scanner.scan(piece) else { return (lengths, true) };
            assert!(seen.bytes > 0 && (seen.is_whole || seen.bytes == piece.len()));
            piece = &piece[seen.bytes..];
            length += seen.bytes;
            if seen.is_whole {
                lengths.push(std::mem::take(&mut length));
            }
            assert_eq!(scanner.is_within(), length > 0);
        }
    }
    (lengths, false)
}

/// Replies of Redis in pieces of whatever size end at the same places; and what is in them is within them.
pub fn reply(data: &[u8]) {
    let Some((bytes, cuts)) = cut(data) else { return };
    let found = lengths(bytes, &[0, bytes.len()]);
    assert_eq!(lengths(bytes, &cuts), found);
    let mut rest = bytes;
    for length in found.0 {
        let (reply, after) = rest.split_at(length);
        rest = after;
        let mut reader = Reader::new(reply);
        let mut text = 0;
        for item in reader.by_ref() {
            text += match item {
                Item::Simple(text) | Item::Error(text) | Item::Bulk(text) | Item::Verbatim(text) => {
                    text.len()
                }
                Item::Double(text) | Item::BigNumber(text) => text.len(),
                _ => 0,
            };
        }
        assert!(text + reader.rest().len() <= length);
    }
}

/// A reply in RESP3 for a client that speaks RESP2: one whole reply, and little longer.
pub fn older_reply(data: &[u8]) {
    let (lengths, _) = lengths(data, &[0, data.len()]);
    let mut rest = data;
    for length in lengths {
        let (reply, after) = rest.split_at(length);
        rest = after;
        for shape in [Shape::ByType, Shape::Pairs, Shape::NullArrays] {
            let Some(made) = older(reply, shape) else { continue };
            assert!(made.len() <= 2 * reply.len() + 16, "{} of {}", made.len(), reply.len());
            assert_eq!(self::lengths(&made, &[0, made.len()]), (vec![made.len()], false));
        }
    }
    // What is no whole reply is none.
    for shape in [Shape::ByType, Shape::Pairs, Shape::NullArrays] {
        let _ = older(data, shape);
    }
}

thread_local! {
    /// A memory for one key at a time.
    static STORE: Store = {
        let store = Store::new(1 << 20, 4096, Coherence::default());
        store.coherence().confirm(0, 0);
        store
    };
}

/// Arguments, each in a line: what the table says of them is within them, and what is stored of them is found by them
/// alone.
pub fn meant(data: &[u8]) {
    let words: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let command = Command::of(&words);
    assert_eq!(command.args().collect::<Vec<_>>(), words);
    let meaning = meaning(&words[..]);
    assert_eq!(meaning, self::meaning(&command), "by whatever they are held");
    for keys in [meaning.reads(), meaning.changes()] {
        assert!(keys.len() < words.len());
        assert!(
            keys.clone().count() == keys.len() && keys.into_iter().all(|at| (1..words.len()).contains(&at))
        );
    }
    for protocol in [Protocol::Two, Protocol::Three] {
        if let Some(nothing) = nothing(&words[..], &meaning, protocol) {
            assert_eq!(lengths(&nothing, &[0, nothing.len()]), (vec![nothing.len()], false));
            assert!(nothing.len() <= 16 + 8 * words.len());
        }
    }
    match meaning.handling {
        Handling::Change => assert!(meaning.changes().len() > 0),
        Handling::Cached(_) => {
            assert!(meaning.reads().len() > 0 && meaning.changes().len() == 0);
            let keys: Vec<_> = meaning.reads().collect();
            STORE.with(|store| stored(store, &command, &words, &keys));
        }
        _ => {}
    }
}

fn question(command: &Command) -> Question<'_> {
    Question { tag: 1, command, keys: meaning(command).reads() }
}

fn stored(store: &Store, command: &Command, words: &[&[u8]], keys: &[usize]) {
    let mut out = BytesMut::new();
    let terms = Terms { token: store.coherence().begin(0), expires: u64::MAX, rule: 0 };
    if store.put(&question(command), terms, b"+a\r\n", 0) {
        assert!(store.get(&question(command), 0, &mut out).is_some() && &out[..] == b"+a\r\n");
        assert!(store.get(&Question { tag: 2, ..question(command) }, 0, &mut out).is_none());
        // Another argument is another question, if it is one.
        let mut other: Vec<Vec<u8>> = words.iter().map(|word| word.to_vec()).collect();
        other.last_mut().unwrap().push(b'x');
        let other = Command::of(&other.iter().map(Vec::as_slice).collect::<Vec<_>>());
        if let Handling::Cached(_) = meaning(&other).handling {
            assert!(store.get(&question(&other), 0, &mut out).is_none());
        }
    }
    for key in keys {
        store.happened(words[*key]);
        assert!(store.get(&question(command), 0, &mut out).is_none());
    }
    store.coherence().forget_all();
    store.coherence().confirm(0, 0);
}

const COMMANDS: [&str; 5] = [
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*-1\r\n*0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n",
    "set \"a b\\x41\\n\" 'c \\' d' \"\"\r\n\r\nPING\nget\tb\r\n",
    "*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$900\r\n",
    "*1048576\r\n$1\r\n*",
    "*1\r\n$1000\r\n",
];

const REPLIES: [&str; 6] = [
    "+OK\r\n-ERR no\r\n:-12\r\n$-1\r\n*-1\r\n$3\r\na\r\n\r\n*2\r\n$1\r\na\r\n*0\r\n",
    "%2\r\n+a\r\n:1\r\n$1\r\nb\r\n~2\r\n_\r\n#t\r\n",
    ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n",
    "|1\r\n+ttl\r\n:1\r\n,1.5\r\n(12345678901234567890\r\n=7\r\ntxt:a b\r\n!5\r\nERR a\r\n",
    "*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,inf\r\n",
    "*1\r\n*1\r\n*1\r\n*1\r\n$9223372036854775807\r\n",
];

const MEANT: [&str; 12] = [
    "GET\na",
    "mget\na\nb\na",
    "SINTERCARD\n2\na\nb\nLIMIT\n1",
    "ZUNION\n4294967295\na\nb\nWEIGHTS\n1\n2",
    "EVAL\nreturn 1\n18446744073709551615\na\nb",
    "XREAD\nCOUNT\n1\nBLOCK\n0\nSTREAMS\na\nb\n0\n0",
    "SORT\na\nBY\nx*\nGET\n#\nSTORE\nb",
    "GEORADIUS\na\n0\n0\n1\nm\nSTORE\nb\nSTOREDIST\nc",
    "BITFIELD\na\nGET\nu8\n0\nSET\nu8\n0\n1",
    "HGETEX\na\nEX\n5\nFIELDS\n2\nf\ng",
    "MIGRATE\nh\n1\n\n0\n5\nKEYS\na\nb",
    "CLIENT\nTRACKING\nON\nBCAST\nPREFIX\na",
];

/// Valid inputs of a target.
pub fn seeds(target: &str) -> Option<Vec<Vec<u8>>> {
    let cut = |text: &&str| [b"\x05\x50", text.as_bytes()].concat();
    Some(match target {
        "command" => COMMANDS.iter().map(cut).collect(),
        "reply" => REPLIES.iter().map(cut).collect(),
        "older" => REPLIES.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "meant" => MEANT.iter().map(|text| text.as_bytes().to_vec()).collect(),
        _ => return None,
    })
}
