//! Runs of the host's tool for the database, in the background: a copy of a large database takes
//! minutes, and a keeper must hear from its agent every other second.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heirloom_upgrade::port::DriverError;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::child::{self, Holder, Lock};
use super::control::plain;

/// How long to wait between two looks at a process.
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// How long what a process that ended had written is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// A result that nobody took is forgotten after so long: the world may have changed since.
const RESULT_AGE_MAX: Duration = Duration::from_secs(30);
/// The longest line that the tool writes: an inspection with a snapshot for each plan.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// What is kept of the end of what it says about errors.
const SAID_BYTES_MAX: usize = 2 * 1024;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// One run: which step, and how it is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    /// The tool's word for it, and its first argument.
    pub(crate) word: &'static str,
    /// The arguments behind it.
    pub(crate) arguments: Vec<String>,
    /// How long it may take before it is killed.
    pub(crate) deadline: Duration,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Advance {
    pub(crate) bytes: u64,
    pub(crate) of: u64,
    pub(crate) rate: u64,
}

/// The tool, of which at most one run is under way.
pub(crate) struct Tool {
    program: PathBuf,
    lock: Lock,
    job: Option<Job>,
}

struct Job {
    run: Run,
    child: Child,
    began: Instant,
    heard: Arc<Mutex<Heard>>,
    drained: Receiver<()>,
    ended: Option<(Instant, Result<Value, DriverError>)>,
}

#[derive(Default)]
struct Heard {
    advance: Option<Advance>,
    told: Option<Instant>,
    done: Option<Value>,
    said: Vec<u8>,
}

impl Tool {
    pub(crate) fn new(program: PathBuf, lock: PathBuf) -> Self {
        Self { program, lock: Lock::new(lock), job: None }
    }

    /// Begins a run, or looks what became of it, and waits for it at most this long. A run for
    /// something else is ended first: the plan went another way. Everything that the tool does may
    /// be interrupted anywhere.
    pub(crate) fn run(&mut self, run: &Run, patience: Duration) -> Result<Value, DriverError> {
        self.look();
        match &self.job {
            Some(job) if job.run == *run && !job.is_stale() => {}
            Some(job) if job.ended.is_some() => self.job = None,
            Some(job) => {
                let word = job.run.word;
                self.end();
                return Err(DriverError::Unknown(format!("{word} was under way and was ended")));
            }
            None => {}
        }
        if self.job.is_none() {
            self.job = Some(self.start(run.clone())?);
        }
        self.wait(patience)
    }

    /// What is under way, for people.
    pub(crate) fn under_way(&mut self) -> Option<Value> {
        self.look();
        let job = self.job.as_ref().filter(|job| job.ended.is_none())?;
        let advance = job.heard().advance.unwrap_or_default();
        Some(json!({
            "what": job.run.word,
            "bytes": advance.bytes,
            "of": advance.of,
            "rate": advance.rate,
        }))
    }

    /// Whether a run with another word is under way, or its result is still to be taken.
    pub(crate) fn has_other(&mut self, word: &str) -> bool {
        self.look();
        self.job.as_ref().is_some_and(|job| job.run.word != word && !job.is_stale())
    }

    /// What is under way but inspections, which change nothing: a run of ours, or of an agent that
    /// is gone.
    pub(crate) fn changes(&mut self, inspection: &str) -> Option<String> {
        self.look();
        match &self.job {
            Some(job) if job.ended.is_none() => {
                (job.run.word != inspection).then(|| job.run.word.to_owned())
            }
            // Whoever holds the lock while no child of ours runs is somebody else's.
            Some(_) | None => match self.lock.holder() {
                Ok(Holder::Nobody) => None,
                Ok(Holder::Orphan(_)) => Some("the run of an earlier agent".to_owned()),
                Err(error) => Some(format!("what cannot be seen: {error}")),
            },
        }
    }

    /// Kills what is under way.
    pub(crate) fn end(&mut self) {
        if let Some(mut job) = self.job.take() {
            job.kill();
        }
    }

