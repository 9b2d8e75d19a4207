//! The sidecar's binary, as a process.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::settings::{HttpCache, Settings, VERSION, balancing::POD_ADDRESSES};
use http::{Method, Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

use crate::{application::Answer, replicas::POD};

pub const TOKEN: &str = "the-token-of-the-service";
const LIMIT: Duration = Duration::from_secs(20);

/// A running sidecar with a folder of its own. Killed when dropped.
pub struct Process {
    pub settings: Settings,
    folder: PathBuf,
    child: Child,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A port that nobody listens on, given to nobody else: below those that the kernel gives to connections,
/// of which other tests open thousands.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(24_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no port is free");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

impl Process {
    /// Starts it in front of an application; `change` makes other settings of the usual.
    pub fn start(app_port: u16, change: impl FnOnce(&mut Settings)) -> Self {
        Self::start_by(app_port, change, command)
    }

    /// The same by a shell that allows it few open files, and more if it asks.
    pub fn start_with_few_files(app_port: u16) -> Self {
        Self::start_by(
            app_port,
            |_| {},
            |folder| {
                let mut shell = Command::new("sh");
                let script = "ulimit -Sn 64 && exec \"$0\" \"$@\"";
                let program = command(folder);
                shell.args(["-c", script]).arg(program.get_program()).args(program.get_args());
                shell
            },
        )
    }

    /// The same, and it is told which pod it is in.
    pub fn in_pod(app_port: u16, name: &str, uid: &str) -> Self {
        let of_pod = |folder: &Path| {
            let mut command = command(folder);
            command.env("POD_NAME", name).env("POD_UID", uid);
            command
        };
        Self::start_by(app_port, |_| {}, of_pod)
    }

    fn start_by(
        app_port: u16,
        change: impl FnOnce(&mut Settings),
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("sidecar-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let mut settings = Settings {
            version: VERSION,
            http_port: free_port(),
            admin_port: free_port(),
            app_port,
            drain_seconds: 0,
            token_file: Some(path("token")),
            purges_file: Some(path("purges.json")),
            purges_copy: Some(path("copy.json")),
            redis: None,
            http: Some(HttpCache { memory: 1 << 20, max_object: 1 << 16, rules: Vec::new() }),
            application: None,
            balancing: None,
            first_byte_ms: None,
            access_log: false,
        };
        change(&mut settings);
        fs::write(folder.join("token"), format!("{TOKEN}\n")).unwrap();
        fs::write(folder.join("settings.json"), settings.to_json().unwrap()).unwrap();
        let log = fs::File::create(folder.join("stdout")).unwrap();
        let child = command(&folder).stdout(log).stderr(Stdio::null()).spawn().expect("start the sidecar");
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { settings, folder, child, client }
    }

    /// How much memory it has, in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends it with SIGKILL and starts it again, as the kubelet does with a container that has failed.
    pub async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = command(&self.folder).stderr(Stdio::null()).spawn().expect("start the sidecar");
        self.until_readyz(200).await;
    }

    /// Waits until it has written so many lines to stdout, and returns all that it has.
    pub async fn until_lines(&self, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let text = fs::read_to_string(self.folder.join("stdout")).unwrap();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count && text.ends_with('\n') {
                return lines;
            }
            assert!(began.elapsed() < LIMIT, "{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(&mut self) {
        self.signal("-TERM");
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LIMIT, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Puts a file in place as the kubelet does: a link that leads elsewhere from one moment to the next.
    pub fn put(&self, name: &str, text: &str) {
        static PUT: AtomicU32 = AtomicU32::new(0);
        let number = PUT.fetch_add(1, Ordering::Relaxed);
        let (content, link) =
            (self.folder.join(format!("{name}-{number}")), self.folder.join(format!("{name}-link-{number}")));
        fs::write(&content, text).unwrap();
        symlink(&content, &link).unwrap();
        fs::rename(&link, self.folder.join(name)).unwrap();
    }

    /// Runs the sidecar's program in this folder with a further argument.
    pub fn program(&self, argument: &str) -> Command {
        let mut command = command(&self.folder);
        command.arg(argument);
        command
    }

    /// A page of the application.
    pub async fn get(&self, target: &str) -> Answer {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.settings.http_port));
        self.ask(Method::GET, &format!("http://{address}{target}"), None, "").await.expect("an answer")
    }

    /// An answer of the admin port; none while nobody listens.
    pub async fn admin(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> Option<Answer> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.settings.admin_port));
        self.ask(method, &format!("http://{address}{path}"), token, body).await
    }

    /// An order with the token.
    pub async fn order(&self, path: &str, body: &str) -> Answer {
        self.admin(Method::POST, path, Some(TOKEN), body).await.expect("an answer")
    }

    /// What it says of itself.
    pub async fn status(&self) -> Value {
        let answer = self.admin(Method::GET, "/status", Some(TOKEN), "").await.expect("an answer");
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// Waits until the status is as wanted.
    pub async fn until_status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(began.elapsed() < LIMIT, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for what `/readyz` says.
    pub async fn until_readyz(&self, status: u16) -> String {
        let began = Instant::now();
        loop {
            let answer = self.admin(Method::GET, "/readyz", None, "").await;
            if let Some(answer) = answer.as_ref().filter(|answer| answer.status == status) {
                return answer.body.clone();
            }
            assert!(began.elapsed() < LIMIT, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask(&self, method: Method, url: &str, token: Option<&str>, body: &str) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let response = tokio::time::timeout(LIMIT, self.client.request(request)).await.expect("in time");
        let (parts, body) = response.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Some(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachedservice-sidecar"));
    command.arg("--settings").arg(folder.join("settings.json")).stdin(Stdio::null());
    command.env(POD_ADDRESSES, POD.to_string());
    command
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
