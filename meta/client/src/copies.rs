//! What meta knows of the copies of ledgers, and asks of the bookies.

use proto::meta as wire;
use proto::meta::DueAsk;
use proto::meta_v1 as pb;
use types::chain::LedgerRecord;
use types::repair::RepairPlan;

use crate::{MetaClient, MetaError};

impl MetaClient {
    /// The copies of closed ledgers that a bookie is to make or to look at; one try.
    ///
    /// # Errors
    ///
    /// [`MetaError`]; ask again later.
    pub async fn due_copies(&self, ask: &DueAsk) -> Result<Vec<LedgerRecord>, MetaError> {
        let request = wire::due_ask_to_wire(self.caller(), ask);
        let (mut stub, turn) = self.stub();
        let answer = self.within(self.one_try(), stub.due_copies(request)).await;
        let answer = self.heard(turn, answer)?;
        wire::due_answer(answer).map_err(MetaError::Refused)
    }

    /// How the copies of all ledgers stand, as meta last looked at them; one try.
    ///
    /// # Errors
    ///
    /// [`MetaError`]; ask again later.
    pub async fn repair_plan(&self) -> Result<RepairPlan, MetaError> {
        let caller = Some(self.caller());
        let request = pb::RepairPlanRequest { caller };
        let (mut stub, turn) = self.stub();
        let answer = self.within(self.one_try(), stub.repair_plan(request)).await;
        let answer = self.heard(turn, answer)?;
        wire::plan(answer).map_err(MetaError::Refused)
    }
}
