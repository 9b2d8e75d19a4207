//! A client: its commands in their order, and what holds for them, such as user and database.
//!
//! What may go with the commands of others goes to a line, all that has come at once in one piece; the session sticks to
//! its line as long as it awaits replies there, so that they come in order. What the memory of the pod may answer is
//! looked for there when no reply is awaited on the line. All else waits until no reply is awaited at all, and is then
//! handled alone.

mod connection;
mod held;
mod memory;
mod turns;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf, time::timeout};

use self::turns::Leading;
use super::{
    commands::{Args, Connection, Handling, Meaning, Transaction, meaning},
    connect::{Place, Refused},
    lease::Waiter,
    line::{Before, Line, Part, Untaken},
    near::{Spot, unreached::Instead},
    outlet::{Outlet, spare},
    reach::Reach,
    server::Relay,
};
use crate::sidecar::resp::{
    request::{Command, Malformed, Parser},
    write,
};

/// So much is sent to a line at once.
const BATCH: usize = 64 << 10;
/// And so many commands.
const COMMANDS: usize = 512;
/// What is read at least, and at most, at once.
const READ: (usize, usize) = (4 << 10, 64 << 10);
/// What has been said to a client that ends is to reach it within this time.
const LAST: Duration = Duration::from_secs(5);

/// A client, and what holds for its commands.
pub struct Session {
    relay: Arc<Relay>,
    input: OwnedReadHalf,
    buffer: BytesMut,
    parser: Parser,
    /// How much is read at once: more where much comes.
    wanted: usize,
    /// Of the buffer, what is counted with that of all clients.
    charged: usize,
    outlet: Arc<Outlet>,
    initial: Place,
    place: Place,
    /// As the client has called itself; empty: it has not.
    name: Bytes,
    line: Option<Arc<Line>>,
    /// What is to go to the line, and how many commands that are.
    batch: BytesMut,
    count: usize,
    parts: Vec<Part>,
    /// Where it stands in the memory of the pod, and what was found there. Either this or the batch is empty.
    spot: Spot,
    hits: BytesMut,
    /// What it leads of what others wait for, and its own reads that may wait.
    leading: Leading,
    turns: Vec<Arc<Waiter>>,
}

/// The client is gone, or nothing more is to be done for it.
struct Over;

type Step<T = ()> = Result<T, Over>;

/// What a session goes on with.
enum Turn {
    /// There is more to look at.
    Input,
    /// The client sends no more.
    End,
}

impl Args for Command {
    fn count(&self) -> usize {
        self.len()
    }

    fn arg(&self, at: usize) -> Option<&[u8]> {
        Self::arg(self, at)
    }
}

impl Session {
    /// Of a client that has just come.
    #[must_use]
    pub fn of(relay: Arc<Relay>, input: OwnedReadHalf, outlet: Arc<Outlet>) -> Self {
        let initial = relay.initial();
        let spot = relay.near().spot(&initial);
        Self {
            relay,
            input,
            buffer: BytesMut::new(),
            parser: Parser::default(),
            wanted: READ.0,
            charged: 0,
            outlet,
            place: initial.clone(),
            initial,
            name: Bytes::new(),
            line: None,
            batch: BytesMut::new(),
            count: 0,
            parts: Vec::new(),
            spot,
            hits: BytesMut::new(),
            leading: Leading::default(),
            turns: Vec::new(),
        }
    }

    /// Until the client is gone.
    pub async fn serve(mut self) {
        while self.work().await.is_ok() {
            match poll_fn(|cx| self.poll_turn(cx)).await {
                Ok(Turn::Input) => {}
                Ok(Turn::End) | Err(Over) => break,
            }
        }
        // What was asked is answered, also where the client has only said that it asks no more; what waits for others, as
        // if they did not come.
        self.hurry(|_| true);
        let outlet = self.outlet.clone();
        let last = poll_fn(|cx| match outlet.poll_settled(cx, 0) {
            Poll::Ready(Ok(())) => outlet.poll_flush(cx),
            other => other,
        });
        if timeout(LAST, last).await.is_err() {
            tracing::debug!("a client of the near-cache does not take what it has asked for");
        }
        self.outlet.cut();
        self.charge(0);
    }

