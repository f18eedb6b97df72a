//! What the synchronizer says to everybody who asks, in the words of a real sequencer.

use std::collections::BTreeSet;
use std::sync::Arc;

use heirloom_canton_node::wire::crypto::{
    CryptoKeyFormat, RequiredEncryptionSpecs, RequiredSigningSpecs, SignatureFormat,
};
use heirloom_canton_node::wire::protocol::StaticSynchronizerParameters;
use heirloom_canton_node::wire::sequencer::sequencer_connect::get_synchronizer_parameters_response::Parameters as Versioned;
use heirloom_canton_node::wire::sequencer::sequencer_connect::{
    GetSynchronizerIdRequest, GetSynchronizerIdResponse, GetSynchronizerParametersRequest,
    GetSynchronizerParametersResponse,
};
use heirloom_canton_node::wire::sequencer::sequencer_connect_service_server::SequencerConnectService;
use tonic::{Request, Response, Status};

use crate::crypto::{algorithm_of_encryption, algorithm_of_signing};
use crate::synchronizer::sequencer::Sequencer;
use crate::synchronizer::wire::Parameters;

/// AES-128 with GCM, the one symmetric scheme that there is.
const SYMMETRIC: i32 = 1;
/// SHA-256, the one hash that there is.
const HASH: i32 = 1;

/// Answers whoever has not connected yet.
pub struct Connect {
    /// What is asked about.
    pub sequencer: Arc<Sequencer>,
}

#[tonic::async_trait]
impl SequencerConnectService for Connect {
    async fn get_synchronizer_id(
        &self,
        _: Request<GetSynchronizerIdRequest>,
    ) -> Result<Response<GetSynchronizerIdResponse>, Status> {
        let parameters = self.sequencer.parameters();
        let physical_synchronizer_id = match parameters.protocol_version {
            ..=33 => parameters.synchronizer_id.clone(),
            _ => parameters.physical_id(),
        };
        // The synchronizer is its own sequencer.
        let sequencer_uid = parameters.synchronizer_id.clone();
        Ok(Response::new(GetSynchronizerIdResponse { physical_synchronizer_id, sequencer_uid }))
    }

    async fn get_synchronizer_parameters(
        &self,
        _: Request<GetSynchronizerParametersRequest>,
    ) -> Result<Response<GetSynchronizerParametersResponse>, Status> {
        let said = said(self.sequencer.parameters());
        let parameters = said.map(Versioned::ParametersV1);
        Ok(Response::new(GetSynchronizerParametersResponse { parameters }))
    }
}

/// The static parameters as a real sequencer says them. None if one of the numbers is too large.
fn said(parameters: &Parameters) -> Option<StaticSynchronizerParameters> {
    let protocol = parameters.protocol_version;
    let distinct = |numbers: BTreeSet<i32>| numbers.into_iter().collect();
    let signing = parameters.signing_keys.iter().filter_map(|key| algorithm_of_signing(*key));
    let opening = parameters.encryption_keys.iter();
    let opening = opening.filter_map(|key| algorithm_of_encryption(*key, protocol));
    Some(StaticSynchronizerParameters {
        required_signing_specs: Some(RequiredSigningSpecs {
            algorithms: distinct(signing.collect()),
            keys: parameters.signing_keys.clone(),
        }),
        required_encryption_specs: Some(RequiredEncryptionSpecs {
            algorithms: distinct(opening.collect()),
            keys: parameters.encryption_keys.clone(),
        }),
        required_symmetric_key_schemes: vec![SYMMETRIC],
        required_hash_algorithms: vec![HASH],
        required_crypto_key_formats: vec![
            CryptoKeyFormat::Raw.into(),
            CryptoKeyFormat::DerX509SubjectPublicKeyInfo.into(),
            CryptoKeyFormat::DerPkcs8PrivateKeyInfo.into(),
        ],
        required_signature_formats: vec![
            SignatureFormat::Der.into(),
            SignatureFormat::Concat.into(),
        ],
        protocol_version: i32::try_from(protocol).ok()?,
        serial: i32::try_from(parameters.serial).ok()?,
    })
}
