//! A real etcd cluster for whoever starts this program, and faults in it on command.
//!
//! The first line of output is the list of endpoints, as JSON. Then each line of input is one
//! order: `kill N`, `restart N`, `cut N`, `heal`. Each is answered with `done`, or with what went
//! wrong. The cluster ends with the input.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use heirloom_conformance::etcd::Cluster;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(nodes), Some(directory), None) =
        (arguments.next().and_then(|it| it.parse().ok()), arguments.next(), arguments.next())
    else {
        say("usage: heirloom-etcd-cluster NODES DIRECTORY");
        return ExitCode::from(2);
    };
    let mut cluster = match Cluster::start(nodes, &PathBuf::from(directory)) {
        Ok(cluster) => cluster,
        Err(error) => {
            say(&format!("the cluster does not start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let quoted: Vec<String> = cluster.endpoints().iter().map(|it| format!("\"{it}\"")).collect();
    say(&format!("[{}]", quoted.join(",")));
    for line in stdin().lock().lines().map_while(Result::ok) {
        let answer = order(&mut cluster, nodes, &line);
        say(&answer.err().unwrap_or_else(|| "done".to_owned()));
    }
    ExitCode::SUCCESS
}

fn order(cluster: &mut Cluster, nodes: usize, line: &str) -> Result<(), String> {
    let (verb, member) = line.split_once(' ').unwrap_or((line, ""));
    let member = || {
        let number = member.parse().ok().filter(|number| *number < nodes);
        number.ok_or_else(|| format!("there is no member {member:?}"))
    };
    match verb {
        "kill" => cluster.kill(member()?),
        "restart" => cluster.restart(member()?).map_err(|error| error.to_string())?,
        "cut" => cluster.cut(member()?),
        "heal" => cluster.heal(),
        _ => return Err(format!("{verb:?} is no order")),
    }
    Ok(())
}

fn say(line: &str) {
    let mut out = stdout().lock();
    // Whoever does not listen any more has ended the input too.
    let _written = writeln!(out, "{line}").and_then(|()| out.flush());
}
