//! Commands of applications: contracts are created, and archived.
//!
//! There is no engine for expressions: who signs a contract is whoever acts, and everybody else
//! whom its argument names sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use heirloom_canton::authenticate::recompute_as;
use heirloom_canton::blob::{CreatedAt, FatContract, SerializationVersion};
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::hash::{Purpose, canton_hash};
use heirloom_canton::name::Party;
use heirloom_canton::unicum::Salt;
use heirloom_canton_node::wire::ledger::command::Command as Kind;
use heirloom_canton_node::wire::ledger::{Commands, CreateCommand, ExerciseCommand};
use heirloom_model::causes::with_causes;
use heirloom_participant::custodian::key::KeyUsage;
use prost::Message;

use crate::clock::now_micros;
use crate::limit::{ACT_AS_MAX, COMMANDS_MAX, LABEL_CHARACTERS_MAX};
use crate::node::Node;
use crate::node::confirm::parties_in;
use crate::node::contracts::command_key;
use crate::node::error::NodeError;
use crate::node::link::Link;
use crate::record::{CommandRecord, ContractState};
use crate::store::Table;
use crate::synchronizer::admission::submission_hash;
use crate::synchronizer::wire::{
    Archive, Happening, Node as Happens, Proposal, SignedSubmission, Submission,
};
use crate::values::argument;
use crate::version::contract_id_version_max;

/// The choice that every template has.
const ARCHIVE: &str = "Archive";

impl Node {
    /// Carries out commands, once, and says what became of them.
    pub async fn submit(
        self: &Arc<Self>,
        commands: Commands,
    ) -> Result<(CommandRecord, String), NodeError> {
        let link = self.link_for(&commands.synchronizer_id)?;
        let (node, on) = (Arc::clone(self), Arc::clone(&link));
        let prepared = tokio::task::spawn_blocking(move || node.prepare(&commands, &on)).await;
        let (signed, key) = prepared.map_err(|error| NodeError::Refused(error.to_string()))??;
        link.submit(Proposal::Transaction(signed)).await?;
        let record: Option<CommandRecord> = self.store().read()?.one(Table::Commands, &key)?;
        let lost = || NodeError::Unknown("the transaction was accepted and is not here".to_owned());
        Ok((record.ok_or_else(lost)?, link.synchronizer().to_string()))
    }

    fn prepare(
        &self,
        commands: &Commands,
        link: &Link,
    ) -> Result<(SignedSubmission, Vec<u8>), NodeError> {
        check_sizes(commands)?;
        let known = self.synchronizer_named(link.synchronizer())?.parameters;
        let protocol_version = known.map_or(0, |found| found.protocol_version);
        let mut acting = BTreeSet::new();
        for party in &commands.act_as {
            let party: Party =
                party.parse().map_err(|error| NodeError::Invalid(with_causes(&error)))?;
            acting.insert(party);
        }
        let mut submission = Submission {
            synchronizer_id: link.synchronizer().to_string(),
            participant: self.required_id()?.to_string(),
            act_as: acting.iter().map(ToString::to_string).collect(),
            command_id: commands.command_id.clone(),
            user_id: commands.user_id.clone(),
            workflow_id: commands.workflow_id.clone(),
            nodes: Vec::new(),
        };
        let key = command_key(&submission);
        if self.store().read()?.one::<CommandRecord>(Table::Commands, &key)?.is_some() {
            let id = &commands.command_id;
            return Err(NodeError::Exists(format!("command {id} was carried out before")));
        }
        for command in &commands.commands {
            let happening = match &command.command {
                Some(Kind::Create(create)) => {
                    Happening::Create(self.made(create, &acting, protocol_version)?.encode())
                }
                Some(Kind::Exercise(exercise)) => Happening::Archive(self.ended(exercise)?),
                None => return Err(NodeError::Unsupported("only create and Archive".to_owned())),
            };
            submission.nodes.push(Happens { happening: Some(happening) });
        }
        let bytes = submission.encode_to_vec();
        let signed = self.sign(&self.key_for(KeyUsage::Protocol)?, &submission_hash(&bytes))?;
        let signed = SignedSubmission {
            submission: bytes,
            signed_by: signed.signed_by,
            signature: signed.signature,
        };
        Ok((signed, key))
    }

