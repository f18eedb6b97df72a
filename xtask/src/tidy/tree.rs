//! What tidy looks at: packages as cargo knows them, files as git knows them, rules and
//! exceptions as `tidy.toml` and `deny.toml` state them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// Everything that a rule may look at.
pub(crate) struct Tree {
    /// The packages of this workspace, by name.
    pub(crate) packages: BTreeMap<String, Package>,
    /// Packages from elsewhere.
    pub(crate) external: Vec<External>,
    /// What is linked into a package, by its name: `name` and compatible version of each.
    pub(crate) linked: BTreeMap<String, BTreeSet<String>>,
    /// The text files of the checkout, by path.
    pub(crate) files: BTreeMap<String, String>,
    /// What is allowed.
    pub(crate) settings: Settings,
    /// What the supply chain may bring.
    pub(crate) deny: Deny,
    /// The lints that packages inherit.
    pub(crate) lints: toml::Table,
}

/// A package of this workspace.
#[derive(Clone, Default)]
pub(crate) struct Package {
    pub(crate) layer: Layer,
    pub(crate) description: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) folder: String,
    pub(crate) lints: Lints,
}

/// Where the lints of a package come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Lints {
    /// `[lints] workspace = true`.
    #[default]
    Inherited,
    /// A table of its own, or none.
    Own(toml::Table),
}

/// The folder below `crates`, bottom first. A crate depends on its own layer or a lower one.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Layer {
    #[default]
    Base,
    Core,
    Adapter,
    Shell,
    Test,
    /// Outside of `crates`: it builds the rest and may use all of it.
    Task,
}

/// One line of a package's dependency tables.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) is_dev: bool,
}

/// A package from elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct External {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    pub(crate) source: String,
}

/// `xtask/tidy.toml`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) file_lines_max: usize,
    pub(crate) architecture_lines_max: usize,
    pub(crate) report_rows: usize,
    pub(crate) core_edges: BTreeMap<String, Vec<String>>,
    pub(crate) shared_shells: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) edge: Vec<EdgeException>,
    pub(crate) core: CoreSettings,
    pub(crate) keeper: KeeperSettings,
    #[serde(default)]
    pub(crate) own_lints: Vec<PackageException>,
    #[serde(default)]
    pub(crate) unsafe_file: Vec<FileException>,
    pub(crate) word: Vec<Word>,
}

/// An edge against the layers.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeException {
    pub(crate) from: String,
    pub(crate) to: String,
    #[expect(dead_code, reason = "an exception without a reason does not parse")]
    reason: String,
}

/// A package that a rule does not bind.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackageException {
    pub(crate) package: String,
    #[expect(dead_code, reason = "an exception without a reason does not parse")]
    reason: String,
}

/// A file that a rule does not bind.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileException {
    pub(crate) path: String,
    #[expect(dead_code, reason = "an exception without a reason does not parse")]
    reason: String,
}

/// What core crates do not use.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoreSettings {
    pub(crate) banned_in_tree: Vec<String>,
    pub(crate) banned_directly: Vec<String>,
}

/// Which package is the measured program.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeeperSettings {
    pub(crate) package: String,
}

/// A word that we do not say.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Word {
    pub(crate) not: String,
    pub(crate) say: String,
}

/// The parts of `deny.toml` that tidy checks itself.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Deny {
    pub(crate) licenses: DenyLicences,
    pub(crate) bans: DenyBans,
    pub(crate) sources: DenySources,
}

/// Licences that we accept.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct DenyLicences {
    pub(crate) allow: Vec<String>,
}

/// Packages that we do not accept.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct DenyBans {
    pub(crate) deny: Vec<NamedPackage>,
    /// Versions that may stand beside another one of the same package: `name@version`.
    pub(crate) skip: Vec<NamedPackage>,
}

/// One of them.
#[derive(Clone, Deserialize)]
pub(crate) struct NamedPackage {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// Registries that we accept.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DenySources {
    pub(crate) allow_registry: Vec<String>,
}

/// The system that releases are built for. Others would bring packages that are never compiled.
const TARGET: &str = "x86_64-unknown-linux-gnu";

impl Tree {
    /// Reads the workspace that this program was built from.
    pub(crate) fn read() -> Result<Self> {
        let files = read_files()?;
        let settings =
            toml::from_str(text(&files, "xtask/tidy.toml")?).context("xtask/tidy.toml")?;
        let deny = toml::from_str(text(&files, "deny.toml")?).context("deny.toml")?;
        let lints = workspace_lints(text(&files, "Cargo.toml")?)?;
        let (packages, external) = read_metadata(&files)?;
        let mut tree =
            Self { packages, external, linked: BTreeMap::new(), files, settings, deny, lints };
        tree.linked = tree.read_linked()?;
        Ok(tree)
    }

