//! What each product can do, as data: scheme by scheme, with the source of each statement and
//! whether somebody tried it.
//!
//! A product that is not named in a row says nothing: what follows from silence is "uncertain",
//! never "yes". Where two sources contradict each other, both stand in the row, and the one that
//! runs is believed over the one that describes.

use std::fmt;

use heirloom_model::participant::CustodianKind;

use crate::custodian::key::{KeyScheme, Operation};

use KeyScheme::{EciesP256, Ed25519, MlDsa65, P256, P384, Rsa2048, Secp256k1};
use Operation::{Create, Decrypt, Export, Import, Sign};

/// A product, or a part of Canton that uses one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Product {
    /// Canton with its keys in its database.
    CantonJce,
    /// Canton's own connection to AWS KMS.
    CantonAws,
    /// Canton's own connection to Google Cloud KMS.
    CantonGcp,
    /// Canton's interface for drivers of other key stores.
    CantonDriver,
    /// The software custodian of this project.
    Software,
    /// Any PKCS#11 token.
    Pkcs11,
    /// `SoftHSM` 2.
    SoftHsm2,
    /// AWS KMS.
    Aws,
    /// LocalStack's imitation of AWS KMS.
    LocalStack,
    /// moto's imitation of AWS KMS.
    Moto,
    /// Google Cloud KMS.
    Gcp,
    /// Transit of Vault.
    Vault,
    /// Transit of OpenBao.
    OpenBao,
    /// Azure Key Vault. No custodian of this project: it stands here for comparison.
    Azure,
}

impl Product {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CantonJce => "Canton with provider jce",
            Self::CantonAws => "Canton with provider kms, type aws",
            Self::CantonGcp => "Canton with provider kms, type gcp",
            Self::CantonDriver => "Canton with provider kms, type driver",
            Self::Software => "the software custodian",
            Self::Pkcs11 => "a PKCS#11 token",
            Self::SoftHsm2 => "SoftHSM 2",
            Self::Aws => "AWS KMS",
            Self::LocalStack => "LocalStack KMS",
            Self::Moto => "moto KMS",
            Self::Gcp => "Google Cloud KMS",
            Self::Vault => "Vault Transit",
            Self::OpenBao => "OpenBao Transit",
            Self::Azure => "Azure Key Vault",
        }
    }

    /// What a kind of custodian is a connection to.
    pub fn of(kind: CustodianKind) -> Self {
        match kind {
            CustodianKind::Software => Self::Software,
            CustodianKind::Pkcs11 => Self::Pkcs11,
            CustodianKind::Aws => Self::Aws,
            CustodianKind::Gcp => Self::Gcp,
            CustodianKind::Vault => Self::Vault,
        }
    }

    /// How a Canton node uses the keys of a kind of custodian. Tokens and Vault need a driver: a
    /// JVM library, which is not part of this project.
    pub fn in_canton(kind: CustodianKind) -> Self {
        match kind {
            CustodianKind::Software => Self::CantonJce,
            CustodianKind::Aws => Self::CantonAws,
            CustodianKind::Gcp => Self::CantonGcp,
            CustodianKind::Pkcs11 | CustodianKind::Vault => Self::CantonDriver,
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a source says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Says {
    /// It can.
    Yes,
    /// It cannot.
    No,
    /// It depends on the very device or its configuration: ask it.
    Depends,
}

/// Whether a statement was tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// Somebody ran it and looked at the outcome with other means, or read the code that runs.
    Verified,
    /// It was read in a document.
    Unverified,
}

/// Another source that says something else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Contradiction {
    /// What it says.
    pub says: Says,
    /// Which one.
    pub source: &'static str,
}

/// One statement about one product, for each of its schemes and operations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// The product.
    pub product: Product,
    /// For each of these.
    pub schemes: &'static [KeyScheme],
    /// And each of these.
    pub operations: &'static [Operation],
    /// It can or cannot.
    pub says: Says,
    /// What else is to be known. May be empty.
    pub note: &'static str,
    /// Document and section, or file.
    pub source: &'static str,
    /// Whether it was tried.
    pub check: Check,
    /// Who says otherwise.
    pub contradiction: Option<Contradiction>,
}

