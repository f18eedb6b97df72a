//! The loop: every name, every kind, every committed generation and the newest, again and again.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use heirloom_client::client::Client;
use heirloom_model::causes::with_causes;
use heirloom_model::counter::Generation;
use heirloom_model::identifier::{KeyId, ParseNameError};
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod, KeyRequest};

use crate::arguments::Arguments;
use crate::report::{Progress, Report};

/// Generations that one round asks for, the newest ones. More would make a round so long that a
/// key is not asked for during an upgrade.
const GENERATIONS_MAX: u64 = 1_024;
/// How often the report is written.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Why the application ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadError {
    /// The report cannot be written.
    #[error("the report cannot be written")]
    Report(#[source] io::Error),
    /// The name of a key cannot be made.
    #[error(transparent)]
    Name(#[from] ParseNameError),
}

/// Asks until the end that the arguments name.
pub(crate) fn run(
    arguments: &Arguments,
    mut client: Client,
    mut report: Report,
) -> Result<Report, WorkloadError> {
    let mut written = Instant::now();
    let mut patience = Duration::from_millis(arguments.start_deadline_ms);
    while !arguments.end.is_reached(report.requests(), report.elapsed()) {
        for batch in round(arguments, &client)?.chunks(usize::from(arguments.batch)) {
            ask(&mut client, batch, patience, &mut report);
            patience = Duration::from_millis(arguments.deadline_ms);
            if written.elapsed() >= REPORT_INTERVAL {
                report
                    .write(&arguments.report, Progress::Running)
                    .map_err(WorkloadError::Report)?;
                written = Instant::now();
            }
            if arguments.end.is_reached(report.requests(), report.elapsed()) {
                break;
            }
            thread::sleep(Duration::from_millis(arguments.pause_ms));
        }
    }
    report.write(&arguments.report, Progress::Finished).map_err(WorkloadError::Report)?;
    Ok(report)
}

/// Every request of one round.
fn round(arguments: &Arguments, client: &Client) -> Result<Vec<KeyRequest>, ParseNameError> {
    let mut periods = vec![KeyPeriod::Newest];
    if let Some(Generation(newest)) = client.newest_generation() {
        let oldest = newest.saturating_sub(GENERATIONS_MAX - 1);
        periods.extend((oldest..=newest).map(|number| KeyPeriod::Generation(Generation(number))));
    }
    let mut requests = Vec::new();
    for number in 0..arguments.keys.max(1) {
        let key: KeyId = format!("key-{number}").parse()?;
        for period in &periods {
            requests.extend(
                KeyKind::ALL
                    .map(|kind| client.request(key.clone(), kind, *period, KeyPart::Private)),
            );
        }
    }
    Ok(requests)
}

fn ask(client: &mut Client, batch: &[KeyRequest], patience: Duration, report: &mut Report) {
    let begun = Instant::now();
    let answers = client.get_many(batch, begun + patience);
    report.call(batch.len(), begun.elapsed());
    match answers {
        Ok(answers) => {
            for (request, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(key) => report.key(request, &key),
                    Err(refused) => report.failed(1, with_causes(&refused)),
                }
            }
        }
        Err(error) => report.failed(batch.len(), with_causes(&error)),
    }
}
