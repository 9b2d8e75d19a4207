//! A connection to Redis that shows what is on it, byte by byte.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::redis_server::{Redis, free_port};

const PASSWORD: &str = "p";
const LIMIT: Duration = Duration::from_secs(20);

/// A Redis of the test's own.
pub fn server() -> Redis {
    Redis::start(free_port(), PASSWORD)
}

/// A reply, as far as a test looks into it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Many(Vec<Value>),
    Nothing,
}

impl Value {
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn many(&self) -> &[Value] {
        match self {
            Self::Many(values) => values,
            other => panic!("{other:?} is no array"),
        }
    }

    pub fn texts(&self) -> Vec<&str> {
        self.many().iter().map(Self::text).collect()
    }
}

pub struct Wire {
    stream: BufReader<TcpStream>,
    /// The keys of the invalidations that have come.
    pub invalidated: BTreeSet<String>,
}

impl Wire {
    /// Once the server answers.
    pub fn connect(server: &Redis, protocol: &str) -> Self {
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", server.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(begin.elapsed() < LIMIT, "{error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Self { stream: BufReader::new(stream), invalidated: BTreeSet::new() };
        let greeting = wire.ask(&["HELLO", protocol, "AUTH", "default", PASSWORD]);
        assert!(!greeting.starts_with(b"-"), "{}", String::from_utf8_lossy(&greeting));
        wire
    }

    /// The bytes of the reply.
    pub fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Vec<u8> {
        self.tell(args);
        self.reply()
    }

    /// The same, of words with spaces between them.
    pub fn line(&mut self, line: &str) -> Vec<u8> {
        self.ask(&words(line))
    }

    pub fn value(&mut self, line: &str) -> Value {
        self.value_of(&words(line))
    }

    pub fn value_of(&mut self, args: &[&str]) -> Value {
        let reply = self.ask(args);
        let mut rest = &reply[..];
        value(&mut rest)
    }

    pub fn tell<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args.iter().map(AsRef::as_ref) {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// The next that is no push.
    pub fn reply(&mut self) -> Vec<u8> {
        loop {
            let mut bytes = Vec::new();
            whole(&mut self.stream, &mut bytes);
            if !bytes.starts_with(b">") {
                return bytes;
            }
            let push = value(&mut &bytes[..]);
            if let [_, Value::Many(keys)] = push.many() {
                self.invalidated.extend(keys.iter().map(|key| key.text().to_owned()));
            }
        }
    }
}

/// `''` is an empty word.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().map(|word| if word == "''" { "" } else { word }).collect()
}

/// Adds the next whole reply to these bytes.
fn whole(stream: &mut impl BufRead, bytes: &mut Vec<u8>) {
    let begin = bytes.len();
    assert!(stream.read_until(b'\n', bytes).unwrap() > 0, "the server has closed the connection");
    let line = std::str::from_utf8(&bytes[begin + 1..]).unwrap().trim_end();
    let number = || line.parse::<i64>().unwrap();
    match bytes[begin] {
        b'$' | b'=' if number() >= 0 => {
            let length = u64::try_from(number()).unwrap() + 2;
            assert_eq!(stream.take(length).read_to_end(bytes).unwrap() as u64, length);
        }
        b'*' | b'~' | b'>' => (0..number()).for_each(|_| whole(stream, bytes)),
        b'%' => (0..number() * 2).for_each(|_| whole(stream, bytes)),
        _ => {}
    }
}

fn value(rest: &mut &[u8]) -> Value {
    let mut line = Vec::new();
    rest.read_until(b'\n', &mut line).unwrap();
    let text = String::from_utf8_lossy(&line[1..]).trim_end().to_owned();
    let number = || text.parse::<i64>().unwrap();
    match line[0] {
        b'$' if number() >= 0 => {
            let length = usize::try_from(number()).unwrap();
            let string = String::from_utf8_lossy(&rest[..length]).into_owned();
            *rest = &rest[length + 2..];
            Value::Text(string)
        }
        b'*' | b'~' | b'>' => Value::Many((0..number()).map(|_| value(rest)).collect()),
        b'%' => Value::Many((0..number() * 2).map(|_| value(rest)).collect()),
        b':' => Value::Number(number()),
        b'$' | b'_' => Value::Nothing,
        b'-' => Value::Text(format!("-{text}")),
        _ => Value::Text(text),
    }
}