/// What the table says about a product. Nothing if it is silent.
pub fn row(product: Product, scheme: KeyScheme, operation: Operation) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.product == product
            && row.schemes.contains(&scheme)
            && row.operations.contains(&operation)
    })
}

const fn read(
    product: Product,
    schemes: &'static [KeyScheme],
    operations: &'static [Operation],
    says: Says,
    note: &'static str,
    source: &'static str,
) -> Row {
    let (check, contradiction) = (Check::Unverified, None);
    Row { product, schemes, operations, says, note, source, check, contradiction }
}

const fn tried(
    product: Product,
    schemes: &'static [KeyScheme],
    operations: &'static [Operation],
    says: Says,
    note: &'static str,
    source: &'static str,
) -> Row {
    let check = Check::Verified;
    Row { check, ..read(product, schemes, operations, says, note, source) }
}

const fn against(row: Row, says: Says, source: &'static str) -> Row {
    Row { contradiction: Some(Contradiction { says, source }), ..row }
}

const SCHEMES_DOC: &str = "Canton 3.6 documentation, crypto_schemes.rst";
const EXPORT_DOC: &str = "Canton documentation, external_key_storage_migration_export_keys.rst";
const AWS_CODE: &str = "Canton 3.6, AwsKms.scala, the mappings of key specs and algorithms";
const GCP_CODE: &str = "Canton 3.6, GcpKms.scala, the mapping of key specs";
const DRIVER_CODE: &str = "Canton 3.6, KmsDriver.scala of kms-driver-api v1";
const AWS_MODEL: &str = "the service model of AWS KMS in botocore 1.43.11";
const AWS_DOC: &str = "AWS KMS developer guide, importing key material";
const GCP_DOC: &str = "Google Cloud KMS documentation, key purposes and algorithms; key import";
const VAULT_DOC: &str = "Vault documentation, secrets/transit";
const AZURE_DOC: &str = "Azure Key Vault documentation, about keys";
const LOCALSTACK: &str = "localstack-core 4.7.0, tried with the conformance suite";
const MOTO: &str = "moto 5.2.1, tried by hand";
const SOFTHSM: &str = "SoftHSM 2.6.1, tried with the conformance suite";
const OURS: &str = "this project, the conformance suite";

