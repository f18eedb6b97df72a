//! New generations, and statements about what is held.

use heirloom_model::counter::Generation;
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::domain::{GenerationReceipt, PossessionProof, Registration};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::{ReplicatedGeneration, ServingState};
use heirloom_model::sealed::SealedPurpose;
use heirloom_model::secret::Secret;
use heirloom_model::statement::Statement;
use heirloom_model::wire;
use heirloom_registry::domain::OpenOrder;
use zeroize::Zeroizing;

use super::error::KeeperError;
use super::load::{Loaded, load, proposal_bytes};
use super::status::volatile;
use super::{Change, Keeper, Proposal};
use crate::file::FileName;
use crate::handshake::Peer;
use crate::intent::{FileWrite, Intent, StoredFile};
use crate::keyring::{BadGenerations, Coverage, checksum_before_first, extend};
use crate::port::Platform;
use crate::sealing::{Subject, seal};

impl Keeper {
    /// Makes a registration: an attested statement that this instance runs here.
    pub fn register(&self, platform: &dyn Platform) -> Result<Vec<u8>, KeeperError> {
        let state = self.state();
        if matches!(state, ServingState::Starting | ServingState::RolledBack) {
            return Err(KeeperError::State { state });
        }
        self.attested(
            platform,
            &Registration {
                network: self.config.network,
                domain: self.config.domain,
                node: self.config.node.clone(),
                as_of: self.position(),
                policy: self.policy_serial(),
                volatile: volatile(self.sealing),
            },
        )
    }

    /// Opens every file once, without changing anything, and compares with what is in memory.
    pub fn probe(&self, platform: &dyn Platform, files: &[StoredFile]) -> Result<(), KeeperError> {
        self.expect_writable()?;
        let loaded = self.reload(platform, files)?;
        let Some(committed) = self.committed() else { return Ok(()) };
        if self.coverage != Some(Coverage::Complete) {
            return Ok(());
        }
        let Loaded { mut keyring, .. } = loaded;
        let found = keyring.coverage(committed.generation, committed.checksum);
        match found.map_err(|_| KeeperError::Unreadable(self.broken_chain()))? {
            Coverage::Complete => Ok(()),
            Coverage::Missing(gap) => Err(KeeperError::NotOnDisk { generation: gap.newest }),
        }
    }

    /// Answers a challenge that is in the log: reads everything from durable files once more,
    /// opens it, computes the chain, and signs what came out.
    pub fn prove(
        &self,
        platform: &dyn Platform,
        challenge: Nonce,
        files: &[StoredFile],
    ) -> Result<Vec<u8>, KeeperError> {
        let asked = self.domain_state().and_then(|domain| domain.challenge(&challenge));
        let asked = asked.ok_or(KeeperError::NotInLog)?.challenge();
        if asked.domain != self.config.domain || !asked.targets.contains(&self.config.node) {
            return Err(KeeperError::NotInLog);
        }
        self.expect_asked(asked.code)?;
        self.expect_holder_state()?;
        self.probe(platform, files)?;
        let committed = self.committed().ok_or(KeeperError::NotInLog)?;
        self.attested(
            platform,
            &PossessionProof {
                network: self.config.network,
                domain: self.config.domain,
                node: self.config.node.clone(),
                challenge,
                generation: committed.generation,
                checksum: committed.checksum,
                origin: self.origin,
                as_of: self.position(),
                policy: self.policy_serial(),
                measurement: self.identity.measurement,
            },
        )
    }

    /// Carries out a generation order that names this node, or repeats the receipt of what was
    /// carried out. The intent's answer is the receipt.
    pub fn create_generation(
        &self,
        platform: &dyn Platform,
        order: Nonce,
    ) -> Result<Intent<Vec<u8>>, KeeperError> {
        let open = self.open_order(order)?;
        let generation = open.order().generation;
        if open.order().node != self.config.node {
            return Err(KeeperError::NotInLog);
        }
        if let Some(intent) = self.repeat_receipt(platform, order)? {
            return Ok(intent);
        }
        if open.proposed().is_some() {
            return Err(KeeperError::ProposalLost { generation });
        }
        let previous = self.checksum_before();
        let mut secret = Zeroizing::new([0; 32]);
        platform.random(secret.as_mut_slice())?;
        let proposal = Proposal { generation, secret: Secret::new(*secret), previous };
        self.keep_proposal(platform, order, proposal)
    }

    /// Takes the proposed generation that a holder sent. The intent's answer is the receipt.
    pub fn accept_proposed(
        &self,
        platform: &dyn Platform,
        from: &Peer,
        order: Nonce,
        sent: &ReplicatedGeneration,
    ) -> Result<Intent<Vec<u8>>, KeeperError> {
        let open = self.open_order(order)?;
        let (expected, found) = (open.order().generation, sent.generation);
        let proposed = *open.proposed().ok_or(KeeperError::NotInLog)?;
        self.expect_giver(from)?;
        if found != expected {
            return Err(BadGenerations::Order { expected, found }.into());
        }
        let previous = self.checksum_before();
        let made = sent.secret.expose(|secret| extend(&previous, secret));
        if sent.previous != previous || made != proposed {
            return Err(BadGenerations::Checksum { generation: found }.into());
        }
        if let Some(intent) = self.repeat_receipt(platform, order)? {
            return Ok(intent);
        }
        let secret = sent.secret.expose(|secret| Secret::new(*secret));
        self.keep_proposal(platform, order, Proposal { generation: found, secret, previous })
    }