    fn start(&self, run: Run) -> Result<Job, DriverError> {
        let mut command = Command::new(&self.program);
        command.arg(run.word).args(&run.arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let Some(mut child) = self.lock.spawn(&mut command).map_err(|error| self.failed(&error))?
        else {
            return Err(self.end_orphan());
        };
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (drains, drained) = channel();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let listening = listen(out, run.word, &heard, &drains, hear)
            .and_then(|()| listen(err, run.word, &heard, &drains, overhear));
        if let Err(error) = listening {
            child::signal(&child, Signal::SIGKILL);
            child.wait().ok();
            return Err(DriverError::Unknown(format!("no thread listens to the tool: {error}")));
        }
        Ok(Job { run, child, began, heard, drained, ended: None })
    }

    /// The run of an agent that is gone is ended; what it did is found there or not.
    fn end_orphan(&self) -> DriverError {
        if let Ok(Holder::Orphan(Some(number))) = self.lock.holder() {
            child::signal_orphan(number, Signal::SIGKILL);
        }
        DriverError::Unknown("an earlier run of the tool is being ended".to_owned())
    }

    fn failed(&self, error: &io::Error) -> DriverError {
        let program = self.program.display();
        match error.kind() {
            io::ErrorKind::NotFound => DriverError::Missing { what: format!("the tool {program}") },
            io::ErrorKind::PermissionDenied => {
                DriverError::Refused(format!("the tool {program} may not be started: {error}"))
            }
            _ => DriverError::Unknown(format!("the tool {program} was not started: {error}")),
        }
    }

    fn wait(&mut self, patience: Duration) -> Result<Value, DriverError> {
        let until = Instant::now() + patience;
        loop {
            self.look();
            match self.job.take() {
                Some(Job { ended: Some((_, result)), .. }) => return result,
                Some(job) if Instant::now() < until => self.job = Some(job),
                Some(job) => {
                    let advance = job.heard().advance.unwrap_or_default();
                    let word = job.run.word;
                    self.job = Some(job);
                    return Err(DriverError::Unknown(format!(
                        "{word} is under way: {} of {} bytes",
                        advance.bytes, advance.of
                    )));
                }
                None => return Err(DriverError::Unknown("nothing is under way".to_owned())),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn look(&mut self) {
        let Some(job) = &mut self.job else { return };
        if job.ended.is_some() {
            return;
        }
        match job.child.try_wait() {
            Ok(Some(status)) => {
                let result = job.result(status);
                job.ended = Some((Instant::now(), result));
            }
            Ok(None) if job.began.elapsed() > job.run.deadline => {
                let text = format!("{} took longer than {:?}", job.run.word, job.run.deadline);
                job.kill();
                job.ended = Some((Instant::now(), Err(DriverError::Unknown(text))));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the tool cannot be looked at"),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.end();
    }
}

impl Job {
    fn is_stale(&self) -> bool {
        self.ended.as_ref().is_some_and(|(at, _)| at.elapsed() > RESULT_AGE_MAX)
    }

    fn kill(&mut self) {
        if self.ended.is_none() {
            child::signal(&self.child, Signal::SIGKILL);
            self.child.wait().ok();
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its end means.
    fn result(&mut self, status: ExitStatus) -> Result<Value, DriverError> {
        // Both ends of what it wrote; whoever inherited them is not waited for.
        for _ in 0..2 {
            if let Err(RecvTimeoutError::Timeout) = self.drained.recv_timeout(DRAIN_TIMEOUT) {
                break;
            }
        }
        let word = self.run.word;
        let mut heard = self.heard();
        let said = plain(last_line(&String::from_utf8_lossy(&heard.said)));
        let text = if said.is_empty() { format!("{word} said nothing") } else { said };
        match status.code() {
            Some(0) => heard.take_done().ok_or_else(|| DriverError::Unexpected {
                expected: format!("what {word} has done"),
                found: text,
            }),
            Some(code) => Err(exited(word, code, text)),
            None => Err(DriverError::Unknown(format!("{word} was killed"))),
        }
    }
}

impl Heard {
    /// What was done, with the bytes that were last told of if it does not name them itself.
    fn take_done(&mut self) -> Option<Value> {
        let mut done = self.done.take()?;
        if let (Some(all), Some(advance)) = (done.as_object_mut(), self.advance) {
            all.entry("bytes").or_insert_with(|| advance.bytes.into());
            all.entry("rate").or_insert_with(|| advance.rate.into());
        }
        Some(done)
    }
}

/// What an exit code of the tool means.
fn exited(word: &str, code: i32, text: String) -> DriverError {
    match code {
        3 => DriverError::Refused(format!("{word}: {text}")),
        4 => DriverError::Corrupt { what: "the database".to_owned(), reason: text },
        5 => DriverError::Full(format!("{word}: {text}")),
        6 => DriverError::Missing { what: text },
        75 => DriverError::Unknown(format!("{word}: {text}")),
        other => DriverError::Refused(format!("{word} ended with code {other}: {text}")),
    }
}

/// Begins to listen to one of a child's two outputs.
fn listen<R: Read + Send + 'static>(
    output: Option<R>,
    word: &'static str,
    heard: &Arc<Mutex<Heard>>,
    drains: &Sender<()>,
    takes: fn(&mut Heard, &'static str, &[u8]),
) -> io::Result<()> {
    let Some(output) = output else { return Ok(()) };
    let (heard, drains) = (Arc::clone(heard), drains.clone());
    let listen = move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    takes(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), word, &line);
                }
            }
        }
        // Nobody may wait any more.
        drains.send(()).ok();
    };
    std::thread::Builder::new().name("tool".to_owned()).spawn(listen).map(drop)
}

/// Takes a line of standard output. What is no line of ours is nothing.
fn hear(heard: &mut Heard, word: &'static str, line: &[u8]) {
    let Ok(mut value) = serde_json::from_slice::<Value>(line) else { return };
    if let Some(done) = value.get_mut("done") {
        heard.done = Some(done.take());
    }
    let Some(progress) = value.get("progress") else { return };
    let number = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0);
    let advance = Advance { bytes: number("bytes"), of: number("of"), rate: number("rate") };
    heard.advance = Some(advance);
    if heard.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
        heard.told = Some(Instant::now());
        let Advance { bytes, of, rate } = advance;
        tracing::info!(step = word, bytes, of, rate, "service is under way");
    }
}

/// Takes a line of standard error; the last ones stay.
fn overhear(heard: &mut Heard, _word: &'static str, line: &[u8]) {
    heard.said.extend_from_slice(line);
    let surplus = heard.said.len().saturating_sub(SAID_BYTES_MAX);
    heard.said.drain(..surplus);
}

fn last_line(text: &str) -> &str {
    let says = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    text.lines().rev().map(str::trim).find(says).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A tool that is a script.
    fn tool(directory: &Path, script: &str) -> Tool {
        let program = directory.join("tool");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        Tool::new(program, directory.join("lock"))
    }

    fn run(word: &'static str) -> Run {
        Run { word, arguments: vec!["--plan".to_owned(), "x".to_owned()], deadline: LONG }
    }

    /// Starting a script that was just written fails while another thread starts something, and
    /// what an ended run had started is gone a moment after it.
    fn ran(tool: &mut Tool, run: &Run) -> Result<Value, DriverError> {
        let passes = ["Text file busy", "is being ended"];
        loop {
            match tool.run(run, LONG) {
                Err(DriverError::Unknown(text)) if passes.iter().any(|it| text.contains(it)) => {}
                result => return result,
            }
        }
    }

    #[test]
    fn each_exit_code_means_one_thing() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo '{\"done\":{\"bytes\":7}}'; echo \"no $3\" >&2; exit ${1#code-}";
        let mut tool = tool(directory.path(), script);
        let words = ["code-0", "code-2", "code-3", "code-4", "code-5", "code-6", "code-75"];
        let found: Vec<_> = words.iter().map(|word| ran(&mut tool, &run(word))).collect();
        assert_eq!(found[0], Ok(json!({ "bytes": 7 })));
        let names = |error: &DriverError| match error {
            DriverError::Refused(_) => "refused",
            DriverError::Corrupt { .. } => "corrupt",
            DriverError::Full(_) => "full",
            DriverError::Missing { .. } => "missing",
            DriverError::Unknown(_) => "unknown",
            DriverError::Unexpected { .. } | DriverError::Stopping => "other",
        };
        let errors: Vec<_> = found.iter().filter_map(|it| it.as_ref().err()).collect();
        assert_eq!(
            errors.iter().map(|error| names(error)).collect::<Vec<_>>(),
            ["refused", "refused", "corrupt", "full", "missing", "unknown"]
        );
        assert!(errors.iter().all(|error| error.to_string().contains("no x")), "{errors:?}");
    }

