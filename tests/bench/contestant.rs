//! A program under measurement, as a process of its own.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A running contestant. Killed when dropped.
pub struct Contestant {
    child: Child,
    /// When it was started.
    pub started: Instant,
}

/// What a process has used.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// CPU time.
    pub cpu: Duration,
    /// The most memory that was resident at a time, in bytes.
    pub peak_memory: u64,
}

impl Contestant {
    pub fn start(
        program: &Path,
        arguments: &[&str],
        kubeconfig: &Path,
        log: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let log = File::create(log)?;
        // Ends with this process, also where that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, started: Instant::now() })
    }

    pub fn usage(&self) -> Result<Usage, Box<dyn Error>> {
        usage(self.child.id())
    }

    /// Fails if it has ended by itself.
    pub fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("ended early, with {status}; see its log").into()),
            None => Ok(()),
        }
    }

    /// Ends it with SIGTERM, so that the operator gives its Lease back.
    pub fn stop(mut self) -> Result<(), Box<dyn Error>> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process `pid` has used up to now.
pub fn usage(pid: u32) -> Result<Usage, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15, utime and stime, in ticks of 10 ms; field 2 may hold spaces.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/PID/stat has no name")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> Result<u64, Box<dyn Error>> { Ok(fields.next().ok_or("too short")?.parse()?) };
    let cpu = Duration::from_millis(10 * (ticks()? + ticks()?));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok(Usage { cpu, peak_memory: kibibytes * 1024 })
}

/// The requests that the operator has sent, by verb and resource, from its
/// metrics; the election and the watches apart, which do not grow with the work.
pub fn requests(admin: SocketAddr) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let mut requests = BTreeMap::new();
    for line in answer.lines().filter_map(|line| line.strip_prefix("cachedservice_api_requests_total{")) {
        let (labels, count) = line.split_once("} ").ok_or("a metric without a value")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
        if resource != "leases" && !matches!(verb, "watch" | "list") {
            *requests.entry(format!("{verb} {resource}")).or_default() += count.parse::<u64>()?;
        }
    }
    Ok(requests)
}