    /// The receipt of a proposal that is held already, if it is.
    pub fn repeat_receipt(
        &self,
        platform: &dyn Platform,
        order: Nonce,
    ) -> Result<Option<Intent<Vec<u8>>>, KeeperError> {
        self.open_order(order)?;
        let Some(proposal) = self.proposals.get(&order) else { return Ok(None) };
        let checksum = proposal.secret.expose(|secret| extend(&proposal.previous, secret));
        let receipt = self.receipt(platform, order, proposal.generation, checksum)?;
        Ok(Some(Intent::new(receipt)))
    }

    /// Seals a proposal. Its receipt stays locked until the file is durable.
    fn keep_proposal(
        &self,
        platform: &dyn Platform,
        order: Nonce,
        proposal: Proposal,
    ) -> Result<Intent<Vec<u8>>, KeeperError> {
        let generation = proposal.generation;
        let subject = Subject {
            purpose: SealedPurpose::ProposedGeneration,
            domain: self.config.domain,
            node: self.config.node.clone(),
            first: generation,
            last: generation,
            sequence: self.sequence.saturating_add(1),
        };
        let content = proposal_bytes(&order, &proposal);
        let bytes = seal(platform, &self.identity, &subject, &content)?;
        let name = FileName::proposed(generation, &order).to_string();
        let checksum = proposal.secret.expose(|secret| extend(&proposal.previous, secret));
        let receipt = self.receipt(platform, order, generation, checksum)?;
        let change = Change { proposal: Some((order, proposal)), ..Change::default() };
        Ok(Intent::with(vec![FileWrite { name, bytes }], Vec::new(), change, receipt))
    }

    fn receipt(
        &self,
        platform: &dyn Platform,
        order: Nonce,
        generation: Generation,
        checksum: Checksum,
    ) -> Result<Vec<u8>, KeeperError> {
        let (network, domain) = (self.config.network, self.config.domain);
        let node = self.config.node.clone();
        let receipt = GenerationReceipt { network, domain, node, order, generation, checksum };
        self.attested(platform, &receipt)
    }

    /// The open order with this nonce, if this keeper may take part in it now: it holds all
    /// generations before, and it may write.
    fn open_order(&self, order: Nonce) -> Result<&OpenOrder, KeeperError> {
        self.expect_role(HolderRole::Keeper)?;
        self.expect_writable()?;
        let open = self.domain_state().and_then(|domain| domain.order());
        let open = open.filter(|open| open.order().nonce == order).ok_or(KeeperError::NotInLog)?;
        if !open.is_open(self.network.epoch()) {
            return Err(KeeperError::NotInLog);
        }
        let state = self.state();
        let is_first = self.committed().is_none();
        match state {
            ServingState::Ready | ServingState::Draining => Ok(open),
            ServingState::Empty if is_first => Ok(open),
            ServingState::Empty
            | ServingState::Starting
            | ServingState::Replicating
            | ServingState::Unreadable
            | ServingState::RolledBack
            | ServingState::Withdrawn
            | ServingState::Standby
            | ServingState::Suspended
            | ServingState::Superseded
            | ServingState::Unattended
            | ServingState::Carrying
            | ServingState::Uncounted => Err(KeeperError::State { state }),
        }
    }

    /// Expects that a challenge is for this code. Without any, it is for the node's keeper.
    fn expect_asked(&self, code: Option<Measurement>) -> Result<(), KeeperError> {
        let own = self.identity.measurement;
        match code {
            Some(asked) if asked != own => Err(KeeperError::OtherCode { asked, own }),
            Some(_) => Ok(()),
            None => self.expect_role(HolderRole::Keeper),
        }
    }

    /// The checksum that a new generation follows.
    fn checksum_before(&self) -> Checksum {
        let first = || checksum_before_first(&self.config.domain);
        self.committed().map_or_else(first, |committed| committed.checksum)
    }

    /// Refuses unless this keeper holds everything that is committed.
    pub(super) fn expect_holder_state(&self) -> Result<(), KeeperError> {
        self.expect_writable()?;
        let state = self.state();
        if state.holds() { Ok(()) } else { Err(KeeperError::State { state }) }
    }

    pub(super) fn reload(
        &self,
        platform: &dyn Platform,
        files: &[StoredFile],
    ) -> Result<Loaded, KeeperError> {
        let loaded = load(platform, &self.identity, self.home(), files)?;
        match loaded.unreadable {
            Some(unreadable) => Err(KeeperError::Unreadable(unreadable)),
            None => Ok(loaded),
        }
    }

    /// A statement signed by the instance key, with evidence for exactly this statement.
    pub(super) fn attested<T: Statement>(
        &self,
        platform: &dyn Platform,
        statement: &T,
    ) -> Result<Vec<u8>, KeeperError> {
        if self.identity.debug {
            return Err(KeeperError::Debug);
        }
        let mut envelope = Envelope::signed(statement, [self.instance.as_ref()]);
        let expected = envelope.report_data(&self.instance.public_key());
        envelope.evidence = Some(platform.evidence(&expected)?);
        Ok(wire::encode(&envelope))
    }
}
