//! The operator's binary, as a process.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Installation, installation::scratch, until};

/// A running operator. Killed when dropped; its log is shown if the test failed.
pub struct Operator {
    child: Child,
    admin: SocketAddr,
    log: PathBuf,
}

impl Operator {
    pub(super) fn start(
        installation: &Installation,
        binary: &Path,
        identity: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let admin = own_address();
        let log = scratch(&format!("{}-{identity}.log", installation.namespace));
        let out = File::options().create(true).append(true).open(&log).expect("a log below target");
        // Ends with the test, also where that is killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .arg("run")
            .args(["--identity", identity, "--admin-address", &admin.to_string()])
            .args(["--lease-namespace", &installation.namespace])
            .args(installation.is_alone.then(|| format!("--namespace={}", installation.namespace)))
            .args(arguments)
            .env("KUBECONFIG", &installation.kubeconfig_path)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log"))
            .stderr(out);
        Self { child: command.spawn().expect("start the operator"), admin, log }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the operator's state").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the operator runs");
    }

    /// Ends it with SIGTERM and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(Duration::from_secs(20)).await
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the operator");
        self.child.wait().expect("the operator's end");
    }

    /// Waits for its end.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        until(limit, async || {
            child.try_wait().expect("the operator's state").ok_or_else(|| "the operator runs on".to_owned())
        })
        .await
    }

    /// Waits until it leads and its caches are filled.
    pub async fn until_leading(&self, limit: Duration) {
        self.until_readyz(limit, "\r\n\r\nready: leading\n").await;
    }

    /// Waits until `/readyz` answers with this text; returns the whole answer.
    pub async fn until_readyz(&self, limit: Duration, text: &str) -> String {
        until(limit, async || match self.get("/readyz") {
            Ok(answer) if answer.contains(text) => Ok(answer),
            Ok(answer) => Err(answer),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Waits until it is ready to take over from another.
    pub async fn until_standing_by(&self, limit: Duration) {
        self.until_readyz(limit, "\r\n\r\nready: standing by").await;
    }

    /// The value of the metric whose line starts with `series`; 0 if there is none.
    pub fn metric(&self, series: &str) -> f64 {
        let exposition = self.get("/metrics").expect("the operator's metrics");
        let line = exposition.lines().find(|line| line.starts_with(&format!("{series} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
    }

    /// How many reconciles it has ended; none as long as it does not answer.
    pub fn reconciles(&self) -> usize {
        let exposition = self.get("/metrics").unwrap_or_default();
        let counts = exposition
            .lines()
            .filter(|line| line.starts_with("cachedservice_reconcile_duration_seconds_count"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.admin, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().take(20_000).last().map_or(0, |(at, _)| at);
            eprintln!("--- log of the operator, {} ---\n{}", self.log.display(), &log[from..]);
        } else {
            let _ = fs::remove_file(&self.log);
        }
    }
}

/// An address that nobody else listens on: of all loopback addresses, one that
/// is made from this process and a counter.
fn own_address() -> SocketAddr {
    static STARTED: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let counter = STARTED.fetch_add(1, Ordering::Relaxed);
    (Ipv4Addr::new(127, counter, high, low.clamp(1, 254)), 8080).into()
}
