//! A mount namespace in which fake files are where the real ones would be.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fuse::unable;

/// What a process finds at fixed places. Nothing outside of the process sees it.
#[derive(Clone, Debug, Default)]
pub struct Cage {
    manifest: Option<PathBuf>,
    places: Vec<(PathBuf, &'static str)>,
}

/// Hides what this machine has, and puts what it is told to where it is told to.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs /etc
mkdir /etc/heirloom
if [ -n "$1" ]; then cp "$1" /etc/heirloom/manifest; fi
shift
mount -t tmpfs tmpfs /sys
mount -t tmpfs tmpfs /dev
mknod /dev/null c 1 3
mknod /dev/urandom c 1 9
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; : > "$2"; fi
    mount --bind "$1" "$2"
    shift 2
done
shift
exec "$@"
"#;

impl Cage {
    /// With nothing in it, if this machine lets us make any; says so if it does not.
    ///
    /// # Panics
    ///
    /// If it does not, and `CI` is set.
    pub fn new() -> Option<Self> {
        let tried = Self::default().command(Path::new("true")).stderr(Stdio::null()).status();
        if tried.is_ok_and(|status| status.success()) {
            return Some(Self::default());
        }
        unable("no mount namespace can be made here: that takes root and unshare");
        None
    }

    /// Puts this file where keepers look for their manifest.
    #[must_use]
    pub fn with_manifest(mut self, manifest: &Path) -> Self {
        self.manifest = Some(manifest.to_owned());
        self
    }

    /// Puts a file or directory there.
    #[must_use]
    pub fn with(mut self, what: &Path, place: &'static str) -> Self {
        self.places.push((what.to_owned(), place));
        self
    }

    /// A program that runs in it. Its process is the command's own.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "cage"]);
        command.arg(self.manifest.as_deref().unwrap_or(Path::new("")));
        for (what, place) in &self.places {
            command.arg(what).arg(place);
        }
        command.arg("--").arg(program);
        command
    }
}
