//! Devices that are spoken to by ioctl, as files: `nsm` and `sev-guest`.
//!
//! The kernel passes on the structure that an ioctl names, and whoever answers follows the
//! addresses in it into the memory of the process that asked, as a driver does.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use heirloom_model::digest::sha256;

use super::fuse::{Files, Node};
use super::nitro::NitroModule;

/// `NSM_IOCTL` of `linux/nsm.h`.
const NSM_REQUEST: u32 = 0xc020_0a00;
/// `SNP_GET_DERIVED_KEY` of `linux/sev-guest.h`.
const DERIVED_KEY_REQUEST: u32 = 0xc020_5301;
/// The longest question that is read out of another process.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// The devices of one machine.
#[derive(Default)]
pub struct Devices {
    /// Behind `nsm`, if it is there.
    pub nitro: Option<NitroModule>,
    /// Behind `sev-guest`, if it is there.
    pub firmware: Option<SnpFirmware>,
}

/// Firmware that is made up: a chip, and the fields of the guest that the host cannot choose.
#[derive(Clone, Debug)]
pub struct SnpFirmware {
    /// The chip.
    pub chip: [u8; 32],
    measurement: [u8; 48],
    policy: [u8; 8],
}

impl SnpFirmware {
    /// Below the guest that this report is about.
    pub fn of(report: &[u8]) -> Self {
        Self { chip: [1; 32], measurement: field(report, 0x90), policy: field(report, 8) }
    }

    /// Status, 28 bytes of nothing, and the key.
    fn derived_key(&self, request: &[u8]) -> Vec<u8> {
        let key = sha256(&[&self.chip, &self.measurement, &self.policy, request]);
        [[0; 32], key].concat()
    }
}

impl Files for Devices {
    fn node(&mut self, path: &str) -> Result<Node, i32> {
        match path {
            "nsm" if self.nitro.is_some() => Ok(Node::File),
            "sev-guest" if self.firmware.is_some() => Ok(Node::File),
            _ => Err(libc::ENOENT),
        }
    }

    fn read(&mut self, _path: &str) -> Result<Vec<u8>, i32> {
        Err(libc::EIO)
    }

    fn write(&mut self, _path: &str, _data: &[u8]) -> Result<usize, i32> {
        Err(libc::EIO)
    }

    fn control(
        &mut self,
        path: &str,
        process: u32,
        request: u32,
        argument: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let word = |at: usize| u64::from_le_bytes(field(argument, at));
        match (path, request, &self.nitro, &self.firmware) {
            ("nsm", NSM_REQUEST, Some(module), _) => {
                let question = peek(process, word(0), word(8))?;
                let answer = module.answer(&question);
                let length = answer.len() as u64;
                if length > word(24) {
                    return Err(libc::EMSGSIZE);
                }
                poke(process, word(16), &answer)?;
                let mut filled = argument.to_vec();
                filled.splice(24..32, length.to_le_bytes());
                Ok(filled)
            }
            ("sev-guest", DERIVED_KEY_REQUEST, _, Some(firmware)) => {
                let question = peek(process, word(8), 32)?;
                poke(process, word(16), &firmware.derived_key(&question))?;
                Ok(argument.to_vec())
            }
            _ => Err(libc::ENOTTY),
        }
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes.get(at..at + N).and_then(|field| field.try_into().ok());
    field.expect("the structure is longer")
}

fn memory(process: u32) -> Result<File, i32> {
    let opened = OpenOptions::new().read(true).write(true).open(format!("/proc/{process}/mem"));
    opened.map_err(|_| libc::EFAULT)
}

fn peek(process: u32, address: u64, length: u64) -> Result<Vec<u8>, i32> {
    let length = usize::try_from(length).map_err(|_| libc::EFAULT)?;
    let mut bytes = vec![0; length.min(QUESTION_BYTES_MAX)];
    memory(process)?.read_exact_at(&mut bytes, address).map_err(|_| libc::EFAULT)?;
    Ok(bytes)
}

fn poke(process: u32, address: u64, bytes: &[u8]) -> Result<(), i32> {
    memory(process)?.write_all_at(bytes, address).map_err(|_| libc::EFAULT)
}
