//! How long one process start takes: the floor of whatever has to start one.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::network::{Code, domain};
use super::{Lab, Node};

const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the socket of a keeper that starts is tried.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Launches one more keeper on the first host, beside the one that serves, and says after how many
/// seconds its socket takes a connection. It holds nothing, and ends with the laboratory.
pub(crate) fn seconds(lab: &Lab, code: &Code, index: usize) -> Result<f64> {
    let node = lab.nodes.first().context("a fleet has nodes")?;
    let label = format!("start-{index}");
    let path = |suffix: &str| lab.path(&format!("{label}{suffix}")).display().to_string();
    let (state, admin, log) = (path(""), path(".sock"), path(".log"));
    let bundle = format!("artifacts/{}", code.name);
    let socket = node.socket();
    let begun = Instant::now();
    lab.platformd(&[
        "launch",
        "--socket",
        &socket,
        "--bundle",
        &bundle,
        "--label",
        &label,
        "--log",
        &log,
        "--",
        "--node",
        &node.name,
        "--state",
        &state,
        "--admin",
        &admin,
        "--listen",
        "127.0.0.1:0",
    ])?;
    while UnixStream::connect(&admin).is_err() {
        ensure!(begun.elapsed() < LAUNCH_TIMEOUT, "the keeper does not start; look into {log}");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Launches one more service on a node's host, beside the one that serves, and says after how many
/// seconds its socket takes a connection. It has no data, and ends with the laboratory.
pub(crate) fn service_seconds(lab: &Lab, node: &Node, code: &Code) -> Result<f64> {
    let label = format!("start-service-{}", node.name);
    let path = |suffix: &str| lab.path(&format!("{label}{suffix}")).display().to_string();
    let (control, log) = (path(".sock"), path(".log"));
    let bundle = format!("artifacts/{}", code.name);
    let (network, domain) = (lab.network_id()?, domain());
    let registry = format!("http://127.0.0.1:{}", lab.registry_port);
    let configuration = lab.configuration(node).display().to_string();
    let socket = node.socket();
    let begun = Instant::now();
    lab.platformd(&[
        "launch",
        "--socket",
        &socket,
        "--bundle",
        &bundle,
        "--label",
        &label,
        "--log",
        &log,
        "--",
        "node",
        "--node",
        &node.name,
        "--network",
        &network,
        "--domain",
        &domain,
        "--application",
        super::service::SERVICE,
        "--registry",
        &registry,
        "--control",
        &control,
        "--configuration",
        &configuration,
        "--try",
    ])?;
    while UnixStream::connect(&control).is_err() {
        ensure!(begun.elapsed() < LAUNCH_TIMEOUT, "the service does not start; look into {log}");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}
