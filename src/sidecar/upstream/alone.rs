//! A connection of HTTP/1, which is for one request at a time.
//!
//! Whoever waits for its answer drives it: a task of its own would have to be woken for each request and to
//! wake in turn, which costs as much as the rest of the way. Where a request has a body it has its task all
//! the same, as the body has to go on also while nobody takes the answer.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::coop::unconstrained};

use super::{body::Upload, fault::Fault, pieces::Pieces};
use crate::sidecar::http::edge::unwritten::Unwritten;

/// A connection of HTTP/1.
pub struct Alone {
    sender: SendRequest<Upload>,
    unwritten: Arc<Unwritten>,
    /// None where a task has it, or it has ended.
    driver: Option<Driver>,
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

impl Alone {
    /// On a stream. Of an answer that nobody takes no more than `buffer` is read.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn on(stream: TcpStream, buffer: usize) -> Result<Self, Fault> {
        let unwritten = Arc::new(Unwritten::default());
        let stream = Pieces::of(stream, unwritten.clone());
        let mut builder = Builder::new();
        builder.max_buf_size(buffer);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Unsent)?;
        Ok(Self { sender, unwritten, driver: Some(Box::pin(driver.with_upgrades())) })
    }

    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Errors
    /// As hyper tells, with the request where nothing of it was sent.
    // The request comes back whole.
    #[allow(clippy::result_large_err)]
    pub async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        if let Upload::Lent(body) = request.body() {
            body.goes_to(self.unwritten.clone());
            self.drive_apart();
        }
        let mut answer = pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        let answer = poll_fn(|context| {
            // With a task, it is the answer that is waited for.
            poll_driver(driver, context);
            answer.as_mut().poll(context)
        });
        let answer = answer.await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // What comes is for both ends of a tunnel.
            self.drive_apart();
        }
        Ok(answer)
    }

    /// Goes on with the body of the answer; whoever is woken by `context` asks again.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        poll_driver(&mut self.driver, context);
    }

    /// Whether it is known to have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.sender.is_closed()
    }

    /// The same, with what has happened to it since.
    pub fn is_closed(&mut self) -> bool {
        self.look();
        self.has_ended()
    }

    /// Whether it is done with the last answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sees what has happened to it while nobody drove it.
    fn look(&mut self) {
        if let Some(driver) = &mut self.driver {
            // All that has come, and not as much as the task has left to do.
            let looked = pin!(unconstrained(driver)).poll(&mut Context::from_waker(Waker::noop()));
            if looked.is_ready() {
                self.driver = None;
            }
        }
    }

    fn drive_apart(&mut self) {
        if let Some(driver) = self.driver.take() {
            tokio::spawn(async move {
                let _ = driver.await;
            });
        }
    }
}

fn poll_driver(driver: &mut Option<Driver>, context: &mut Context<'_>) {
    let ended = driver.as_mut().map_or(Poll::Pending, |driver| driver.as_mut().poll(context));
    if ended.is_ready() {
        // Who waits for something of it is told by this.
        *driver = None;
    }
}
