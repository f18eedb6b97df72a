//! One machine: its directory, and its daemon.

use std::path::Path;
use std::thread;

use heirloom_emulated::state::{HostDirectory, HostRecord, RootDirectory};
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{Daemon, Stopper};
use heirloom_launcher::protocol::{InstanceInfo, InstanceState, LaunchRequest, WireMode};
use heirloom_launcher::randomness::system_randomness;
use heirloom_model::identifier::HostId;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::PlatformdError;

/// Makes a machine: fuses, and the manufacturer's certificate.
pub fn init(
    root_directory: &Path,
    state: &Path,
    host: HostId,
) -> Result<HostRecord, PlatformdError> {
    let root = RootDirectory::open(root_directory)?;
    let made = HostDirectory::create(state, host, root.root(), &mut system_randomness())?;
    Ok(made.record().clone())
}

/// Has a machine certified at the security version at which it stands now. A daemon that runs
/// shows it after its next start.
pub fn certify_again(root_directory: &Path, state: &Path) -> Result<HostRecord, PlatformdError> {
    let root = RootDirectory::open(root_directory)?;
    let mut machine = HostDirectory::open(state)?;
    machine.certify_again(root.root())?;
    Ok(machine.record().clone())
}

/// Makes the next microcode of a machine durable. A daemon that runs loads it at its next start,
/// as a machine does when it boots.
pub fn update_microcode(state: &Path) -> Result<HostRecord, PlatformdError> {
    let mut machine = HostDirectory::open(state)?;
    machine.update_microcode()?;
    Ok(machine.record().clone())
}

/// Serves a machine until SIGTERM or SIGINT; then kills what it launched.
pub fn serve(state: &Path, socket: &Path) -> Result<(), PlatformdError> {
    serve_as(|| Ok(heirloom_emulated::machine::bind(state, socket)?))
}

/// Serves whatever machine is bound until SIGTERM or SIGINT.
pub(crate) fn serve_as(
    bind: impl FnOnce() -> Result<(Daemon, Stopper), PlatformdError>,
) -> Result<(), PlatformdError> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(PlatformdError::Signals)?;
    let (daemon, stopper) = bind()?;
    let handle = signals.handle();
    let waiter = thread::spawn(move || {
        // Ends with the first signal, or with the handle.
        signals.forever().next();
        stopper.stop();
    });
    let served = daemon.run();
    handle.close();
    waiter.join().expect("waiting for a signal cannot panic");
    Ok(served?)
}

/// Launches a bundle; says what was launched.
pub fn launch(
    socket: &Path,
    bundle: &Path,
    log: &Path,
    label: String,
    arguments: Vec<String>,
) -> Result<Value, PlatformdError> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map(|path| path.display().to_string())
            .map_err(PlatformdError::Path)
    };
    let request = LaunchRequest {
        bundle: absolute(bundle)?,
        arguments,
        log: absolute(log)?,
        mode: WireMode::Production,
        label,
    };
    let launched = LaunchClient::connect(socket).and_then(|client| client.launch(request));
    Ok(describe(&launched.map_err(PlatformdError::Asked)?))
}

/// What a machine has launched.
pub fn list(socket: &Path) -> Result<Value, PlatformdError> {
    let listed = LaunchClient::connect(socket).and_then(|client| client.list());
    let instances: Vec<Value> =
        listed.map_err(PlatformdError::Asked)?.iter().map(describe).collect();
    Ok(json!({ "schema": "heirloom.instances.v1", "instances": instances }))
}

fn describe(instance: &InstanceInfo) -> Value {
    json!({
        "instance": instance.instance.0,
        "label": instance.label,
        "process": instance.process,
        "release": instance.release.as_str(),
        "measurement": instance.measurement.to_string(),
        "running": instance.state == InstanceState::Running,
    })
}