    /// A new contract.
    fn made(
        &self,
        create: &CreateCommand,
        acting: &BTreeSet<Party>,
        protocol_version: u32,
    ) -> Result<FatContract, NodeError> {
        let missing = |what: &str| NodeError::Invalid(format!("a create command lacks {what}"));
        let id = create.template_id.as_ref().ok_or_else(|| missing("its template"))?;
        let record = create.create_arguments.as_ref().ok_or_else(|| missing("its arguments"))?;
        let (template, package_name) =
            self.template(&id.package_id, &id.module_name, &id.entity_name)?;
        let packages = self.packages();
        let create_arg = argument(&*packages, &template, record)?;
        let (mut discriminator, mut salt) = ([0; 32], [0; 32]);
        let no_randomness = |_| NodeError::Refused("there is no randomness".to_owned());
        aws_lc_rs::rand::fill(&mut discriminator).map_err(no_randomness)?;
        aws_lc_rs::rand::fill(&mut salt).map_err(no_randomness)?;
        let version = contract_id_version_max(protocol_version);
        // The suffix is computed from everything else; until then it is anything.
        let unknown = canton_hash(Purpose::Unicum, &[]);
        let now = CreatedAt::from_micros(now_micros());
        let mut contract = FatContract {
            version: SerializationVersion::V1,
            contract_id: ContractId::new(version, &discriminator, &unknown),
            package_name,
            template,
            create_arg,
            signatories: acting.clone(),
            observers: BTreeSet::new(),
            created_at: now.ok_or_else(|| NodeError::Refused("there is no time".to_owned()))?,
            salt: Salt::from_bytes(salt),
            key: None,
        };
        let named = parties_in(&contract);
        if let Some(party) = acting.difference(&named).next() {
            return Err(NodeError::Refused(format!(
                "{party} acts, and the argument of {} does not name it: without an engine, who \
                 acts is who signs",
                contract.template
            )));
        }
        contract.observers = named.difference(acting).cloned().collect();
        let id = recompute_as(&contract, version, &*packages);
        contract.contract_id = id.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        Ok(contract)
    }

    /// A contract that ends.
    fn ended(&self, exercise: &ExerciseCommand) -> Result<Archive, NodeError> {
        if exercise.choice != ARCHIVE {
            return Err(NodeError::Unsupported(format!(
                "this participant has no engine: of choices it knows {ARCHIVE} only"
            )));
        }
        let id: ContractId = exercise
            .contract_id
            .parse()
            .map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        let found = self.contract(&id)?.filter(|found| found.state == ContractState::Active);
        let missing = || NodeError::Missing(format!("contract {id} is not active"));
        let contract = FatContract::decode(&found.ok_or_else(missing)?.blob);
        let contract = contract.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
        Ok(Archive {
            contract_id: id.as_bytes().to_vec(),
            signatories: contract.signatories.iter().map(ToString::to_string).collect(),
            observers: contract.observers.iter().map(ToString::to_string).collect(),
        })
    }
}

fn check_sizes(commands: &Commands) -> Result<(), NodeError> {
    let invalid = |what: String| Err(NodeError::Invalid(what));
    if !(1..=COMMANDS_MAX).contains(&commands.commands.len()) {
        return invalid(format!("a submission has 1 to {COMMANDS_MAX} commands"));
    }
    if !(1..=ACT_AS_MAX).contains(&commands.act_as.len()) {
        return invalid(format!("a submission has 1 to {ACT_AS_MAX} acting parties"));
    }
    for (what, text) in [("command id", &commands.command_id), ("user id", &commands.user_id)] {
        if !(1..=LABEL_CHARACTERS_MAX).contains(&text.len()) {
            return invalid(format!("a {what} has 1 to {LABEL_CHARACTERS_MAX} characters"));
        }
    }
    Ok(())
}
