//! `heirloom key get`: launched by a person it launches a measured process; launched by the
//! platform it is that process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_client::client::Client;
use heirloom_client::error::ClientError;
use heirloom_client::port::Presence;
use heirloom_launcher::client::{LaunchClient, PlatformClient, wait_until_daemon_ends};
use heirloom_launcher::protocol::{InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode};
use heirloom_model::admin::Source;
use heirloom_model::counter::Generation;
use heirloom_model::identifier::{DomainId, KeyId};
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod};
use heirloom_registry::port::ReadError;
use heirloom_registry_shell::client::RegistryClient;
use serde_json::{Value, json};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::ledger::LogArgs;
use crate::output::Report;
use crate::{file, key};

/// Which key, and who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the key
    key: KeyId,
    /// Kind of the key: symmetric, x25519, ed25519, p256 or secp256k1
    #[arg(long, value_name = "KIND", default_value = "ed25519", value_parser = kind)]
    kind: KeyKind,
    /// From which generation; by default the newest
    #[arg(long, value_name = "N")]
    generation: Option<Generation>,
    /// The domain, if the application's manifest does not name it
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Bundle directory of the application: the `heirloom` program with its manifest
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Socket of this host's platform daemon
    #[arg(long, value_name = "SOCKET")]
    platform: Option<PathBuf>,
    /// Write the secret half to a new file that only its owner can read
    #[arg(long, value_name = "FILE")]
    reveal: Option<PathBuf>,
    /// How long to try
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    #[command(flatten)]
    log: LogArgs,
}

/// How often the platform is asked whether the process ended.
const POLL: Duration = Duration::from_millis(20);
/// How much longer than its own deadline the process may take: launch and measurement.
const LAUNCH_TIME: Duration = Duration::from_secs(15);
/// What the process writes: one report or one error.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Lets the platform launch the application, waits for it, and reports what it said.
pub(crate) fn launch(args: &Args) -> Result<Report, Diagnostic> {
    let missing = |what: &str, hint: &str| {
        let message = format!("{what} was not given: only measured applications get keys");
        Diagnostic::new(Code::InputMissing, message).hint(hint)
    };
    let bundle = args.bundle.as_ref().ok_or_else(|| {
        missing("a bundle", "give --bundle DIR; `heirloom-platformd sign-bundle` makes one")
    })?;
    let socket = args.platform.as_ref();
    let socket = socket.ok_or_else(|| missing("a platform", "give --platform SOCKET"))?;
    let directory = std::env::temp_dir();
    let mut unique = [0; 8];
    key::random(&mut unique);
    let log = directory.join(format!("heirloom-key-{}.log", hex::encode(unique)));
    // Nobody else may have put a file or a link of this name there.
    file::create(&log, b"")?;
    let said = run_to_end(args, bundle, socket, &log);
    let removed = std::fs::remove_file(&log).map_err(|error| file::failed("remove", &log, &error));
    let said = said?;
    removed?;
    report(&said)
}

/// Runs inside the measured process.
pub(crate) fn measured(args: &Args, socket: &Path) -> Result<Report, Diagnostic> {
    let daemon = socket.to_owned();
    std::thread::spawn(move || {
        wait_until_daemon_ends(&daemon);
        // Without its platform this process is no TEE any more.
        std::process::abort();
    });
    let failed = |error: &dyn std::error::Error| {
        Diagnostic::new(Code::PlatformFailed, "the platform did not do its part").because(error)
    };
    let platform = PlatformClient::connect(socket).map_err(|error| failed(&error))?;
    let manifest = platform.manifest().map_err(|error| failed(&error))?;
    let lacks = |what: &str| {
        let message = format!("the manifest of the bundle names no {what}");
        Diagnostic::new(Code::BundleMalformed, message)
    };
    let application = manifest.application.ok_or_else(|| lacks("application"))?;
    let domain = manifest.domain.or(args.domain).ok_or_else(|| lacks("domain"))?;
    let registry = Arc::new(RegistryClient::new(&args.log.registry()?));
    let presence = Arc::new(Announced(Arc::clone(&registry)));
    let mut client = Client::builder(manifest.network, domain, application.clone())
        .start(Box::new(platform), registry, presence)
        .map_err(|error| not_given(&error))?;
    let period = args.generation.map_or(KeyPeriod::Newest, KeyPeriod::Generation);
    let request = client.request(args.key.clone(), args.kind, period, KeyPart::Private);
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let found = client.get(&request, deadline).map_err(|error| not_given(&error))?;
    if let Some(path) = &args.reveal
        && let Some(secret) = found.secret()
    {
        secret.expose(|bytes| file::create(path, bytes))?;
    }
    let json = json!({
        "application": application.to_string(),
        "domain": domain.to_string(),
        "key": args.key.to_string(),
        "kind": args.kind.name(),
        "generation": found.generation().0,
        "policy": found.policy().0,
        "public": found.public().map(hex::encode),
        "check": found.check().map(|check| check.to_string()),
        "revealed_to": args.reveal.as_ref().map(|path| path.display().to_string()),
    });
    Ok(Report::fields("key", json))
}

