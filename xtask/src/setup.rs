//! `cargo xtask setup`: what builds and tests need beyond a Rust toolchain, and why.
//!
//! The two tables are the documentation. What is present is left alone, so that a second run
//! does nothing.

mod localstack;

use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Say what is missing and install nothing; fails if something required is.
    #[arg(long)]
    check: bool,
    /// Install the tools of a reviewer too, which takes some minutes: see which with `--check`.
    #[arg(long)]
    tools: bool,
}

/// A program that Debian packages.
struct System {
    program: &'static str,
    package: &'static str,
    reason: &'static str,
}

/// What `apt-get` installs.
const SYSTEM: &[System] = &[
    System {
        program: "cc",
        package: "build-essential",
        reason: "the C and assembly parts of aws-lc-sys and ring; the linker of everything",
    },
    System {
        program: "git",
        package: "git",
        reason: "tidy looks at the files that git knows, and at no build product",
    },
    System {
        program: "protoc",
        package: "protobuf-compiler",
        reason: "the client of etcd is generated from its interface description",
    },
    System {
        program: "/usr/include/google/protobuf/descriptor.proto",
        package: "libprotobuf-dev",
        reason: "the interface description of etcd includes those that come with protoc",
    },
    System {
        program: "etcd",
        package: "etcd-server",
        reason: "the registry log on three real etcd nodes, in tests and in demonstrations",
    },
    System {
        program: "nginx",
        package: "nginx-light",
        reason: "a real reverse proxy whose clients are fenced off, in tests and in demonstrations",
    },
    System {
        program: "haproxy",
        package: "haproxy",
        reason: "the other real reverse proxy, with a runtime interface",
    },
    System {
        program: "softhsm2-util",
        package: "softhsm2",
        reason: "a real PKCS#11 token in software, for the conformance suite of custodians",
    },
    System {
        program: "swtpm",
        package: "swtpm",
        reason: "a TPM in software, in tests and in demonstrations",
    },
    System {
        program: "swtpm_setup",
        package: "swtpm-tools",
        reason: "manufactures that TPM: its endorsement key, and the certificate of it",
    },
    System {
        program: "tpm2_checkquote",
        package: "tpm2-tools",
        reason: "the judge of our TPM client: quotes, credentials and secrets from elsewhere",
    },
    System {
        program: "/usr/include/tss2/tss2_esys.h",
        package: "libtss2-dev",
        reason: "the TCG's library behind tss-esapi, which reads structures of TPMs beside our parsers",
    },
    System {
        program: "openssl",
        package: "openssl",
        reason: "the judge of that suite: signatures, ciphertexts and keys from elsewhere",
    },
    System {
        program: "python3",
        package: "python3-venv",
        reason: "runs LocalStack, an imitation of AWS KMS, in an environment of its own",
    },
];

/// A program that cargo installs.
struct Tool {
    program: &'static str,
    version: &'static str,
    reason: &'static str,
}

/// What `cargo install` installs, into the cache folder and not into the user's own.
const TOOLS: &[Tool] = &[Tool {
    program: "cargo-deny",
    version: "0.20.2",
    reason: "licences, bans and sources of every dependency, and advisories where its database \
             can be had; tidy checks the first three itself, so tests run without it",
}];

/// Installs what is missing, or says what is.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let missing = missing_packages();
    let has_localstack = localstack::is_present();
    let optional: Vec<&Tool> =
        TOOLS.iter().filter(|tool| !is_present(tool.program, tool.reason)).collect();
    if arguments.check {
        return say_what_is_missing(&missing, &optional);
    }
    install_packages(&missing)?;
    if !has_localstack {
        localstack::install()?;
    }
    if !arguments.tools && !optional.is_empty() {
        println!("nothing required is missing; `cargo xtask setup --tools` installs the rest");
        return Ok(());
    }
    optional.into_iter().try_for_each(install_tool)
}

/// Installs only what tests use. Where LocalStack cannot be had, its tests say that they skip.
pub(crate) fn required() -> Result<()> {
    install_packages(&missing_packages())?;
    if !localstack::is_present()
        && let Err(error) = localstack::install()
    {
        println!("LocalStack was not installed, and its tests will be skipped: {error:#}");
    }
    Ok(())
}

fn missing_packages() -> Vec<&'static System> {
    SYSTEM.iter().filter(|system| !is_present(system.program, system.reason)).collect()
}

fn is_present(program: &str, reason: &str) -> bool {
    let found = process::find(program);
    match &found {
        Some(path) => println!("present  {program} ({})", path.display()),
        None => println!("missing  {program}: {reason}"),
    }
    found.is_some()
}

fn say_what_is_missing(required: &[&System], optional: &[&Tool]) -> Result<()> {
    if let Some(first) = required.first() {
        bail!("{} is missing: `cargo xtask setup` installs it", first.program);
    }
    if !optional.is_empty() {
        println!("nothing required is missing; `cargo xtask setup --tools` installs the rest");
    }
    Ok(())
}

fn install_packages(missing: &[&System]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|system| system.package).collect();
    if process::find("apt-get").is_none() {
        bail!("this machine has no apt-get: install by hand what {packages:?} are on Debian");
    }
    let update = process::run(&mut as_root(&["apt-get", "update", "-qq"]));
    if update.is_err() {
        println!("the package lists are old; trying to install with them");
    }
    let install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    process::run(as_root(&install).args(packages))
}

/// A command as root: directly if we are, else through sudo, which may ask.
fn as_root(words: &[&str]) -> Command {
    let is_root = process::read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let words = if is_root { words.to_vec() } else { [&["sudo"], words].concat() };
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Builds a tool into the cache folder.
fn install_tool(tool: &Tool) -> Result<()> {
    println!("installing {} {}, which takes some minutes", tool.program, tool.version);
    let cache = process::cache_dir();
    // A tool that runs for a second is not worth minutes of optimisation: hence --debug.
    process::run(
        process::cargo()
            .args(["install", tool.program, "--version", tool.version, "--locked", "--debug"])
            .arg("--root")
            .arg(cache.join("tools"))
            .env("CARGO_TARGET_DIR", cache.join("tools-target"))
            .env("CARGO_PROFILE_DEV_DEBUG", "false"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_program_that_is_missing_fails_the_check_and_an_optional_one_does_not() {
        assert!(say_what_is_missing(&[&SYSTEM[0]], &[]).is_err());
        assert!(say_what_is_missing(&[], &[&TOOLS[0]]).is_ok());
        assert!(!is_present("no-such-program", "for this test"));
    }

    #[test]
    fn root_is_asked_for_only_by_those_who_are_not() {
        let command = as_root(&["apt-get", "update"]);
        assert!(["apt-get", "sudo"].map(Some).contains(&command.get_program().to_str()));
        assert_eq!(command.get_args().last().and_then(|word| word.to_str()), Some("update"));
    }
}
