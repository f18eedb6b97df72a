//! Complete minimal configurations for one service, for tests and for showing how it is done.
//!
//! Loopback only, everything below one directory, no root needed. Requests may take an hour:
//! services are asked with long polls. The time for a client to send its request is short, since
//! a connection on which nothing was asked yet keeps an old worker of nginx waiting.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::edge::EdgeError;
use crate::file;
use crate::haproxy::HaProxyOptions;
use crate::nginx::{self, NginxOptions};

/// Where Debian installs them.
const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";
/// The name of the backend in [`haproxy`].
const BACKEND: &str = "service";
/// Reloads take a tenth of a second; a busy machine more.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One service behind one proxy, all on 127.0.0.1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// An existing directory for configuration, sockets, pid file and logs of this proxy alone.
    /// An absolute path without spaces, not longer than some 80 characters: sockets have short
    /// names.
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
    let Service { directory, client_port, side_door_port, upstream_port } = service;
    let directory = directory.display();
    format!(
        "\
worker_processes 2;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_header_timeout 10s;
    keepalive_timeout 75s;
    proxy_read_timeout 1h;
    proxy_send_timeout 1h;
    send_timeout 1h;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    # Nothing of a request or answer is put down on the way.
    proxy_buffering off;
    proxy_request_buffering off;
    client_max_body_size 64m;
    upstream service {{ server 127.0.0.1:{upstream_port}; }}
    # Clients. The fence comes first.
    server {{
        include {directory}/fence.conf;
        listen 127.0.0.1:{client_port};
        location / {{ proxy_pass http://service; }}
    }}
    # The side door: no fence.
    server {{
        listen 127.0.0.1:{side_door_port};
        location / {{ proxy_pass http://service; }}
    }}
}}
"
    )
}

/// The text of `haproxy.cfg`.
pub fn haproxy(service: &Service) -> String {
    let Service { directory, client_port, side_door_port, upstream_port } = service;
    let directory = directory.display();
    format!(
        "\
global
    server-state-file {directory}/servers.state
    log stderr format raw local0 warning
defaults
    mode http
    timeout connect 5s
    timeout http-request 10s
    timeout http-keep-alive 75s
    timeout client 1h
    timeout server 1h
frontend clients
    bind 127.0.0.1:{client_port}
    # The fence: also for connections that are kept and for sticky clients.
    http-request return status 503 content-type text/plain string \
\"This service is closed for maintenance. Try again later.\" hdr Retry-After 30 \
if {{ nbsrv({BACKEND}) eq 0 }}
    default_backend {BACKEND}
# The side door: a backend of its own, which nobody drains.
frontend side-door
    bind 127.0.0.1:{side_door_port}
    default_backend side-door
backend {BACKEND}
    load-server-state-from-file global
    server node 127.0.0.1:{upstream_port}
backend side-door
    server node 127.0.0.1:{upstream_port}
"
    )
}

/// How the edge of [`nginx()`] is reached.
pub fn nginx_options(service: &Service) -> NginxOptions {
    NginxOptions {
        program: NGINX.into(),
        configuration: service.directory.join("nginx.conf"),
        include: service.directory.join("fence.conf"),
        pid_file: service.directory.join("nginx.pid"),
        probe: ([127, 0, 0, 1], service.client_port).into(),
        host: "localhost".to_owned(),
        timeout: TIMEOUT,
    }
}

/// How the edge of [`haproxy()`] is reached.
pub fn haproxy_options(service: &Service) -> HaProxyOptions {
    HaProxyOptions {
        master_socket: service.directory.join("master.sock"),
        backend: BACKEND.to_owned(),
        state_file: service.directory.join("servers.state"),
        timeout: TIMEOUT,
    }
}

/// Writes `nginx.conf` and the open fence. A fence that is there already stays as it is.
pub fn install_nginx(service: &Service) -> Result<(), EdgeError> {
    let options = nginx_options(service);
    file::write(&options.configuration, &nginx(service))?;
    if exists(&options.include)? { Ok(()) } else { file::write(&options.include, nginx::OPEN) }
}

/// Writes `haproxy.cfg` and an empty state file. A state file that is there already stays.
pub fn install_haproxy(service: &Service) -> Result<(), EdgeError> {
    file::write(&service.directory.join("haproxy.cfg"), &haproxy(service))?;
    let state_file = haproxy_options(service).state_file;
    if exists(&state_file)? { Ok(()) } else { file::write(&state_file, "") }
}

/// Starts nginx in the foreground, once installed: a master and its workers. It ends with them at
/// SIGTERM, and after running requests at SIGQUIT.
pub fn nginx_command(service: &Service) -> Command {
    let options = nginx_options(service);
    let mut command = Command::new(options.program);
    command.args(["-g", "daemon off;", "-e"]).arg(service.directory.join("nginx.log"));
    command.arg("-c").arg(options.configuration);
    command
}

/// Starts HAProxy in the foreground, once installed: a master and its worker. It ends with them at
/// SIGTERM, and after running requests at SIGUSR1.
pub fn haproxy_command(service: &Service) -> Command {
    let mut command = Command::new(HAPROXY);
    command.arg("-W").arg("-S").arg(haproxy_options(service).master_socket);
    command.arg("-f").arg(service.directory.join("haproxy.cfg"));
    command
}

fn exists(path: &Path) -> Result<bool, EdgeError> {
    fs::exists(path).map_err(|error| EdgeError::at_file("look for", path, &error))
}
