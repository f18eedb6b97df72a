//! Other programs: how they are started, where they run, where caches live.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};

/// The cargo that started us, in the root of the workspace.
///
/// Cargo tells its children about the package that it runs. A cargo below us must not hear it:
/// build scripts that look at these variables would be run again each time the caller changes.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if is_about_this_package(&name) {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace_root());
    command
}

fn is_about_this_package(variable: &OsStr) -> bool {
    const PREFIXES: [&str; 5] =
        ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];
    let Some(name) = variable.to_str() else { return false };
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs a program with our own input and output, and fails if it does. What is run is said on
/// standard error: standard output is for results.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", in_words(command));
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", in_words(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to its output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", in_words(command), output.status, errors.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not text", in_words(command)))
}

/// Where a program is, if it is anywhere.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let tools = cache_dir().join("tools/bin");
    std::env::split_paths(&path)
        .chain([tools])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The folder that holds `Cargo.lock`.
///
/// Checkouts that share a target folder share this very binary, so cargo says at run time which
/// one is meant; what was compiled in is for those who start us without cargo.
pub(crate) fn workspace_root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let started = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let ours = started.filter(|folder| folder.ends_with("xtask"));
        let folder = ours.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        folder.parent().expect("xtask is a folder of the workspace").to_owned()
    });
    &ROOT
}

/// Where things are kept that are expensive to make and belong to no checkout:
/// `$HEIRLOOM_CACHE`, or `heirloom` in the user's cache folder.
pub(crate) fn cache_dir() -> PathBuf {
    if let Some(chosen) = std::env::var_os("HEIRLOOM_CACHE") {
        return chosen.into();
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from).join("heirloom")
}

fn in_words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", in_words(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_an_error_with_its_words() {
        assert_eq!(read(Command::new("echo").arg("one")).unwrap(), "one\n");
        let error = read(Command::new("ls").arg("/no/such/folder")).unwrap_err().to_string();
        assert!(error.contains("`ls /no/such/folder` failed"), "{error}");
        assert!(read(&mut Command::new("no-such-program")).is_err());
    }

    #[test]
    fn a_nested_cargo_does_not_hear_about_this_package() {
        assert!(is_about_this_package(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_about_this_package(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!is_about_this_package(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!is_about_this_package(OsStr::new("CARGO_HOME")));
    }
}
