//! What a client says of its connection: who it is, which database and which protocol it wants.
//!
//! Redis decides: a connection that is as the client wants it is opened, or there already, and the same is said on it,
//! which changes nothing there. Its reply is the client's.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Over, Session, Step};
use crate::sidecar::{
    near_cache::{
        commands::Connection,
        connect::{Credentials, Identity, Place, Protocol},
        line::{Before, Part, Untaken},
    },
    resp::{request::Command, write},
};

/// What HELLO asks for.
struct Hello<'a> {
    protocol: Protocol,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl Session {
    pub(super) async fn connection(&mut self, command: Command, connection: Connection) -> Step {
        match connection {
            Connection::Select => self.select(&command).await,
            Connection::Auth => self.auth(&command).await,
            Connection::Hello => self.hello(&command).await,
            Connection::Reset if command.len() == 1 => {
                self.reset();
                Ok(())
            }
            Connection::Quit => {
                self.outlet.ready(Bytes::from_static(write::OK));
                Err(Over)
            }
            Connection::SetName if command.len() == 3 => {
                self.set_name(command.arg(2).unwrap_or_default());
                Ok(())
            }
            Connection::GetName if command.len() == 2 => {
                self.get_name();
                Ok(())
            }
            // Of Redis Enterprise; to others it is unknown. On a line it would concern all.
            Connection::Other if is(command.arg(1), b"MAINT_NOTIFICATIONS") => {
                self.outlet.ready(Bytes::from_static(
                    b"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n",
                ));
                Ok(())
            }
            // A wrong number of arguments, which Redis refuses.
            Connection::Reset | Connection::SetName | Connection::GetName => self.pass(&command).await,
            // The connection itself is meant: from here on it is this client's.
            _ => self.hold(command, true).await,
        }
    }

    /// Sends it with those of others, as it cannot succeed.
    async fn pass(&mut self, command: &Command) -> Step {
        self.add(command, Before::Nothing, None);
        self.submit().await
    }

    async fn select(&mut self, command: &Command) -> Step {
        let number = command.arg(1).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            let number: i32 = digits.parse().ok()?;
            // Redis takes no other form (`string2ll`).
            (number.to_string() == digits).then(|| u32::try_from(number).ok()).flatten()
        });
        let Some(database) = number.filter(|_| command.len() == 2) else {
            return self.pass(command).await;
        };
        self.turn_to(Place { database, ..self.place.clone() }, command.raw()).await?;
        Ok(())
    }

    async fn auth(&mut self, command: &Command) -> Step {
        let copy = |at| Bytes::copy_from_slice(command.arg(at).unwrap_or_default());
        let credentials = match command.len() {
            2 => Credentials { user: None, password: copy(1) },
            3 => Credentials { user: Some(copy(1)), password: copy(2) },
            _ => return self.pass(command).await,
        };
        let identity = Arc::new(Identity::Client(credentials));
        self.turn_to(Place { identity, ..self.place.clone() }, command.raw()).await?;
        Ok(())
    }

    async fn hello(&mut self, command: &Command) -> Step {
        if command.len() == 1 {
            return self.pass(command).await;
        }
        let hello = match read_hello(command) {
            Ok(hello) => hello,
            Err(problem) => {
                self.tell(&problem);
                return Ok(());
            }
        };
        let version: &[u8] = if hello.protocol == Protocol::Three { b"3" } else { b"2" };
        let mut place = Place { protocol: hello.protocol, ..self.place.clone() };
        let sent = match hello.credentials {
            None => write::command(&[b"HELLO", version]),
            Some((user, password)) => {
                let [user_of, password_of] = [user, password].map(Bytes::copy_from_slice);
                let credentials = Credentials { user: Some(user_of), password: password_of };
                place.identity = Arc::new(Identity::Client(credentials));
                write::command(&[b"HELLO", version, b"AUTH", user, password])
            }
        };
        let name = hello.name.map(Bytes::copy_from_slice);
        if self.turn_to(place, &sent).await?
            && let Some(name) = name
        {
            self.name = name;
        }
        Ok(())
    }

    /// Goes on at another place, if Redis says yes to what is said there; its reply is the client's.
    async fn turn_to(&mut self, place: Place, sent: &[u8]) -> Step<bool> {
        let line = loop {
            let line = match self.relay.pool().line(&place).await {
                Ok(line) => line,
                Err(refused) => {
                    let _ = self.outlet.seen();
                    self.outlet.ready(refused.told());
                    return Ok(false);
                }
            };
            self.outlet.look();
            let mut parts = vec![Part { count: 1, number: None, before: Before::Nothing, instead: None }];
            match line.submit(sent, &self.outlet, &mut parts) {
                Ok(()) => break line,
                Err(Untaken::Full) => std::future::poll_fn(|cx| line.poll_room(cx)).await,
                Err(Untaken::Lost) => {}
            }
        };
        self.settle().await?;
        let is_taken = !self.outlet.seen().starts_with(b"-");
        if is_taken {
            self.spot = self.relay.near().spot(&place);
            (self.place, self.line) = (place, Some(line));
        }
        Ok(is_taken)
    }

    fn set_name(&mut self, name: &[u8]) {
        if is_name(name) {
            self.name = Bytes::copy_from_slice(name);
            self.outlet.ready(Bytes::from_static(write::OK));
        } else {
            self.tell(BAD_NAME);
        }
    }

    fn get_name(&mut self) {
        let mut told = BytesMut::new();
        match (self.name.is_empty(), self.place.protocol) {
            (true, Protocol::Two) => told.extend_from_slice(b"$-1\r\n"),
            (true, Protocol::Three) => told.extend_from_slice(b"_\r\n"),
            (false, _) => write::bulk(&mut told, &self.name),
        }
        self.outlet.ready(told.freeze());
    }

    /// An error.
    fn tell(&self, problem: &str) {
        let mut told = BytesMut::new();
        write::error(&mut told, problem);
        self.outlet.ready(told.freeze());
    }
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

fn is_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

fn is(arg: Option<&[u8]>, word: &[u8]) -> bool {
    arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

/// What it asks for, or what Redis would say (`helloCommand` in `networking.c`). What it would refuse is not sent: an
/// older one takes the user first.
fn read_hello(command: &Command) -> Result<Hello<'_>, String> {
    let version = command.arg(1).and_then(|digits| {
        let digits = std::str::from_utf8(digits).ok()?;
        let number: i64 = digits.parse().ok()?;
        (number.to_string() == digits).then_some(number)
    });
    let protocol = match version {
        None => return Err("ERR Protocol version is not an integer or out of range".to_owned()),
        Some(2) => Protocol::Two,
        Some(3) => Protocol::Three,
        Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
    };
    let mut hello = Hello { protocol, credentials: None, name: None };
    let mut at = 2;
    while let Some(option) = command.arg(at) {
        match (command.arg(at + 1), command.arg(at + 2)) {
            (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"AUTH") => {
                hello.credentials = Some((user, password));
                at += 3;
            }
            (Some(name), _) if option.eq_ignore_ascii_case(b"SETNAME") => {
                if !is_name(name) {
                    return Err(BAD_NAME.to_owned());
                }
                hello.name = Some(name);
                at += 2;
            }
            _ => {
                let option = String::from_utf8_lossy(option).replace(['\r', '\n'], " ");
                return Err(format!("ERR Syntax error in HELLO option '{option}'"));
            }
        }
    }
    Ok(hello)
}
