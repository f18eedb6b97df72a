//! Files of packages ("DARs"): what contracts' types are read from.
//!
//! A DAR is a zip file with a manifest and packages of Daml-LF. [`read()`] takes it apart as
//! strictly as participants do, and in places more strictly:
//!
//! * Nothing is unpacked to disk, and names of files mean nothing: a package is named by the
//!   SHA-256 of its payload, which is compared with what it says.
//! * The directory of the zip file and its entries must agree, so that everybody who reads it sees
//!   the same packages.
//! * Of packages, the types that contracts can hold are read, and which of them are templates.
//!   Expressions are not: a participant checks them when the file is uploaded. The one exception is
//!   an expression that is nothing but a constructor of `Unit` or `Bool`.
//!
//! A participant also refuses lines of the manifest with more than 512 bytes; tools that take DARs
//! apart and put them together again write such lines, and their packages are as good as others.
//!
//! [`build`] writes small DARs for tests and demonstrations.

use std::collections::BTreeMap;
use std::sync::Arc;

pub mod archive;
pub mod build;
mod layout;
pub mod manifest;
pub mod package;
mod tables;
mod typegraph;
pub mod types;
pub mod zip;

#[cfg(test)]
mod tests;

use crate::types::{DataType, PackageId, PackageName, Type, TypeName};
use archive::{Archive, ArchiveError, LfVersion};
use manifest::{Manifest, ManifestError};
use package::{Metadata, PackageError, PackageVersion, RawPackage};
use zip::ZipError;

/// Why bytes are not a file of packages.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DarError {
    /// They are not a zip file that is read.
    #[error("the zip file is refused")]
    Zip(#[from] ZipError),
    /// The manifest is refused.
    #[error("the manifest is refused")]
    Manifest(#[from] ManifestError),
    /// A file that must be there is not.
    #[error("there is no {path:?}")]
    MissingEntry {
        /// Its path.
        path: String,
    },
    /// A file of a package is refused.
    #[error("{path:?} is refused")]
    Archive {
        /// Its path, or empty if it was read by itself.
        path: String,
        /// Why.
        source: ArchiveError,
    },
    /// A package is refused.
    #[error("package {package} is refused")]
    Package {
        /// Which.
        package: PackageId,
        /// Why.
        source: PackageError,
    },
}

/// A file of packages that was read.
#[derive(Clone, Debug)]
pub struct Dar {
    main: PackageId,
    packages: Vec<Arc<Package>>,
}

impl Dar {
    /// The package that the file is about.
    pub fn main(&self) -> &Package {
        self.package(&self.main).expect("the reader takes no file without it")
    }

    /// All packages, ordered by id, each once.
    pub fn packages(&self) -> &[Arc<Package>] {
        &self.packages
    }

    /// One of its packages.
    pub fn package(&self, id: &PackageId) -> Option<&Package> {
        let found = self.packages.binary_search_by(|package| package.id().cmp(id)).ok()?;
        self.packages.get(found).map(AsRef::as_ref)
    }
}

/// One package that was read: its id is the hash of what it was read from.
#[derive(Clone, Debug)]
pub struct Package {
    id: PackageId,
    lf: LfVersion,
    metadata: Option<Metadata>,
    types: BTreeMap<TypeName, DataType>,
    keys: BTreeMap<TypeName, Option<Type>>,
}

impl Package {
    /// The SHA-256 of its payload.
    pub fn id(&self) -> &PackageId {
        &self.id
    }

    /// Its Daml-LF.
    pub fn lf(&self) -> LfVersion {
        self.lf
    }

    /// How it is called. Packages before Daml-LF 1.8 do not say it.
    pub fn name(&self) -> Option<&PackageName> {
        self.metadata.as_ref().map(|metadata| &metadata.name)
    }

    /// Its version. Packages before Daml-LF 1.8 do not say it.
    pub fn version(&self) -> Option<&PackageVersion> {
        self.metadata.as_ref().map(|metadata| &metadata.version)
    }

    /// The package that it says to upgrade.
    pub fn upgrades(&self) -> Option<&PackageId> {
        self.metadata.as_ref()?.upgrades.as_ref()
    }

    /// Its types that contracts can hold, and its interfaces.
    pub fn data_types(&self) -> &BTreeMap<TypeName, DataType> {
        &self.types
    }

    /// A type.
    pub fn data_type(&self, name: &TypeName) -> Option<&DataType> {
        self.types.get(name)
    }

    /// Its templates in order.
    pub fn templates(&self) -> impl ExactSizeIterator<Item = &TypeName> {
        self.keys.keys()
    }

    /// Whether contracts of this name can be created.
    pub fn has_template(&self, name: &TypeName) -> bool {
        self.keys.contains_key(name)
    }

    /// The type of a template's key.
    pub fn key_type(&self, template: &TypeName) -> Option<&Type> {
        self.keys.get(template)?.as_ref()
    }
}

/// Reads a file of packages.
pub fn read(bytes: &[u8]) -> Result<Dar, DarError> {
    let mut entries = zip::entries(bytes)?;
    let missing = |path: &str| DarError::MissingEntry { path: path.to_owned() };
    let manifest = entries.remove(manifest::PATH).ok_or_else(|| missing(manifest::PATH))?;
    let manifest = Manifest::parse(&manifest.unpack()?)?;
    let mut packages = BTreeMap::new();
    let mut main = None;
    for path in std::iter::once(&manifest.main).chain(&manifest.others) {
        let entry = entries.remove(path.as_str()).ok_or_else(|| missing(path))?;
        let package = read_archive(path, &entry.unpack()?)?;
        main.get_or_insert_with(|| package.id.clone());
        packages.insert(package.id.clone(), package);
    }
    // Participants unpack everything before they read the manifest; a corrupt source is a corrupt
    // file here too.
    for entry in entries.values() {
        entry.unpack()?;
    }
    let main = main.expect("a manifest names a main package");
    let packages = resolve(&packages)?.into_iter().map(Arc::new).collect();
    Ok(Dar { main, packages })
}

/// Reads one package that is a file by itself, as participants hand them out. Synonyms of other
/// packages are not known.
pub fn read_package(bytes: &[u8]) -> Result<Package, DarError> {
    let package = read_archive("", bytes)?;
    let mut packages = resolve(&BTreeMap::from([(package.id.clone(), package)]))?;
    Ok(packages.pop().expect("one package was put in"))
}

fn read_archive(path: &str, bytes: &[u8]) -> Result<RawPackage, DarError> {
    let archive = Archive::parse(bytes)
        .map_err(|source| DarError::Archive { path: path.to_owned(), source })?;
    RawPackage::parse(&archive)
        .map_err(|source| DarError::Package { package: archive.id.clone(), source })
}

/// Follows the types of all packages.
fn resolve(all: &BTreeMap<PackageId, RawPackage>) -> Result<Vec<Package>, DarError> {
    let (mut packages, mut nodes) = (Vec::new(), 0);
    for package in all.values() {
        let resolved = types::resolve(package, all, &mut nodes)
            .map_err(|source| DarError::Package { package: package.id.clone(), source })?;
        packages.push(Package {
            id: package.id.clone(),
            lf: package.version,
            metadata: package.metadata.clone(),
            types: resolved.types,
            keys: resolved.keys,
        });
    }
    Ok(packages)
}
