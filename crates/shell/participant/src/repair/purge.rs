//! Contracts away again: what undoes an import.

use heirloom_canton::contract_id::ContractId;

use crate::node::error::NodeError;
use crate::node::{LEDGER_END_KEY, Node};
use crate::record::{ContractRecord, ContractState};
use crate::repair::RepairError;
use crate::store::Table;

impl Node {
    /// Takes contracts out: all of them or none. The caller sees to it that nothing is connected.
    pub fn purge(
        &self,
        alias: &str,
        ids: &[String],
        ignores_purged: bool,
    ) -> Result<u64, NodeError> {
        let registered = self.synchronizer(alias)?;
        let unknown = || RepairError::UnknownSynchronizer(alias.to_owned());
        let synchronizer = registered.synchronizer().ok_or_else(unknown)?;
        let mut parsed = Vec::new();
        for id in ids {
            let id: Result<ContractId, _> = id.parse();
            parsed.push(id.map_err(|error| NodeError::Invalid(error.to_string()))?);
        }
        self.store().write::<_, NodeError>(|write| {
            let offset = write.one(Table::Meta, LEDGER_END_KEY)?.unwrap_or(0_u64) + 1;
            let mut purged = 0;
            for id in parsed {
                let found: Option<ContractRecord> = write.one(Table::Contracts, id.as_bytes())?;
                let active = found.filter(|found| {
                    found.state == ContractState::Active
                        && found.synchronizer == synchronizer.as_str()
                });
                match active {
                    Some(mut record) => {
                        record.state = ContractState::Purged { offset };
                        write.put(Table::Contracts, id.as_bytes(), &record)?;
                        purged += 1;
                    }
                    None if ignores_purged => {}
                    None => {
                        let (id, alias) = (id.to_string(), alias.to_owned());
                        return Err(RepairError::NotActive { id, alias }.into());
                    }
                }
            }
            if purged > 0 {
                write.put(Table::Meta, LEDGER_END_KEY, &offset)?;
            }
            Ok(purged)
        })
    }
}
