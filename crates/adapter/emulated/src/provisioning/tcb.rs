//! TCB info and QE identity: which machines and quoting enclaves are up to date, as signed JSON.

use std::time::Duration;

use heirloom_model::counter::Time;
use heirloom_model::sealed::CpuSvn;
use rcgen::date_time_ymd;
use serde_json::{Value, json};

use super::{Announcements, FMSPC, PCE_SVN};
use crate::quote::{QE_ATTRIBUTES, QE_ISV_SVN, QE_PRODUCT_ID, qe_signer};

/// When collateral is good.
pub(super) struct Window {
    pub(super) issued: Time,
    pub(super) next: Time,
}

/// The lowest level: every machine meets it, and all below the required one are out of date.
const LOWEST: CpuSvn = CpuSvn::new([0; 16]);

pub(super) fn tcb_info(window: &Window, known: &Announcements) -> String {
    let level = |cpu_svn: &CpuSvn, since: Time, status: &str| {
        let components: Vec<Value> =
            cpu_svn.as_bytes().iter().map(|svn| json!({ "svn": svn })).collect();
        json!({
            "tcb": { "sgxtcbcomponents": components, "pcesvn": PCE_SVN },
            "tcbDate": rfc3339(since),
            "tcbStatus": status,
        })
    };
    json!({
        "id": "SGX",
        "version": 3,
        "issueDate": rfc3339(window.issued),
        "nextUpdate": rfc3339(window.next),
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": known.number,
        "tcbLevels": [
            level(&known.required, known.required_since, "UpToDate"),
            level(&LOWEST, known.founded, "OutOfDate"),
        ],
    })
    .to_string()
}

pub(super) fn qe_identity(window: &Window, known: &Announcements) -> String {
    let flags = [QE_ATTRIBUTES.flags.to_le_bytes(), QE_ATTRIBUTES.xfrm.to_le_bytes()].concat();
    json!({
        "id": "QE",
        "version": 2,
        "issueDate": rfc3339(window.issued),
        "nextUpdate": rfc3339(window.next),
        "tcbEvaluationDataNumber": known.number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": hex::encode_upper(flags),
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(qe_signer().as_bytes()),
        "isvprodid": QE_PRODUCT_ID,
        "tcbLevels": [{
            "tcb": { "isvsvn": QE_ISV_SVN },
            "tcbDate": rfc3339(known.founded),
            "tcbStatus": "UpToDate",
        }],
    })
    .to_string()
}

fn rfc3339(time: Time) -> String {
    let date = date_time_ymd(1970, 1, 1) + Duration::from_secs(time.0);
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (date.hour(), date.minute(), date.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_standard_says() {
        assert_eq!(rfc3339(Time(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Time(1_709_210_096)), "2024-02-29T12:34:56Z");
    }
}
