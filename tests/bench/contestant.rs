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
    /// The memory that is resident, in bytes.
    pub memory: u64,
    /// The most that was resident at a time.
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
    let bytes = |field: &str| -> Result<u64, Box<dyn Error>> {
        let value = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("a field is missing")?;
        Ok(1024 * value.trim().trim_end_matches(" kB").parse::<u64>()?)
    };
    Ok(Usage { cpu, memory: bytes("VmRSS:")?, peak_memory: bytes("VmHWM:")? })
}

/// The requests that the operator has sent, by verb and resource, from its
/// metrics; the election and the watches apart, which do not grow with the work.
pub fn requests(admin: SocketAddr) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut requests = all_requests(admin)?;
    requests.retain(|name, _| !name.ends_with(" leases") && !is_read_of_many(name));
    Ok(requests)
}

/// Whether it is a watch or a list.
pub fn is_read_of_many(request: &str) -> bool {
    request.starts_with("watch ") || request.starts_with("list ")
}

/// All requests that the operator has sent.
pub fn all_requests(admin: SocketAddr) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let mut requests = BTreeMap::new();
    for line in
        exposition(admin)?.lines().filter_map(|line| line.strip_prefix("cachedservice_api_requests_total{"))
    {
        let (labels, count) = line.split_once("} ").ok_or("a metric without a value")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
        *requests.entry(format!("{verb} {resource}")).or_default() += count.parse::<u64>()?;
    }
    Ok(requests)
}

/// The sum of all series of a metric.
pub fn metric(exposition: &str, name: &str) -> f64 {
    let series = exposition
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The metrics of the operator, as text.
pub fn exposition(admin: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
