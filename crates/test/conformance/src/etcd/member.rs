//! One etcd process.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One question to a member. One that does not answer is asked again.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(2);
/// What is shown of a log.
const LOG_LINES_MAX: usize = 60;
/// An answer to a question: a few lines.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A member of a cluster, running or not.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    client: u16,
    peer: u16,
    data: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Member {
    pub(super) fn new(number: usize, directory: &Path, client: u16, peer: u16) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let name = format!("m{number}");
        let (data, log) = (directory.join(&name), directory.join(format!("{name}.log")));
        Ok(Self { name, client, peer, data, log, arguments: Vec::new(), process: None })
    }

    /// Says where the others reach it, and who they are.
    pub(super) fn configure(&mut self, advertised: &str, all: &str, options: &[&str]) {
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let data = self.data.display().to_string();
        let arguments = [
            ("--name", self.name.clone()),
            ("--data-dir", data),
            ("--listen-client-urls", self.endpoint()),
            ("--advertise-client-urls", self.endpoint()),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", advertised.to_owned()),
            ("--initial-cluster", all.to_owned()),
            ("--initial-cluster-state", "new".to_owned()),
            ("--logger", "zap".to_owned()),
        ];
        let flag = |(name, value): (&str, String)| format!("{name}={value}");
        self.arguments = arguments.into_iter().map(flag).collect();
        self.arguments.extend(options.iter().map(|&option| option.to_owned()));
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Starts it. Returns the number of its process.
    pub(super) fn spawn(&mut self) -> io::Result<u32> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut etcd = Command::new("etcd");
        etcd.args(&self.arguments).stdin(Stdio::null());
        let child = etcd.stdout(log.try_clone()?).stderr(log).spawn()?;
        let process = child.id();
        self.process = Some(child);
        Ok(process)
    }

    /// Kills it, and waits until the system has taken it away.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended by itself cannot be killed, and is as gone.
            drop(process.kill());
            drop(process.wait());
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("only a member that runs gets signals");
        let process = i32::try_from(process.id()).expect("process numbers are small");
        kill(Pid::from_raw(process), signal).expect("the process is our child");
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> io::Result<Option<String>> {
        let Some(process) = &mut self.process else { return Ok(Some("does not run".to_owned())) };
        Ok(process.try_wait()?.map(|status| format!("ended with {status}")))
    }

    /// Whether it knows a leader, and can read what the cluster has agreed on.
    pub(super) fn is_healthy(&self) -> bool {
        self.question("GET /health", "").is_ok_and(|it| it.contains(r#""health":"true""#))
    }

    /// Whether it believes that it leads.
    pub(super) fn leads(&self) -> bool {
        let Ok(status) = self.question("POST /v3/maintenance/status", "{}") else { return false };
        let value = |name: &str| {
            let (_, rest) = status.split_once(&format!("\"{name}\":\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        value("leader").is_some_and(|leader| value("member_id") == Some(leader))
    }

    fn question(&self, what: &str, body: &str) -> io::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.client));
        let mut stream = TcpStream::connect_timeout(&address, QUESTION_TIME_MAX)?;
        stream.set_read_timeout(Some(QUESTION_TIME_MAX))?;
        let length = body.len();
        write!(
            stream,
            "{what} HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The end of what it had to say.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.len().saturating_sub(LOG_LINES_MAX);
        format!("--- {} ---\n{}", self.log.display(), lines[tail..].join("\n"))
    }
}