/// Every statement. A row is a line, so that a change of one is seen as one.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    // Canton with its keys in its database: what the node makes and uses itself.
    read(Product::CantonJce, &[Ed25519, P256, P384, Secp256k1, MlDsa65], &[Create, Sign], Says::Yes, "Ed25519 is the default", SCHEMES_DOC),
    read(Product::CantonJce, &[EciesP256, Rsa2048], &[Create, Decrypt], Says::Yes, "ECIES on P-256 is the default", SCHEMES_DOC),
    read(Product::CantonJce, &[Ed25519, P256, P384, Secp256k1, EciesP256, Rsa2048], &[Export, Import], Says::Yes, "only with features.enable-preview-commands in the node's own configuration", EXPORT_DOC),
    // Canton on AWS.
    tried(Product::CantonAws, &[P256, P384, Secp256k1, MlDsa65], &[Create, Sign], Says::Yes, "P-256 is the default", AWS_CODE),
    tried(Product::CantonAws, &[Rsa2048], &[Create, Decrypt], Says::Yes, "", AWS_CODE),
    against(
        tried(Product::CantonAws, &[Ed25519], &[Create, Sign], Says::No, "the code refuses the key type and the algorithm, and Ed25519 is what a node without KMS has by default", AWS_CODE),
        Says::Yes,
        EXPORT_DOC,
    ),
    tried(Product::CantonAws, &[EciesP256], &[Create, Decrypt], Says::No, "only encryption to such keys of others", SCHEMES_DOC),
    // Canton on GCP.
    against(
        tried(Product::CantonGcp, &[Ed25519], &[Create, Sign], Says::Yes, "the code maps EC_SIGN_ED25519", GCP_CODE),
        Says::No,
        SCHEMES_DOC,
    ),
    tried(Product::CantonGcp, &[P256, P384, Secp256k1, MlDsa65], &[Create, Sign], Says::Yes, "", GCP_CODE),
    tried(Product::CantonGcp, &[Rsa2048], &[Create, Decrypt], Says::Yes, "RSA_DECRYPT_OAEP_2048_SHA256", GCP_CODE),
    tried(Product::CantonGcp, &[EciesP256], &[Create, Decrypt], Says::No, "only encryption to such keys of others", SCHEMES_DOC),
    // Canton with a driver: the interface allows it, the driver must do it.
    tried(Product::CantonDriver, &[Ed25519, P256, P384, Secp256k1], &[Create, Sign], Says::Depends, "on the driver, which lists what it supports", DRIVER_CODE),
    tried(Product::CantonDriver, &[Rsa2048, EciesP256], &[Create, Decrypt], Says::Depends, "on the driver, which lists what it supports", DRIVER_CODE),
    tried(Product::CantonDriver, &[MlDsa65], &[Create, Sign], Says::No, "the interface has no such key", DRIVER_CODE),
    // Ours.
    tried(Product::Software, &[Ed25519, P256, P384, Secp256k1], &[Create, Import, Sign, Export], Says::Yes, "", OURS),
    tried(Product::Software, &[Rsa2048], &[Create, Import, Decrypt, Export], Says::Yes, "", OURS),
    tried(Product::Software, &[MlDsa65], &[Create, Import, Sign, Export], Says::No, "", OURS),
    tried(Product::Software, &[EciesP256], &[Create, Import, Decrypt, Export], Says::No, "", OURS),
    // Tokens.
    read(Product::Pkcs11, &[Ed25519, P256, P384, Secp256k1], &[Create, Import, Sign], Says::Depends, "on the token: ask it for its mechanisms", "PKCS#11 3.0, mechanisms of elliptic curves"),
    read(Product::Pkcs11, &[Rsa2048], &[Create, Import, Decrypt], Says::Depends, "on the token: CKM_RSA_PKCS_OAEP with SHA-256, or CKM_RSA_X_509", "PKCS#11 3.0, mechanisms of RSA"),
    read(Product::Pkcs11, &[MlDsa65, EciesP256], &[Create, Import, Sign, Decrypt], Says::No, "the custodian does not ask tokens for it", OURS),
    read(Product::Pkcs11, &[Ed25519, P256, P384, Secp256k1, Rsa2048], &[Export], Says::No, "keys are made not extractable", OURS),
    tried(Product::SoftHsm2, &[Ed25519, P256, P384, Secp256k1], &[Create, Import, Sign], Says::Yes, "CKM_ECDSA over a digest: CKM_ECDSA_SHA256 is missing", SOFTHSM),
    tried(Product::SoftHsm2, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "OAEP with SHA-256 is missing: CKM_RSA_X_509, and the padding is taken away outside", SOFTHSM),
    // AWS.
    read(Product::Aws, &[P256, P384, Secp256k1], &[Create, Import, Sign], Says::Yes, "messages up to 4096 bytes, or their digest", AWS_MODEL),
    read(Product::Aws, &[Ed25519], &[Create, Sign], Says::Yes, "messages up to 4096 bytes: no digest can be handed over", AWS_MODEL),
    read(Product::Aws, &[Ed25519], &[Import], Says::Depends, "on the region: the guide does not list it everywhere", AWS_DOC),
    read(Product::Aws, &[MlDsa65], &[Create, Sign], Says::Yes, "no custodian here makes such keys", AWS_MODEL),
    read(Product::Aws, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "importing needs RSA_AES_KEY_WRAP_SHA_256", AWS_MODEL),
    read(Product::Aws, &[EciesP256], &[Create, Import, Decrypt], Says::No, "the KMS has no ECIES", AWS_MODEL),
    read(Product::Aws, &[Ed25519, P256, P384, Secp256k1, MlDsa65, Rsa2048], &[Export], Says::No, "no key ever leaves", AWS_DOC),
    tried(Product::LocalStack, &[P256, P384, Secp256k1], &[Create, Import, Sign], Says::Yes, "4097 bytes are accepted, which AWS refuses", LOCALSTACK),
    tried(Product::LocalStack, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "", LOCALSTACK),
    tried(Product::LocalStack, &[Ed25519, MlDsa65], &[Create, Import, Sign], Says::No, "", LOCALSTACK),
    tried(Product::Moto, &[P256, P384, Secp256k1], &[Create, Sign], Says::Yes, "a digest is hashed once more; keys that are disabled or pending deletion still sign", MOTO),
    tried(Product::Moto, &[Rsa2048], &[Create, Decrypt], Says::No, "ciphertexts made outside with the public key are not decrypted", MOTO),
    tried(Product::Moto, &[P256, P384, Secp256k1, Rsa2048], &[Import], Says::No, "the request fails inside", MOTO),
    tried(Product::Moto, &[Ed25519, MlDsa65], &[Create, Import, Sign], Says::No, "", MOTO),
    // GCP.
    read(Product::Gcp, &[Ed25519, P256, P384], &[Create, Sign], Says::Yes, "", GCP_DOC),
    read(Product::Gcp, &[Secp256k1], &[Create, Sign], Says::Yes, "with protection level HSM only", GCP_DOC),
    read(Product::Gcp, &[Ed25519, P256, P384, Secp256k1, Rsa2048], &[Import], Says::Depends, "through its import jobs, by its own tools: the custodian here does not import into it", GCP_DOC),
    read(Product::Gcp, &[MlDsa65], &[Create, Sign], Says::Yes, "no custodian here makes such keys", GCP_DOC),
    read(Product::Gcp, &[Rsa2048], &[Create, Decrypt], Says::Yes, "", GCP_DOC),
    read(Product::Gcp, &[EciesP256], &[Create, Import, Decrypt], Says::No, "the KMS has no ECIES", GCP_DOC),
    read(Product::Gcp, &[Ed25519, P256, P384, Secp256k1, MlDsa65, Rsa2048], &[Export], Says::No, "no key ever leaves", GCP_DOC),
    // Vault and OpenBao.
    read(Product::Vault, &[Ed25519, P256, P384], &[Create, Import, Sign], Says::Yes, "", VAULT_DOC),
    read(Product::Vault, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "", VAULT_DOC),
    read(Product::Vault, &[Secp256k1, MlDsa65], &[Create, Import, Sign], Says::No, "the engine has no such key type", VAULT_DOC),
    read(Product::Vault, &[EciesP256], &[Create, Import, Decrypt], Says::No, "the engine has no ECIES", VAULT_DOC),
    read(Product::Vault, &[Ed25519, P256, P384, Rsa2048], &[Export], Says::No, "keys are made not exportable", VAULT_DOC),
    read(Product::OpenBao, &[Ed25519, P256, P384], &[Create, Import, Sign], Says::Yes, "", VAULT_DOC),
    read(Product::OpenBao, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "", VAULT_DOC),
    // Azure, for comparison.
    read(Product::Azure, &[P256, P384, Secp256k1], &[Create, Import, Sign], Says::Yes, "digests only; r and s one after the other", AZURE_DOC),
    read(Product::Azure, &[Rsa2048], &[Create, Import, Decrypt], Says::Yes, "", AZURE_DOC),
    read(Product::Azure, &[Ed25519, MlDsa65], &[Create, Import, Sign], Says::No, "", AZURE_DOC),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_speak_about_the_same() {
        for (index, one) in ROWS.iter().enumerate() {
            for other in &ROWS[index + 1..] {
                let overlaps = one.product == other.product
                    && one.schemes.iter().any(|scheme| other.schemes.contains(scheme))
                    && one.operations.iter().any(|op| other.operations.contains(op));
                assert!(!overlaps, "{one:?}\n{other:?}");
            }
        }
    }

    #[test]
    fn every_statement_has_a_source_and_contradictions_say_otherwise() {
        for row in ROWS {
            assert!(!row.source.is_empty(), "{row:?}");
            assert!(row.contradiction.is_none_or(|other| other.says != row.says), "{row:?}");
        }
    }

    #[test]
    fn every_kind_of_custodian_is_covered_for_every_scheme_in_the_suite() {
        for kind in CustodianKind::ALL.iter().copied() {
            for scheme in KeyScheme::ALL.iter().copied() {
                for operation in [Create, scheme.operation()] {
                    for product in [Product::of(kind), Product::in_canton(kind)] {
                        let found = row(product, scheme, operation);
                        assert!(found.is_some(), "{product}, {scheme}, {operation}");
                    }
                }
            }
        }
    }
}
