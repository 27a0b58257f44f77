//! Meta as the transcripts need it: one shard's record under compare-and-set.

use types::chain::{
    Chain, ChainLink, Claim, LedgerRecord, LedgerState, LinkEnd, LogKind, ShardChange,
    ShardCommand, ShardOutcome, ShardRecord, ShardView,
};
use types::{
    BookieId, Epoch, LedgerId, LogId, Offset, Quorum, Revision, SessionId, ShardId, TopicId,
};

/// The record, its version, and its open ledgers.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) view: ShardView,
}

impl Meta {
    pub(super) fn new(quorum: Quorum) -> Self {
        Self {
            view: ShardView {
                record: ShardRecord {
                    id: ShardId::new(1),
                    topic: TopicId::new(1),
                    quorum,
                    epoch: Epoch::new(1),
                    owner: None,
                    last_command: None,
                    message: Chain::empty(LogId::new(1)),
                    state: Chain::empty(LogId::new(2)),
                    is_deleted: false,
                },
                version: Revision::new(10),
                tails: Vec::new(),
            },
        }
    }

    pub(super) fn touch(&mut self) {
        self.view.version = self.view.version.next();
    }

    pub(super) fn depose(&mut self) {
        self.view.record.epoch = self.view.record.epoch.next();
        self.view.record.owner = Some(SessionId::new(99));
        self.view.record.last_command = None;
        self.touch();
    }

    pub(super) fn add_ledger(&mut self, log: LogKind, first: Offset, ensemble: Vec<BookieId>) {
        self.touch();
        let chain = self.view.record.chain_mut(log);
        let seq = chain.next_seq();
        chain.links.push(ChainLink {
            seq,
            first_offset: first,
            end: None,
        });
        let id = LedgerId::new(chain.log, seq);
        self.view.tails.push(LedgerRecord {
            id,
            created: self.view.version,
            ensemble,
            quorum: self.view.record.quorum,
            state: LedgerState::Open,
            verified: Vec::new(),
            moving: None,
        });
    }

    pub(super) fn close(&mut self, log: LogKind, end: LinkEnd) {
        let id = self
            .view
            .record
            .chain(log)
            .tail_id()
            .expect("an open ledger");
        self.view.tails.retain(|tail| tail.id != id);
        let link = self.view.record.chain_mut(log).links.last_mut().unwrap();
        link.end = Some(end);
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> ShardOutcome {
        if self.view.record.last_command != Some(claim.command) {
            self.touch();
            let record = &mut self.view.record;
            record.epoch = record.epoch.next();
            record.owner = Some(claim.session);
            record.last_command = Some(claim.command);
            for tail in &mut self.view.tails {
                tail.state = LedgerState::Recovering {
                    epoch: self.view.record.epoch,
                };
            }
        }
        ShardOutcome::Committed(self.view.clone())
    }

    pub(super) fn change(&mut self, command: &ShardCommand) -> ShardOutcome {
        if self.view.record.epoch != command.epoch || self.view.version != command.planned_on {
            return ShardOutcome::Conflict(self.view.clone());
        }
        self.touch();
        self.view.record.last_command = Some(command.command);
        match &command.change {
            ShardChange::CloseRecovered { message, state } => {
                for (log, end) in [(LogKind::Message, message), (LogKind::State, state)] {
                    if let Some(end) = end {
                        self.close(log, *end);
                    }
                }
            }
            ShardChange::Extend {
                log,
                close,
                successor,
            } => {
                if let Some(end) = close {
                    self.close(*log, *end);
                }
                if let Some(ensemble) = successor {
                    let first = self.view.record.chain(*log).next_offset();
                    self.add_ledger(*log, first.expect("closed"), ensemble.clone());
                }
            }
            ShardChange::Trim { log, first } => {
                let chain = self.view.record.chain_mut(*log);
                let dropped = chain.links.iter().filter(|link| link.seq < *first);
                let count = dropped.count();
                assert_eq!(chain.trim(count).len(), count, "only closed ledgers");
            }
            ShardChange::Release => self.view.record.owner = None,
        }
        ShardOutcome::Committed(self.view.clone())
    }
}
