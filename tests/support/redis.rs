//! A real Redis on loopback, as one that the operator does not run.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// A running Redis; killed when dropped.
pub struct Redis {
    server: Child,
    #[allow(dead_code)]
    pub port: u16,
}

impl Redis {
    /// Starts one that wants this password.
    pub fn start(port: u16, password: &str) -> Self {
        Self::with(port, &["--port", &port.to_string(), "--requirepass", password])
    }

    /// Starts one that listens on this port, by what stands there.
    pub fn with(port: u16, options: &[&str]) -> Self {
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "redis-server", "--bind", "127.0.0.1", "--save", ""])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("run redis-server through setpriv");
        Self { server, port }
    }

    /// Stops it where it is, as a machine that hangs does, or lets it go on.
    pub fn freeze(&self, is_frozen: bool) {
        let pid = i32::try_from(self.server.id()).ok().and_then(rustix::process::Pid::from_raw);
        let signal = if is_frozen { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        rustix::process::kill_process(pid.expect("a process"), signal).expect("a signal");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port on loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