    #[test]
    fn a_run_that_is_killed_or_late_or_says_nothing_is_not_done() {
        let directory = tempfile::tempdir().unwrap();
        let mut dies = tool(directory.path(), "kill -9 $$");
        assert!(matches!(ran(&mut dies, &run("dies")), Err(DriverError::Unknown(_))));
        let mut hangs = tool(directory.path(), "sleep 600");
        let late = Run { deadline: Duration::from_millis(20), ..run("hangs") };
        let found = ran(&mut hangs, &late);
        assert!(matches!(&found, Err(DriverError::Unknown(text)) if text.contains("longer")));
        let mut mute = tool(directory.path(), "echo nothing of ours");
        assert!(matches!(ran(&mut mute, &run("mute")), Err(DriverError::Unexpected { .. })));
        let mut absent = Tool::new(directory.path().join("absent"), directory.path().join("lock"));
        assert!(matches!(ran(&mut absent, &run("x")), Err(DriverError::Missing { .. })));
    }

    #[test]
    fn a_long_run_goes_on_while_its_agent_does_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo '{\"progress\":{\"bytes\":1,\"of\":2,\"rate\":3}}'\n\
                      while [ ! -e \"${0%tool}go\" ]; do sleep 0.01; done\n\
                      echo '{\"done\":{}}'";
        let mut tool = tool(directory.path(), script);
        let (copy, other) = (run("copy"), run("other"));
        let busy = |found: Result<Value, DriverError>| match found {
            Err(DriverError::Unknown(text)) => text,
            other => panic!("{other:?}"),
        };
        while !busy(tool.run(&copy, Duration::ZERO)).contains("1 of 2 bytes") {}
        assert_eq!(tool.under_way().unwrap()["rate"], 3);
        assert!(busy(tool.run(&other, LONG)).contains("copy was under way"));
        assert!(!tool.has_other("x"), "what the plan does not want any more is ended");
        while !busy(tool.run(&other, Duration::ZERO)).contains("1 of 2 bytes") {}
        std::fs::write(directory.path().join("go"), "").unwrap();
        assert_eq!(tool.run(&other, LONG), Ok(json!({ "bytes": 1, "rate": 3 })));
        assert_eq!(tool.under_way(), None);
    }

    #[test]
    fn the_run_of_an_agent_that_is_gone_is_ended_before_the_next_begins() {
        let directory = tempfile::tempdir().unwrap();
        let mut gone = tool(directory.path(), "exec sleep 600");
        while gone.job.is_none() {
            gone.run(&run("copy"), Duration::ZERO).unwrap_err();
        }
        let mut next = Tool::new(PathBuf::from("/bin/echo"), directory.path().join("lock"));
        let found = next.run(&run("copy"), Duration::ZERO).unwrap_err().to_string();
        assert!(found.contains("is being ended"), "{found}");
        let job = gone.job.as_mut().unwrap();
        assert!(!job.child.wait().unwrap().success());
    }
}