    /// The file of a path; nothing if there is none.
    pub(crate) fn file(&self, path: &str) -> &str {
        self.files.get(path).map_or("", String::as_str)
    }

    /// The packages of one layer.
    pub(crate) fn layer(&self, layer: Layer) -> impl Iterator<Item = (&String, &Package)> {
        self.packages.iter().filter(move |(_, package)| package.layer == layer)
    }

    /// The Rust files of the workspace.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter().filter(|(path, _)| has_extension(path, "rs"))
    }

    fn read_linked(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let pure = self.packages.iter().filter(|(_, package)| package.layer <= Layer::Core);
        let keeper = std::iter::once(&self.settings.keeper.package);
        let names = pure.map(|(name, _)| name).chain(keeper);
        names.map(|name| Ok((name.clone(), read_linked_of(name)?))).collect()
    }
}

/// Whether a path ends in `.extension`.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|found| found == extension)
}

/// The layer of a package in this folder of the checkout.
pub(crate) fn layer_of(folder: &str) -> Layer {
    let mut parts = folder.split('/');
    match (parts.next(), parts.next()) {
        (Some("crates"), Some("base")) => Layer::Base,
        (Some("crates"), Some("core")) => Layer::Core,
        (Some("crates"), Some("adapter")) => Layer::Adapter,
        (Some("crates"), Some("shell")) => Layer::Shell,
        (Some("crates"), Some("test")) => Layer::Test,
        _ => Layer::Task,
    }
}

fn workspace_lints(manifest: &str) -> Result<toml::Table> {
    let table: toml::Table = manifest.parse().context("Cargo.toml")?;
    let lints = table.get("workspace").and_then(|workspace| workspace.get("lints"));
    lints.and_then(toml::Value::as_table).cloned().context("Cargo.toml has no [workspace.lints]")
}

fn text<'f>(files: &'f BTreeMap<String, String>, path: &str) -> Result<&'f str> {
    files.get(path).map(String::as_str).with_context(|| format!("{path} is missing"))
}

/// The files that git knows or would add. Whatever is not text is not ours to read.
fn read_files() -> Result<BTreeMap<String, String>> {
    let root = process::workspace_root();
    let mut command = Command::new("git");
    command.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = process::read(&mut command).context("tidy needs a git checkout")?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    // A file that is listed but gone was deleted and not committed yet.
    Ok(paths
        .filter_map(|path| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?)))
        .collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    description: Option<String>,
    license: Option<String>,
    source: Option<String>,
    manifest_path: String,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
    kind: Option<String>,
}

type Packages = (BTreeMap<String, Package>, Vec<External>);

fn read_metadata(files: &BTreeMap<String, String>) -> Result<Packages> {
    let mut command = process::cargo();
    command.args(["metadata", "--format-version", "1", "--filter-platform", TARGET]);
    let metadata: Metadata = serde_json::from_str(&process::read(&mut command)?)?;
    let mut ours = BTreeMap::new();
    let mut others = Vec::new();
    for package in metadata.packages {
        if let Some(source) = package.source {
            others.push(External {
                name: package.name,
                version: package.version,
                licence: package.license,
                source,
            });
            continue;
        }
        let (name, package) = read_package(package, &metadata.workspace_root, files)?;
        ours.insert(name, package);
    }
    Ok((ours, others))
}

fn read_package(
    package: MetadataPackage,
    root: &str,
    files: &BTreeMap<String, String>,
) -> Result<(String, Package)> {
    let relative = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path);
    let manifest = relative.trim_start_matches('/');
    let folder = manifest.trim_end_matches("/Cargo.toml").to_owned();
    let table: toml::Table = text(files, manifest)?.parse()?;
    let lints = table.get("lints").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let inherits = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    let dependencies = package.dependencies.into_iter().map(|dependency| Dependency {
        name: dependency.name,
        is_dev: dependency.kind.as_deref() == Some("dev"),
    });
    let described = Package {
        layer: layer_of(&folder),
        description: package.description,
        dependencies: dependencies.collect(),
        folder,
        lints: if inherits { Lints::Inherited } else { Lints::Own(lints) },
    };
    Ok((package.name, described))
}

/// What is linked into a package when only that package is built: no tests, no build scripts, no
/// macros, no features that somebody else asked for.
fn read_linked_of(package: &str) -> Result<BTreeSet<String>> {
    let mut command = process::cargo();
    command.args(["tree", "--package", package, "--edges", "normal,no-proc-macro"]);
    command.args(["--target", TARGET, "--prefix", "none", "--format", "{p}"]);
    let lines = process::read(&mut command)?;
    Ok(lines.lines().filter_map(parse_tree_line).collect())
}

