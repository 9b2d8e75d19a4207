//! Whoever's a reply is: many clients on one connection to Redis, and replies that come elsewhere, in any order and in
//! any pieces.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use cachedservice::sidecar::near_cache::{
    connect::Stream,
    line::{Before, LOST, Line, Part},
    outlet::{Bounds, Held, Outlet},
};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{LIMIT, bulk};

const CLIENTS: usize = 3;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

#[derive(Clone, Debug)]
enum Step {
    /// A client asks for so many replies on the line.
    Ask(usize, usize),
    /// It asks for one there that has a place of its own.
    AskOwn(usize),
    /// It asks for one that comes elsewhere.
    AskElsewhere(usize),
    /// It is told what is there already.
    Ready(usize),
    /// Redis says so many more bytes of what it was asked.
    Say(usize),
    /// What was asked elsewhere comes, in two pieces; perhaps withheld at first.
    Land(Index, Index, bool),
    /// What is withheld is given.
    Release(Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = any::<Index>;
    let step = prop_oneof![
        4 => (0..CLIENTS, 1..4_usize).prop_map(|(client, count)| Step::Ask(client, count)),
        2 => (0..CLIENTS).prop_map(Step::AskOwn),
        2 => (0..CLIENTS).prop_map(Step::AskElsewhere),
        1 => (0..CLIENTS).prop_map(Step::Ready),
        5 => prop_oneof![1..40_usize, 1..400_usize].prop_map(Step::Say),
        2 => (at(), at(), any::<bool>()).prop_map(|(which, cut, withheld)| Step::Land(which, cut, withheld)),
        1 => at().prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..60)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (one, listener.accept().await.unwrap().0)
}

struct World {
    clients: Vec<(TcpStream, Arc<Outlet>)>,
    /// What each client is to be told, in its order.
    expected: [Vec<String>; CLIENTS],
    line: Arc<Line>,
    redis: TcpStream,
    /// What Redis was asked and has not said.
    unsaid: VecDeque<u8>,
    /// What was asked elsewhere and has not come: whose, its number and what it is.
    elsewhere: Vec<(usize, u64, String)>,
    withheld: Vec<(usize, u64)>,
    count: usize,
}

impl World {
    async fn new() -> Self {
        let mut clients = Vec::new();
        let held = Arc::new(Held::default());
        for _ in 0..CLIENTS {
            let (client, served) = pair().await;
            let (_, output) = served.into_split();
            clients.push((client, Outlet::to(output, Bounds::default(), held.clone())));
        }
        let (stream, redis) = pair().await;
        let line = Arc::new(Line::default());
        let carried = line.clone();
        tokio::spawn(async move { carried.carry(Stream::Tcp(stream)).await });
        Self {
            clients,
            expected: Default::default(),
            line,
            redis,
            unsaid: VecDeque::new(),
            elsewhere: Vec::new(),
            withheld: Vec::new(),
            count: 0,
        }
    }

    /// The next reply to a client: no two are the same, and some are long.
    fn reply(&mut self, client: usize) -> String {
        self.count += 1;
        let reply = bulk(&format!("{client}:{}:{}", self.count, "x".repeat(self.count * 37 % 200)));
        self.expected[client].push(reply.clone());
        reply
    }

    async fn ask(&mut self, client: usize, count: usize, number: Option<u64>) {
        let mut parts = vec![Part { count, number, before: Before::Nothing, instead: None }];
        self.line.submit(&PING.repeat(count), &self.clients[client].1, &mut parts).unwrap();
        // Redis says nothing before it is asked.
        let mut asked = vec![0; PING.len() * count];
        timeout(LIMIT, self.redis.read_exact(&mut asked)).await.expect("asked in time").unwrap();
        for _ in 0..count {
            let reply = self.reply(client);
            self.unsaid.extend(reply.as_bytes());
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(client, count) => self.ask(*client, *count, None).await,
            Step::AskOwn(client) => {
                let number = self.clients[*client].1.expect_own(false);
                self.ask(*client, 1, Some(number)).await;
            }
            Step::AskElsewhere(client) => {
                let number = self.clients[*client].1.expect_own(true);
                let reply = self.reply(*client);
                self.elsewhere.push((*client, number, reply));
            }
            Step::Ready(client) => {
                let reply = self.reply(*client);
                self.clients[*client].1.ready(Bytes::from(reply));
            }
            Step::Say(bytes) => {
                let said: Vec<u8> = self.unsaid.drain(..(*bytes).min(self.unsaid.len())).collect();
                self.redis.write_all(&said).await.unwrap();
                tokio::task::yield_now().await;
            }
            Step::Land(which, cut, is_withheld) => {
                if !self.elsewhere.is_empty() {
                    let (client, number, reply) = self.elsewhere.remove(which.index(self.elsewhere.len()));
                    let (first, last) = reply.as_bytes().split_at(cut.index(reply.len()));
                    let outlet = &self.clients[client].1;
                    outlet.deliver_own(number, first, false, *is_withheld);
                    outlet.deliver_own(number, last, true, *is_withheld);
                    if *is_withheld {
                        self.withheld.push((client, number));
                    }
                }
            }
            Step::Release(which) => {
                if !self.withheld.is_empty() {
                    let (client, number) = self.withheld.remove(which.index(self.withheld.len()));
                    self.clients[client].1.release(number);
                }
            }
        }
    }

    /// All that was asked elsewhere has come.
    fn land(&mut self) {
        for (client, number, reply) in self.elsewhere.drain(..) {
            self.clients[client].1.deliver_own(number, reply.as_bytes(), true, false);
        }
        for (client, number) in self.withheld.drain(..) {
            self.clients[client].1.release(number);
        }
    }
}

/// All steps; then all that is missing comes, and each client has what it is to be told and nothing else.
async fn whole(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    for step in steps {
        world.step(step).await;
    }
    world.step(&Step::Say(usize::MAX)).await;
    world.land();
    for ((client, outlet), expected) in world.clients.iter_mut().zip(&world.expected) {
        let expected = expected.concat();
        let mut told = vec![0; expected.len()];
        timeout(LIMIT, client.read_exact(&mut told)).await.expect("told in time").unwrap();
        prop_assert_eq!(String::from_utf8_lossy(&told), expected);
        outlet.cut();
        prop_assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "and nothing else");
    }
    prop_assert_eq!(world.line.outstanding(), 0);
    Ok(())
}

/// All steps; then the connection to Redis is lost. What was not said whole is an error, or the end where it had begun.
async fn lost(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    for step in steps {
        world.step(step).await;
    }
    world.redis.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, world.redis.read_to_end(&mut rest)).await.expect("its end is known");
    world.land();
    for ((client, outlet), expected) in world.clients.iter_mut().zip(&world.expected) {
        outlet.cut();
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        let mut rest = &told[..];
        for reply in expected {
            let reply = reply.as_bytes();
            rest = if let Some(rest) = rest.strip_prefix(reply).or_else(|| rest.strip_prefix(LOST)) {
                rest
            } else {
                prop_assert!(reply.starts_with(rest), "{}", String::from_utf8_lossy(&told));
                &[]
            };
        }
        prop_assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&told));
    }
    Ok(())
}

fn hold(is_so: impl AsyncFn(&[Step]) -> Result<(), TestCaseError>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
        .run(&steps(), |steps| runtime.block_on(is_so(&steps)))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_client_has_its_own_replies_in_its_order_however_they_come() {
    hold(whole);
}

#[test]
fn no_client_has_the_reply_of_another_where_the_connection_is_lost() {
    hold(lost);
}
