//! The packages of a participant, and the files that they came in.

use std::collections::BTreeSet;

use heirloom_canton::types::PackageId;
use heirloom_model::party::SynchronizerId;

use crate::error::NodeError;
use crate::node::call::ask;
use crate::node::{Node, Port, Shape};
use crate::wire::participant::package_service_client::PackageServiceClient;
use crate::wire::participant::upload_dar_request::UploadDarData;
use crate::wire::participant::{
    GetDarContentsRequest, GetDarRequest, ListDarsRequest, ListPackagesRequest, UploadDarRequest,
    VetDarRequest,
};

/// Files of packages on one participant.
pub(crate) const DARS_MAX: usize = 10_000;
/// Packages on one participant.
pub(crate) const PACKAGES_MAX: usize = 100_000;

/// A file of packages.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DarEntry {
    /// Its main package.
    pub main: PackageId,
    /// What it is called.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Free text.
    pub description: String,
}

/// What every participant brings along: its own.
const BUILT_IN: [&str; 2] =
    ["canton-builtin-admin-workflow-ping", "canton-builtin-admin-workflow-party-replication-alpha"];

impl DarEntry {
    /// Whether every participant brings it along by itself, each release its own.
    pub fn is_built_in(&self) -> bool {
        BUILT_IN.contains(&self.name.as_str())
    }
}

/// One more than may be there, so that too many are seen and not cut.
fn ask_for(limit: usize) -> i32 {
    i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX)
}

impl Node {
    /// Its files of packages, ordered.
    pub fn dars(&self) -> Result<Vec<DarEntry>, NodeError> {
        let call = "ListDars";
        let request = ListDarsRequest { limit: ask_for(DARS_MAX), filter_name: String::new() };
        let request = ask!(PackageServiceClient<_>, list_dars, request);
        let found = self.read(Port::Admin, call, request)?.dars;
        self.bounded(call, found.len(), DARS_MAX)?;
        let mut dars = found
            .into_iter()
            .map(|dar| {
                let main = self.parse(call, &dar.main)?;
                let (name, version, description) = (dar.name, dar.version, dar.description);
                Ok(DarEntry { main, name, version, description })
            })
            .collect::<Result<Vec<_>, NodeError>>()?;
        dars.sort();
        Ok(dars)
    }

    /// Every package that it has, from whichever file.
    pub fn packages(&self) -> Result<BTreeSet<PackageId>, NodeError> {
        let call = "ListPackages";
        let request =
            ListPackagesRequest { limit: ask_for(PACKAGES_MAX), filter_name: String::new() };
        let request = ask!(PackageServiceClient<_>, list_packages, request);
        let found = self.read(Port::Admin, call, request)?.package_descriptions;
        self.bounded(call, found.len(), PACKAGES_MAX)?;
        found.iter().map(|package| self.parse(call, &package.package_id)).collect()
    }

    /// The packages of one file.
    pub fn dar_contents(&self, main: &PackageId) -> Result<BTreeSet<PackageId>, NodeError> {
        let call = "GetDarContents";
        let request = GetDarContentsRequest { main_package_id: main.to_string() };
        let request = ask!(PackageServiceClient<_>, get_dar_contents, request);
        let found = self.read(Port::Admin, call, request)?.packages;
        self.bounded(call, found.len(), PACKAGES_MAX)?;
        found.iter().map(|package| self.parse(call, &package.package_id)).collect()
    }

    /// The bytes of one file. What is in them is for the caller to verify.
    pub fn dar(&self, main: &PackageId) -> Result<Vec<u8>, NodeError> {
        let call = "GetDar";
        let request = GetDarRequest { main_package_id: main.to_string() };
        let request = ask!(PackageServiceClient<_>, get_dar, request);
        let answer = self.read(Port::Admin, call, request)?;
        if answer.payload.is_empty() {
            return Err(NodeError::Missing {
                node: self.name().to_owned(),
                what: format!("file of packages {main}"),
            });
        }
        Ok(answer.payload)
    }

    /// Gives it a file of packages, and lets it take all of them in transactions. Idempotent.
    pub fn upload(
        &self,
        entry: &DarEntry,
        bytes: Vec<u8>,
        synchronizer: &SynchronizerId,
    ) -> Result<(), NodeError> {
        let call = "UploadDar";
        let names_synchronizer = self.shape()? >= Shape::V34;
        let description = Some(entry.description.clone()).filter(|text| !text.is_empty());
        let expected_main_package_id = Some(entry.main.to_string());
        let request = UploadDarRequest {
            dars: vec![UploadDarData { bytes, description, expected_main_package_id }],
            vet_all_packages: true,
            synchronize_vetting: true,
            synchronizer_id: names_synchronizer.then(|| synchronizer.to_string()),
        };
        let request = ask!(PackageServiceClient<_>, upload_dar, request);
        let answer = self.change(Port::Admin, call, request)?;
        if answer.dar_ids != [entry.main.as_str()] {
            let why = format!("{} became {:?}", entry.main, answer.dar_ids);
            return Err(self.corrupt(call, why));
        }
        Ok(())
    }

    /// Lets it take the packages of a file that it has. Idempotent.
    pub fn vet(&self, main: &PackageId, synchronizer: &SynchronizerId) -> Result<(), NodeError> {
        let names_synchronizer = self.shape()? >= Shape::V34;
        let request = VetDarRequest {
            main_package_id: main.to_string(),
            synchronize: true,
            synchronizer_id: names_synchronizer.then(|| synchronizer.to_string()),
        };
        let request = ask!(PackageServiceClient<_>, vet_dar, request);
        self.change(Port::Admin, "VetDar", request).map(|_| ())
    }
}
