//! `heirloom custody prove`: asks every holder of a domain for a proof, outside of any plan.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use heirloom_model::digest::Nonce;
use heirloom_model::domain::Challenge;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};

use crate::command::custody;
use crate::diagnostic::Diagnostic;
use crate::key;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report};

/// Who asks, and for how long to wait.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node whose agent asks
    #[arg(long, value_name = "NODE")]
    verifier: NodeId,
    /// Key file of that agent
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// For how long to wait for answers
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    log: LogArgs,
}

/// After so much silence the deadline is looked at.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks, waits, and shows.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    let domain = ledger.domain(args.domain)?;
    let mut targets: Vec<NodeId> =
        ledger.state.nodes_of(domain).map(|node| node.node.clone()).collect();
    targets.sort();
    let mut nonce = [0; 32];
    key::random(&mut nonce);
    let challenge = Challenge {
        network: ledger.state.network(),
        domain,
        nonce: Nonce::new(nonce),
        verifier: args.verifier.clone(),
        targets,
        step: None,
        code: None,
    };
    let at = ledger.append(&Envelope::signed(&challenge, [&key]))?;
    let wanted = challenge.targets.len();
    let answered = await_answers(&mut ledger, &challenge, Duration::from_secs(args.wait))?;
    if answered < wanted {
        output::note(&format!("{answered} of {wanted} nodes answered log entry {at} in time"));
    }
    custody::report(&ledger.state, Some(domain), at)
}

/// Follows the log until everybody answered, or the time is over. Returns how many did.
fn await_answers(
    ledger: &mut Ledger,
    challenge: &Challenge,
    wait: Duration,
) -> Result<usize, Diagnostic> {
    let begun = Instant::now();
    loop {
        let domain = ledger.state.domain(&challenge.domain);
        let asked = domain.and_then(|domain| domain.challenge(&challenge.nonce));
        let answered = asked.map_or(0, |asked| asked.proofs().len());
        let left = wait.saturating_sub(begun.elapsed());
        if answered >= challenge.targets.len() || left.is_zero() {
            return Ok(answered);
        }
        ledger.wait(left.min(PAUSE))?;
        ledger.follow(|_, _| ())?;
    }
}