    /// Handles what is in the buffer, as far as there is room for its replies.
    async fn work(&mut self) -> Step {
        loop {
            match self.parser.take(&mut self.buffer, self.relay.bounds().command) {
                Ok(None) => break,
                Ok(Some(command)) => {
                    let meaning = meaning(&command);
                    let command = self.relay.near().lasting(command, &meaning);
                    if self.takes_turns(&command, &meaning).await? || self.remembers(&command, &meaning).await
                    {
                        if self.outlet.is_full() {
                            return self.submit().await;
                        }
                    } else if goes_with_others(&meaning) {
                        let before = self.before(&command, &meaning);
                        let instead = self.relay.near().instead(&self.spot, &command, &meaning);
                        self.add(&command, before, instead);
                        if self.batch.len() < BATCH && self.count < COMMANDS {
                            continue;
                        }
                        self.submit().await?;
                        if self.outlet.is_full() {
                            return Ok(());
                        }
                    } else {
                        self.submit().await?;
                        self.settle().await?;
                        self.alone(command, &meaning).await?;
                    }
                }
                Err(malformed) => {
                    self.submit().await?;
                    return self.refuse(&malformed);
                }
            }
        }
        self.submit().await?;
        spare(&mut self.buffer);
        spare(&mut self.batch);
        Ok(())
    }

    /// What concerns the connection.
    async fn alone(&mut self, command: Command, meaning: &Meaning) -> Step {
        match meaning.handling {
            Handling::Connection(connection) => self.connection(command, connection).await,
            _ => self.hold(command, false).await,
        }
    }

    fn refuse(&mut self, malformed: &Malformed) -> Step {
        let mut told = BytesMut::new();
        write::error(&mut told, &malformed.to_string());
        self.outlet.ready(told.freeze());
        Err(Over)
    }

    /// Sends it with what others send.
    fn add(&mut self, command: &Command, before: Before, instead: Option<Box<Instead>>) {
        self.give_hits();
        self.batch.extend_from_slice(command.raw());
        self.count += 1;
        match (self.parts.last_mut(), before, instead) {
            (Some(Part { count, before: Before::Nothing, instead: None, .. }), Before::Nothing, None) => {
                *count += 1;
            }
            (_, before, instead) => self.parts.push(Part { count: 1, number: None, before, instead }),
        }
    }

