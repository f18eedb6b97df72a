//! Packages: uploaded as files, named by their hash, vetted before anybody uses them.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use heirloom_canton::dar::{self, Dar};
use heirloom_canton::types::{PackageId, PackageName, TypeId, TypeName};
use heirloom_canton_node::wire::protocol::VettedPackages;
use heirloom_canton_node::wire::protocol::enums::TopologyChangeOp;
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_canton_node::wire::protocol::vetted_packages::VettedPackage;
use heirloom_model::causes::with_causes;
use prost::Message;

use crate::clock::now_micros;
use crate::node::Node;
use crate::node::error::NodeError;
use crate::node::link::Link;
use crate::record::DarRecord;
use crate::store::{StoreError, Table};
use crate::synchronizer::wire::Proposal;

impl Node {
    /// Takes a file of packages, once. Says which packages it has.
    pub fn upload(&self, bytes: &[u8], description: &str) -> Result<Dar, NodeError> {
        let read = dar::read(bytes);
        let read = read.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        let main = read.main().id().to_string();
        let mut packages = self.packages.write().unwrap_or_else(PoisonError::into_inner);
        for package in read.packages() {
            let twin = packages.iter().find(|found| {
                let is_named = found.name().is_some() && found.name() == package.name();
                is_named && found.version() == package.version() && found.id() != package.id()
            });
            // Standard libraries come in many variants under one name.
            let is_main = package.id() == read.main().id();
            if let (Some(twin), true) = (twin, is_main) {
                return Err(NodeError::Refused(format!(
                    "package {} has the name and version of package {}, which is here already",
                    package.id(),
                    twin.id()
                )));
            }
        }
        let known: Option<DarRecord> = self.store().read()?.one(Table::Dars, main.as_bytes())?;
        if known.is_none() {
            let record = DarRecord {
                bytes: bytes.to_vec(),
                description: description.to_owned(),
                time_micros: now_micros(),
            };
            self.store()
                .write::<_, StoreError>(|write| write.put(Table::Dars, main.as_bytes(), &record))?;
        }
        packages.add(&read);
        Ok(read)
    }

    /// A file that was uploaded.
    pub fn dar(&self, main: &str) -> Result<(DarRecord, Dar), NodeError> {
        let found: Option<DarRecord> = self.store().read()?.one(Table::Dars, main.as_bytes())?;
        let missing = || NodeError::Missing(format!("there is no DAR with main package {main}"));
        let record = found.ok_or_else(missing)?;
        let read = dar::read(&record.bytes);
        let read = read.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        Ok((record, read))
    }

    /// The main packages of all files.
    pub fn dars(&self) -> Result<Vec<String>, NodeError> {
        let all = self.store().read()?.all::<DarRecord>(Table::Dars)?;
        Ok(all.into_iter().map(|(main, _)| String::from_utf8_lossy(&main).into_owned()).collect())
    }

    /// Takes packages into use on the synchronizer of a connection, besides those that are.
    pub async fn vet(&self, packages: &[PackageId], link: &Link) -> Result<(), NodeError> {
        let id = self.required_id()?;
        let synchronizer = link.synchronizer().clone();
        let before = self.with_known(&synchronizer, |known| known.topology.clone());
        let before = before.unwrap_or_default();
        let mut vetted: BTreeSet<String> = before.packages_of(&id);
        let known = vetted.len();
        vetted.extend(packages.iter().map(ToString::to_string));
        if vetted.len() == known && known > 0 {
            return Ok(());
        }
        let mapping = Mapping::VettedPackages(VettedPackages {
            participant_uid: id.to_string(),
            package_ids: Vec::new(),
            packages: vetted
                .into_iter()
                .map(|package_id| VettedPackage { package_id, ..VettedPackage::default() })
                .collect(),
        });
        let signed = self.propose(mapping, TopologyChangeOp::AddReplace, 0, &[], &before)?;
        link.submit(Proposal::Topology(signed.encode_to_vec())).await?;
        Ok(())
    }

    /// The template that somebody names, by package id or by `#` and the name of a package.
    pub fn template(
        &self,
        package: &str,
        module: &str,
        entity: &str,
    ) -> Result<(TypeId, PackageName), NodeError> {
        let invalid =
            |error: heirloom_canton::types::ParseNameError| NodeError::Invalid(error.to_string());
        let name = TypeName {
            module: module.parse().map_err(invalid)?,
            entity: entity.parse().map_err(invalid)?,
        };
        let packages = self.packages();
        let found = match package.strip_prefix('#') {
            Some(named) => packages
                .iter()
                .filter(|found| found.name().is_some_and(|name| name.as_str() == named))
                .filter(|found| found.has_template(&name))
                .max_by_key(|found| found.version().map(ToString::to_string)),
            None => packages.get(&package.parse().map_err(invalid)?),
        };
        let found = found.filter(|found| found.has_template(&name)).ok_or_else(|| {
            NodeError::Missing(format!("there is no template {package}:{name} in any package"))
        })?;
        let package_name = found
            .name()
            .cloned()
            .ok_or_else(|| NodeError::Refused(format!("package {} has no name", found.id())))?;
        Ok((TypeId { package: found.id().clone(), name }, package_name))
    }

    pub(crate) fn load_packages(&self) -> Result<(), NodeError> {
        let all = self.store().read()?.all::<DarRecord>(Table::Dars)?;
        let mut packages = self.packages.write().unwrap_or_else(PoisonError::into_inner);
        for (main, record) in all {
            let read = dar::read(&record.bytes).map_err(|error| {
                let main = String::from_utf8_lossy(&main);
                NodeError::Invalid(format!(
                    "the DAR of {main} in the store: {}",
                    with_causes(&error)
                ))
            })?;
            packages.add(&read);
        }
        Ok(())
    }
}