/// Launches, waits, and returns what the process wrote.
fn run_to_end(
    args: &Args,
    bundle: &Path,
    socket: &Path,
    log: &Path,
) -> Result<Vec<u8>, Diagnostic> {
    let failed = |error: &dyn std::error::Error| {
        Diagnostic::new(Code::PlatformFailed, "the platform did not launch the application")
            .because(error)
    };
    let bundle = bundle.canonicalize().map_err(|error| file::failed("read", bundle, &error))?;
    let client = LaunchClient::connect(socket).map_err(|error| failed(&error))?;
    let launched = client
        .launch(LaunchRequest {
            bundle: bundle.display().to_string(),
            arguments: arguments(args)?,
            log: log.display().to_string(),
            mode: WireMode::Production,
            label: "heirloom-key-get".to_owned(),
        })
        .map_err(|error| failed(&error))?;
    let deadline = Instant::now() + Duration::from_secs(args.seconds) + LAUNCH_TIME;
    while is_running(&client, launched.instance).map_err(|error| failed(&error))? {
        if Instant::now() >= deadline {
            // It is told to end; whether it does changes nothing for the caller.
            let _stopped = client.stop(launched.instance, StopSignal::Kill);
            let message = "the application did not end in time";
            return Err(Diagnostic::new(Code::KeyUnanswered, message));
        }
        std::thread::park_timeout(POLL);
    }
    file::read(log, OUTPUT_BYTES_MAX)
}

fn is_running(
    client: &LaunchClient,
    instance: LaunchId,
) -> Result<bool, heirloom_launcher::client::ClientError> {
    let listed = client.list()?;
    let found = listed.iter().find(|one| one.instance == instance);
    Ok(found.is_some_and(|one| one.state == InstanceState::Running))
}

/// The same command for the measured process, with absolute paths.
fn arguments(args: &Args) -> Result<Vec<String>, Diagnostic> {
    let mut words = vec!["--json", "key", "get", args.key.as_str()];
    let (network, registry) = (args.log.network()?.to_string(), args.log.registry()?);
    let seconds = args.seconds.to_string();
    words.extend(["--kind", args.kind.name(), "--seconds", &seconds]);
    words.extend(["--network", &network, "--registry", &registry]);
    let generation = args.generation.map(|generation| generation.to_string());
    let domain = args.domain.map(|domain| domain.to_string());
    let reveal = match &args.reveal {
        Some(path) => Some(
            std::path::absolute(path)
                .map_err(|error| file::failed("write", path, &error))?
                .display()
                .to_string(),
        ),
        None => None,
    };
    let optional = [("--generation", &generation), ("--domain", &domain), ("--reveal", &reveal)];
    for (flag, value) in optional {
        if let Some(value) = value {
            words.extend([flag, value]);
        }
    }
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// What the process said last: a report or an error.
fn report(said: &[u8]) -> Result<Report, Diagnostic> {
    let last = String::from_utf8_lossy(said);
    let last = last.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let schema = last.as_ref().and_then(|value| value.get("schema")).and_then(Value::as_str);
    match (last.as_ref(), schema) {
        (Some(Value::Object(fields)), Some("heirloom.key.v1")) => {
            let mut fields = fields.clone();
            fields.remove("schema");
            Ok(Report::fields("key", Value::Object(fields)))
        }
        (Some(value), Some("heirloom.error.v1")) => Err(Diagnostic::from_json(value)),
        _ => {
            let message = "the application ended without a report";
            Err(Diagnostic::new(Code::PlatformFailed, message)
                .hint("the bundle must be made of this release's `heirloom` program"))
        }
    }
}

fn not_given(error: &ClientError) -> Diagnostic {
    match error {
        ClientError::Refused(refused) => {
            Diagnostic::new(Code::KeyNotGiven, "the holder refuses the key").because(refused)
        }
        ClientError::Unanswered(unanswered) => {
            Diagnostic::new(Code::KeyUnanswered, "no holder answered in time")
                .cause(unanswered.to_string())
        }
        ClientError::Platform(_) => {
            Diagnostic::new(Code::PlatformFailed, "the platform did not do its part").because(error)
        }
    }
}

fn kind(text: &str) -> Result<KeyKind, String> {
    let found = KeyKind::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| {
        let known = KeyKind::ALL.map(KeyKind::name).join(", ");
        format!("{text:?} is not one of: {known}")
    })
}

/// Addresses of holders, as agents announce them to the registry. Nobody believes them.
struct Announced(Arc<RegistryClient>);

impl Presence for Announced {
    fn sources(&self, _: &DomainId) -> Result<Vec<Source>, ReadError> {
        let present = self.0.presence()?;
        Ok(present.into_iter().map(|(node, address)| Source { node, address }).collect())
    }
}