    /// Gives what is there, and sends what goes to the line.
    async fn submit(&mut self) -> Step {
        self.give_hits();
        if self.count > 0 && self.outlet.awaited().1 > 0 {
            // What is read elsewhere is read before.
            self.read_before().await?;
        }
        while self.count > 0 {
            if self.line.as_ref().is_some_and(|line| line.is_retired() && !line.is_stuck()) {
                // Its Redis may be another than that of the one that takes its place: it gets nothing more.
                self.read_before().await?;
            }
            let is_bound = self.line.is_some() && self.outlet.awaited().0 > 0;
            let present = match self.line.take() {
                Some(line) if is_bound || !line.is_busy() => Some(line),
                _ => self.relay.pool().present(&self.place),
            };
            let line = match present {
                Some(line) => line,
                None => match self.relay.pool().line(&self.place).await {
                    Ok(line) => line,
                    Err(refused) => {
                        self.answer_all(&refused);
                        break;
                    }
                },
            };
            if line.is_stuck() && self.relay.reach().is_off() {
                self.line = Some(line);
                self.answer_all(&Reach::off());
                break;
            }
            match line.submit(&self.batch, &self.outlet, &mut self.parts) {
                Ok(()) => {
                    self.line = Some(line);
                    self.batch.clear();
                    self.count = 0;
                }
                Err(Untaken::Full) => {
                    let outlet = self.outlet.clone();
                    poll_fn(|cx| match outlet.poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(Over)),
                        _ => line.poll_room(cx).map(Ok),
                    })
                    .await?;
                    self.line = Some(line);
                }
                // Its replies are errors; then another is taken.
                Err(Untaken::Lost) => self.read_before().await?,
            }
        }
        Ok(())
    }

    /// What was to go to the line is not asked.
    fn answer_all(&mut self, refused: &Refused) {
        let mut parser = Parser::default();
        while let Ok(Some(command)) = parser.take(&mut self.batch, usize::MAX) {
            self.outlet.ready(self.relay.unasked(&self.spot, &command, refused));
        }
        self.count = 0;
        self.batch.clear();
        self.parts.drain(..).for_each(|part| part.before.unasked());
    }

    /// Waits until no reply is awaited.
    async fn settle(&self) -> Step {
        poll_fn(|cx| self.outlet.poll_settled(cx, 0)).await.map_err(|_| Over)
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Step<Turn>> {
        let is_written = match self.outlet.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Over)),
            Poll::Pending => false,
        };
        if self.outlet.is_full() {
            let most = self.relay.bounds().outlet.awaited / 2;
            return match self.outlet.poll_settled(cx, most) {
                Poll::Ready(Err(_)) => Poll::Ready(Err(Over)),
                // It is written down, or the replies have come.
                Poll::Ready(Ok(())) if !self.outlet.is_full() => Poll::Ready(Ok(Turn::Input)),
                _ => Poll::Pending,
            };
        }
        if self.relay.is_ending() && is_written && self.buffer.is_empty() {
            return match self.outlet.poll_settled(cx, 0) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(_) => Poll::Ready(Err(Over)),
            };
        }
        self.poll_input(cx)
    }

    /// Reads what the client sends.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Step<Turn>> {
        let missing = self.parser.missing(&self.buffer).min(1 << 20);
        self.buffer.reserve(self.wanted.max(missing));
        let room = self.buffer.capacity() - self.buffer.len();
        let read = pin!(self.input.read_buf(&mut self.buffer)).poll(cx);
        match read {
            Poll::Pending => {
                if self.buffer.is_empty() && self.buffer.capacity() > 2 * READ.0 {
                    self.buffer = BytesMut::new();
                }
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(Turn::End)),
            Poll::Ready(Ok(read)) => {
                self.wanted = if read == room { READ.1 } else { READ.0 };
                if self.buffer.len() > READ.1 || self.charged > 0 {
                    let length = self.buffer.len();
                    if !self.charge(length) {
                        let told = b"-ERR too much waits to be sent by the clients of this pod; send it in parts\r\n";
                        self.outlet.ready(Bytes::from_static(told));
                        return Poll::Ready(Err(Over));
                    }
                }
                Poll::Ready(Ok(Turn::Input))
            }
            Poll::Ready(Err(_)) => {
                self.outlet.cut();
                Poll::Ready(Err(Over))
            }
        }
    }

    /// So much is in the buffer; whether there is room for it beside what others have sent.
    fn charge(&mut self, bytes: usize) -> bool {
        let is_fine = self.relay.charge(self.charged, bytes);
        self.charged = bytes;
        is_fine
    }

    /// All is as at the beginning.
    fn reset(&mut self) {
        self.place = self.initial.clone();
        self.spot = self.relay.near().spot(&self.place);
        self.name = Bytes::new();
        self.line = None;
        self.outlet.ready(Bytes::from_static(b"+RESET\r\n"));
    }
}

/// Whether it may be sent between commands of others: it neither asks nor alters what Redis knows of a connection,
/// and holds nobody up.
fn goes_with_others(meaning: &Meaning) -> bool {
    match meaning.handling {
        Handling::Cached(_)
        | Handling::Read
        | Handling::Change
        | Handling::ChangeUnknown
        | Handling::ChangeAll
        | Handling::Passed
        // Without a transaction they are refused, or do nothing.
        | Handling::Transaction(Transaction::Exec | Transaction::Discard | Transaction::Unwatch) => true,
        Handling::Connection(connection) => passes(connection),
        Handling::Transaction(Transaction::Multi | Transaction::Watch)
        | Handling::Blocking
        | Handling::Wait
        | Handling::PubSub(_)
        | Handling::TakesOver => false,
    }
}

/// Of what has to do with connections, what has not to do with the one on which it is sent.
fn passes(connection: Connection) -> bool {
    match connection {
        Connection::List
        | Connection::Kill
        | Connection::Unblock
        // The name of the library is that of whoever has said it last.
        | Connection::SetInfo
        // Refused by a Redis that is no cluster.
        | Connection::ReadOnly
        | Connection::ReadWrite
        | Connection::Asking => true,
        Connection::Auth
        | Connection::Hello
        | Connection::Select
        | Connection::Reset
        | Connection::Quit
        | Connection::SetName
        | Connection::GetName
        | Connection::Id
        | Connection::Info
        | Connection::Reply
        | Connection::Tracking
        | Connection::Caching
        | Connection::TrackingInfo
        | Connection::Redirection
        | Connection::NoEvict
        | Connection::NoTouch
        | Connection::Other => false,
    }
}
