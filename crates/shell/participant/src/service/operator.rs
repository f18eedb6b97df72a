//! Packages, and a ping.

use heirloom_canton::dar::{Dar, Package};
use heirloom_canton::types::PackageId;
use heirloom_canton_node::wire::participant::package_service_server::PackageService;
use heirloom_canton_node::wire::participant::ping_response::Response as Ponged;
use heirloom_canton_node::wire::participant::ping_service_server::PingService;
use heirloom_canton_node::wire::participant::{
    DarDescription, GetDarContentsRequest, GetDarContentsResponse, GetDarRequest, GetDarResponse,
    ListDarsRequest, ListDarsResponse, ListPackagesRequest, ListPackagesResponse,
    PackageDescription, PingFailure, PingRequest, PingResponse, PingSuccess, UploadDarRequest,
    UploadDarResponse, VetDarRequest, VetDarResponse,
};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::limit::PAGE_MAX;
use crate::node::error::NodeError;
use crate::record::DarRecord;
use crate::service::Services;

#[tonic::async_trait]
impl PackageService for Services {
    async fn list_packages(
        &self,
        request: Request<ListPackagesRequest>,
    ) -> Result<Response<ListPackagesResponse>, Status> {
        let request = request.into_inner();
        self.on("ListPackages", move |node| {
            let packages = node.packages();
            let named = packages.iter().map(|package| described(package, 0, 0));
            let named = named.filter(|found| found.name.starts_with(&request.filter_name));
            let package_descriptions = named.take(limit(request.limit)).collect();
            Ok(ListPackagesResponse { package_descriptions })
        })
        .await
    }

    async fn upload_dar(
        &self,
        request: Request<UploadDarRequest>,
    ) -> Result<Response<UploadDarResponse>, Status> {
        let request = request.into_inner();
        self.with("UploadDar", |node| async move {
            let mut dar_ids = Vec::new();
            let mut packages: Vec<PackageId> = Vec::new();
            // Without a synchronizer nothing can be vetted, and then nothing is uploaded either.
            let named = request.synchronizer_id.clone().unwrap_or_default();
            let link = if request.vet_all_packages { Some(node.link_for(&named)?) } else { None };
            for dar in &request.dars {
                let description = dar.description.clone().unwrap_or_default();
                let read = node.upload(&dar.bytes, &description)?;
                let main = read.main().id().to_string();
                if dar.expected_main_package_id.as_ref().is_some_and(|wanted| *wanted != main) {
                    return Err(NodeError::Invalid(format!("the main package is {main}")));
                }
                packages.extend(read.packages().iter().map(|package| package.id().clone()));
                dar_ids.push(main);
            }
            if let Some(link) = link {
                node.vet(&packages, &link).await?;
            }
            Ok(UploadDarResponse { dar_ids })
        })
        .await
    }

    async fn get_dar(
        &self,
        request: Request<GetDarRequest>,
    ) -> Result<Response<GetDarResponse>, Status> {
        let main = request.into_inner().main_package_id;
        self.on("GetDar", move |node| {
            let (record, read) = node.dar(&main)?;
            let data = Some(dar_description(&record, &read));
            Ok(GetDarResponse { payload: record.bytes, data })
        })
        .await
    }

    async fn list_dars(
        &self,
        request: Request<ListDarsRequest>,
    ) -> Result<Response<ListDarsResponse>, Status> {
        let request = request.into_inner();
        self.on("ListDars", move |node| {
            let mut dars = Vec::new();
            for main in node.dars()? {
                let (record, read) = node.dar(&main)?;
                let description = dar_description(&record, &read);
                if description.name.starts_with(&request.filter_name) {
                    dars.push(description);
                }
            }
            dars.truncate(limit(request.limit));
            Ok(ListDarsResponse { dars })
        })
        .await
    }

    async fn get_dar_contents(
        &self,
        request: Request<GetDarContentsRequest>,
    ) -> Result<Response<GetDarContentsResponse>, Status> {
        let main = request.into_inner().main_package_id;
        self.on("GetDarContents", move |node| {
            let (record, read) = node.dar(&main)?;
            let packages = read.packages().iter();
            let packages = packages.map(|package| described(package, record.time_micros, 0));
            Ok(GetDarContentsResponse {
                description: Some(dar_description(&record, &read)),
                packages: packages.collect(),
            })
        })
        .await
    }

    async fn vet_dar(
        &self,
        request: Request<VetDarRequest>,
    ) -> Result<Response<VetDarResponse>, Status> {
        let request = request.into_inner();
        self.with("VetDar", |node| async move {
            let (_, read) = node.dar(&request.main_package_id)?;
            let link = node.link_for(&request.synchronizer_id.unwrap_or_default())?;
            let packages: Vec<PackageId> =
                read.packages().iter().map(|package| package.id().clone()).collect();
            node.vet(&packages, &link).await?;
            Ok(VetDarResponse {})
        })
        .await
    }
}

#[tonic::async_trait]
impl PingService for Services {
    /// Only asks whether the synchronizer is followed: there is no contract of a ping here.
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let named = request.into_inner().synchronizer_id;
        self.with("Ping", |node| async move {
            let id = node.required_id()?;
            let response = match node.link_for(&named) {
                Ok(link) if link.is_healthy() => {
                    Ponged::Success(PingSuccess { ping_time: 0, responder: id.to_string() })
                }
                Ok(_) => {
                    Ponged::Failure(PingFailure { reason: "the connection is lost".to_owned() })
                }
                Err(error) => Ponged::Failure(PingFailure { reason: error.to_string() }),
            };
            Ok(PingResponse { response: Some(response) })
        })
        .await
    }
}

fn limit(asked: i32) -> usize {
    usize::try_from(asked).ok().filter(|asked| *asked > 0).unwrap_or(PAGE_MAX).min(PAGE_MAX)
}

fn described(package: &Package, time_micros: i64, size: u32) -> PackageDescription {
    PackageDescription {
        package_id: package.id().to_string(),
        name: package.name().map(ToString::to_string).unwrap_or_default(),
        version: package.version().map(ToString::to_string).unwrap_or_default(),
        uploaded_at: (time_micros > 0)
            .then(|| Timestamp { seconds: time_micros.div_euclid(1_000_000), nanos: 0 }),
        size,
    }
}

fn dar_description(record: &DarRecord, read: &Dar) -> DarDescription {
    let main = read.main();
    DarDescription {
        main: main.id().to_string(),
        name: main.name().map(ToString::to_string).unwrap_or_default(),
        version: main.version().map(ToString::to_string).unwrap_or_default(),
        description: record.description.clone(),
    }
}
