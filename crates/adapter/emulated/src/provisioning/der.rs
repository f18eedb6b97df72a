//! The SGX extension of PCK certificates, in DER.

use rcgen::CustomExtension;

use super::{FMSPC, PCE_SVN, PckRequest};

/// Intel's SGX extension (1.2.840.113741.1.13.1) for an emulated machine.
pub(super) fn sgx_extension(request: &PckRequest) -> CustomExtension {
    let components = request.cpu_svn.as_bytes();
    let mut tcb: Vec<Vec<u8>> = (1_u8..)
        .zip(components)
        .map(|(number, svn)| sequence(&[sgx_oid(&[2, number]), integer(u16::from(*svn))]))
        .collect();
    tcb.push(sequence(&[sgx_oid(&[2, 17]), integer(PCE_SVN)]));
    tcb.push(sequence(&[sgx_oid(&[2, 18]), element(OCTET_STRING, components)]));
    let content = sequence(&[
        sequence(&[sgx_oid(&[1]), element(OCTET_STRING, &request.ppid)]),
        sequence(&[sgx_oid(&[2]), sequence(&tcb)]),
        sequence(&[sgx_oid(&[3]), element(OCTET_STRING, &[0, 0])]),
        sequence(&[sgx_oid(&[4]), element(OCTET_STRING, &FMSPC)]),
        sequence(&[sgx_oid(&[5]), element(ENUMERATED, &[0])]),
    ]);
    CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], content)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;
/// 1.2.840.113741.1.13.1, encoded.
const SGX_OID: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

/// An identifier below Intel's SGX extension. All its arcs are below 128.
fn sgx_oid(arcs: &[u8]) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, &[&SGX_OID[..], arcs].concat())
}

fn integer(value: u16) -> Vec<u8> {
    let [high, low] = value.to_be_bytes();
    match (high, low) {
        (0, low) if low < 0x80 => element(INTEGER, &[low]),
        (high, low) if high < 0x80 => element(INTEGER, &[high, low]),
        (high, low) => element(INTEGER, &[0, high, low]),
    }
}

fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("the extension has some hundred bytes");
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head[..], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_lengths_are_minimal() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(127), [2, 1, 127]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(integer(0x8000), [2, 3, 0, 0x80, 0]);
        assert_eq!(element(4, &[0; 127]).len(), 129);
        assert_eq!(element(4, &[0; 128]).len(), 131);
        assert_eq!(element(4, &[0; 256]).len(), 260);
    }
}
