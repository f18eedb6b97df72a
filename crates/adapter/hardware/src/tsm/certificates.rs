//! The table of certificates that hosts of SEV-SNP guests supply (AMD 56421, GHCB, "SNP Extended
//! Guest Request").
//!
//! Entries of identifier (16 bytes), offset and length (4 each, little-endian), up to one of
//! zeros; then the certificates. Hosts write it, so everything about it may be wrong; what it
//! says is verified by whoever gets the evidence. What it says about the root is not even read.

use heirloom_model::appraisal::VekKind;
use heirloom_model::evidence::Certificate;

use crate::limit::CERTIFICATES_MAX;

/// Why a table cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum TableError {
    #[error("the table of certificates does not end")]
    NoEnd,
    #[error("the table has more than {CERTIFICATES_MAX} certificates")]
    TooMany,
    #[error("certificate {index} of the table lies outside of it")]
    Outside { index: usize },
    #[error("the table has {what} twice")]
    Twice { what: &'static str },
    #[error("the table's PEM cannot be read")]
    Pem,
}

/// What of a table matters.
#[derive(Debug, Default)]
pub(super) struct CertificateTable {
    vcek: Option<Certificate>,
    vlek: Option<Certificate>,
    issuer: Option<Certificate>,
}

const ENTRY_BYTES: usize = 24;

// Identifiers, in the order of their digits.
const VCEK: u128 = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd;
const VLEK: u128 = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1;
const ASK: u128 = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782;

impl CertificateTable {
    /// Reads a table. An empty one is a host that supplies nothing.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let mut table = Self::default();
        if bytes.is_empty() {
            return Ok(table);
        }
        for (index, entry) in bytes.chunks(ENTRY_BYTES).enumerate() {
            let (id, rest) = entry.split_first_chunk().ok_or(TableError::NoEnd)?;
            let (offset, rest) = rest.split_first_chunk().ok_or(TableError::NoEnd)?;
            let length = rest.first_chunk().ok_or(TableError::NoEnd)?;
            let id = u128::from_be_bytes(*id);
            if id == 0 {
                return Ok(table);
            }
            if index >= CERTIFICATES_MAX {
                return Err(TableError::TooMany);
            }
            let (offset, length) = (number(*offset), number(*length));
            let range = offset..offset.saturating_add(length);
            let content = bytes.get(range).ok_or(TableError::Outside { index })?;
            table.put(id, content)?;
        }
        Err(TableError::NoEnd)
    }

    /// The certificate of the key of this kind.
    pub(super) fn key(&self, kind: VekKind) -> Option<&Certificate> {
        match kind {
            VekKind::Vcek => self.vcek.as_ref(),
            VekKind::Vlek => self.vlek.as_ref(),
        }
    }

    /// The certificate of its issuer.
    pub(super) fn issuer(&self) -> Option<&Certificate> {
        self.issuer.as_ref()
    }

    fn put(&mut self, id: u128, content: &[u8]) -> Result<(), TableError> {
        let (place, what) = match id {
            VCEK => (&mut self.vcek, "a VCEK"),
            VLEK => (&mut self.vlek, "a VLEK"),
            ASK => (&mut self.issuer, "an issuer"),
            // The root, a list of revoked keys, what other hosts have invented.
            _ => return Ok(()),
        };
        if place.is_some() {
            return Err(TableError::Twice { what });
        }
        *place = Some(certificate(content)?);
        Ok(())
    }
}

/// Hosts are told to supply DER, and supply what their owner put in.
fn certificate(content: &[u8]) -> Result<Certificate, TableError> {
    if !content.starts_with(b"-----BEGIN ") {
        return Ok(Certificate(content.to_vec()));
    }
    let block = pem::parse(content).map_err(|_| TableError::Pem)?;
    Ok(Certificate(block.into_contents()))
}

fn number(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u128, offset: u32, length: u32) -> Vec<u8> {
        [&id.to_be_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    /// VCEK and issuer of four bytes each.
    fn table() -> Vec<u8> {
        [entry(VCEK, 72, 4), entry(ASK, 76, 4), entry(0, 0, 0), b"vcekaskk".to_vec()].concat()
    }

    #[test]
    fn keys_are_found_by_their_kind() {
        let found = CertificateTable::parse(&table()).unwrap();
        assert_eq!(found.key(VekKind::Vcek), Some(&Certificate(b"vcek".to_vec())));
        assert_eq!(found.key(VekKind::Vlek), None);
        assert_eq!(found.issuer(), Some(&Certificate(b"askk".to_vec())));
    }

    #[test]
    fn identifiers_have_the_bytes_that_hosts_write() {
        let id = [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64];
        assert_eq!(table()[..8], id);
    }

    #[test]
    fn a_host_that_supplies_nothing_has_an_empty_table() {
        for empty in [Vec::new(), vec![0; 4096]] {
            assert!(CertificateTable::parse(&empty).unwrap().vcek.is_none());
        }
    }

    #[test]
    fn tables_that_hosts_got_wrong_are_refused() {
        let many = [entry(1, 0, 0).repeat(CERTIFICATES_MAX + 1), entry(0, 0, 0)].concat();
        let twice = [entry(VCEK, 0, 1).repeat(2), entry(0, 0, 0)].concat();
        let cases = [
            (entry(VCEK, 0, 1), TableError::NoEnd),
            (entry(VCEK, 0, 1)[..20].to_vec(), TableError::NoEnd),
            (vec![0; 15], TableError::NoEnd),
            (many, TableError::TooMany),
            ([entry(VCEK, 45, 4), entry(0, 0, 0)].concat(), TableError::Outside { index: 0 }),
            (entry(VCEK, u32::MAX, u32::MAX), TableError::Outside { index: 0 }),
            (twice, TableError::Twice { what: "a VCEK" }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(CertificateTable::parse(&bytes).err(), Some(expected));
        }
    }

    #[test]
    fn pem_becomes_der_and_broken_pem_nothing() {
        let text = pem::encode(&pem::Pem::new("CERTIFICATE", b"der".to_vec()));
        assert_eq!(certificate(text.as_bytes()), Ok(Certificate(b"der".to_vec())));
        assert_eq!(certificate(b"-----BEGIN nothing"), Err(TableError::Pem));
    }
}