/// `name v1.2.3 (where)` as `name 1`.
fn parse_tree_line(line: &str) -> Option<String> {
    let (name, rest) = line.split_once(" v")?;
    let version = rest.split(' ').next()?;
    Some(format!("{name} {}", compatible(version)))
}

/// The part of a version that a compatible one shares.
fn compatible(version: &str) -> String {
    let mut parts = version.split(['.', '-', '+']);
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (Some(major), _) => major.to_owned(),
        (None, _) => version.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small workspace that every rule accepts. Tests change one thing in it.
    pub(crate) fn sample() -> Tree {
        let settings: Settings =
            toml::from_str(include_str!("../../tidy.toml")).expect("tidy.toml is well formed");
        let deny = toml::from_str(include_str!("../../../deny.toml")).expect("deny.toml");
        let mut tree = Tree {
            packages: BTreeMap::new(),
            external: vec![external("serde", "MIT OR Apache-2.0")],
            linked: BTreeMap::new(),
            files: BTreeMap::new(),
            settings,
            deny,
            lints: workspace_lints(include_str!("../../../Cargo.toml")).expect("Cargo.toml"),
        };
        let packages = [
            ("heirloom-model", "base/model", &["serde"][..]),
            ("heirloom-attest", "core/attest", &["heirloom-model"]),
            ("heirloom-registry", "core/registry", &["heirloom-attest"]),
            ("heirloom-emulated", "adapter/emulated", &["heirloom-attest"]),
            ("heirloom-session", "adapter/session", &["heirloom-model"]),
            ("heirloom-client", "shell/client", &["heirloom-session"]),
            ("heirloom-keeper-shell", "shell/keeper", &["heirloom-emulated"]),
            ("heirloom-testkit", "test/testkit", &["heirloom-model"]),
        ];
        let mut map = String::from("# Architecture\n\nThe trusted code: `heirloom-model`.\n");
        for (name, folder, dependencies) in packages {
            let folder = format!("crates/{folder}");
            for part in ["- `", &folder, "`\n"] {
                map.push_str(part);
            }
            tree.packages.insert(name.to_owned(), package(&folder, dependencies));
        }
        for core in ["attest", "registry"] {
            tree.files.insert(format!("crates/core/{core}/clippy.toml"), "strict".to_owned());
        }
        for package in tree.packages.values() {
            tree.files.insert(format!("{}/Cargo.toml", package.folder), String::new());
        }
        tree.files.insert("ARCHITECTURE.md".to_owned(), map);
        tree.files.insert("xtask/keeper-dependencies.txt".to_owned(), "serde 1\n".to_owned());
        let linked = ["heirloom-model 0.1", "serde 1"].map(str::to_owned);
        for name in ["heirloom-model", "heirloom-attest", "heirloom-keeper-shell"] {
            tree.linked.insert(name.to_owned(), linked.iter().cloned().collect());
        }
        tree
    }

    /// A package with normal dependencies.
    pub(crate) fn package(folder: &str, dependencies: &[&str]) -> Package {
        let depend = |name: &&str| Dependency { name: (*name).to_owned(), is_dev: false };
        Package {
            layer: layer_of(folder),
            description: Some("A package.".to_owned()),
            dependencies: dependencies.iter().map(depend).collect(),
            folder: folder.to_owned(),
            lints: Lints::Inherited,
        }
    }

    /// A package from the registry.
    pub(crate) fn external(name: &str, licence: &str) -> External {
        External {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: Some(licence.to_owned()),
            source: "registry+https://github.com/rust-lang/crates.io-index".to_owned(),
        }
    }

    #[test]
    fn every_rule_accepts_the_sample() {
        let tree = sample();
        let findings: Vec<_> = crate::tidy::RULES.iter().flat_map(|rule| rule(&tree)).collect();
        assert_eq!(findings, []);
    }

    #[test]
    fn a_folder_is_a_layer() {
        assert_eq!(layer_of("crates/base/model"), Layer::Base);
        assert_eq!(layer_of("crates/test/sim"), Layer::Test);
        assert_eq!(layer_of("xtask"), Layer::Task);
        assert!(Layer::Base < Layer::Core && Layer::Core < Layer::Adapter);
        assert!(Layer::Adapter < Layer::Shell && Layer::Shell < Layer::Test);
    }

    #[test]
    fn versions_are_named_by_what_is_compatible() {
        assert_eq!(parse_tree_line("rsa v0.9.10"), Some("rsa 0.9".to_owned()));
        assert_eq!(parse_tree_line("aes v1.9.4 (*)"), Some("aes 1".to_owned()));
        assert_eq!(parse_tree_line("own v0.1.0 (/a/path)"), Some("own 0.1".to_owned()));
        assert_eq!(parse_tree_line(""), None);
    }
}
